"""Which log events and exposures go through. A client is imported where its log is chosen: they are extras."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from segue.contracts.errors import InvalidSettings
from segue.contracts.ports import Log
from segue.settings.tree import Log as LogSettings

if TYPE_CHECKING:
    from types import ModuleType


def open_log(root: Path, settings: LogSettings) -> Log:
    """The log `log.kind` names; the embedded one lives under `root`. Open one per process.

    Raises InvalidSettings where an address is missing or the log's extra is not installed.
    """
    log: Log
    if settings.kind == "kafka":
        log = _adapter("kafka").KafkaLog(settings)
    elif settings.kind == "pubsub":
        log = _adapter("pubsub").PubSubLog(settings)
    else:
        log = _adapter("files").FileLog(root / "log")
    return log


def _adapter(kind: str) -> ModuleType:
    try:
        return import_module(f"segue.adapters.log.{kind}")
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"log.kind: {kind} needs the package {error.name}; install it with `pip install 'segue[{kind}]'`",
            field="log.kind",
        ) from error
