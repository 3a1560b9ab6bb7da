"""A home directory and everything that lives in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileLog
from segue.bundle import BundleStore
from segue.contracts.ports import Engine, Log
from segue.listener.states import ListenerStates
from segue.settings import Settings, load_settings
from segue.wiring.stores import open_store


@dataclass(frozen=True)
class Home:
    """`root/warehouse`, `root/bundles`, `root/log`, `root/state`, `root/truth`; adapters open on first use."""

    root: Path
    settings: Settings

    @classmethod
    def open(
        cls, root: Path, *, config: Path | None = None, environ: dict[str, str], overrides: Sequence[str] = ()
    ) -> Home:
        """A home with its settings. Raises InvalidSettings."""
        root.mkdir(parents=True, exist_ok=True)
        return cls(root, load_settings(root, config=config, environ=environ, overrides=overrides))

    @cached_property
    def engine(self) -> Engine:
        """The warehouse."""
        return DuckDBDelta(self.root / "warehouse", self.settings.warehouse)

    @cached_property
    def state(self) -> ListenerStates:
        """Listener state."""
        return ListenerStates(open_store(self.root, self.settings.state), self.settings.state)

    @cached_property
    def log(self) -> Log:
        """The event and exposure logs."""
        return FileLog(self.root / "log")

    @cached_property
    def bundles(self) -> BundleStore:
        """Published models."""
        return BundleStore(self.root / "bundles")

    @property
    def truth(self) -> Path:
        """True preferences of a simulated service, apart from everything a model may read."""
        return self.root / "truth"
