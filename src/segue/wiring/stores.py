"""Which store listener state lives in. A store's client is imported where the store is chosen: most are extras."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from segue.contracts.errors import InvalidSettings
from segue.contracts.ports import StateStore
from segue.listener.codec import longest_record
from segue.settings.tree import State

if TYPE_CHECKING:
    from types import ModuleType


def open_store(root: Path, settings: State) -> StateStore:
    """The store `state.kind` names; the embedded one lives under `root`. Open one per process.

    Raises InvalidSettings where an address is missing or the store's extra is not installed.
    """
    store: StateStore
    if settings.kind == "redis":
        store = _adapter("redis").RedisState(settings)
    elif settings.kind == "bigtable":
        store = _adapter("bigtable").BigtableState(settings)
    elif settings.kind == "dynamodb":
        store = _adapter("dynamodb").DynamoDBState(settings, longest_record(settings))
    else:
        store = _adapter("lmdb").LMDBState(root / "state", settings)
    return store


def _adapter(kind: str) -> ModuleType:
    try:
        return import_module(f"segue.adapters.state.{kind}")
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"state.kind: {kind} needs the package {error.name}; install it with `pip install 'segue[{kind}]'`",
            field="state.kind",
        ) from error
