"""A home directory and everything that lives in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from segue.bundle import BundleStore
from segue.contracts.ports import Engine, Factorizer, Log
from segue.settings import Settings, load_settings

if TYPE_CHECKING:
    from segue.experiments.store import ExperimentStore
    from segue.flows.verdicts import Comparison
    from segue.listener.states import ListenerStates


@dataclass(frozen=True)
class Home:
    """`root/warehouse`, `root/bundles`, `root/experiments`, `root/log`, `root/state`, `root/truth`; `root/following` while a
    server runs.

    An adapter is imported and opened on first use.
    """

    root: Path
    settings: Settings

    @classmethod
    def open(
        cls, root: Path, *, config: Path | None = None, environ: dict[str, str], overrides: Sequence[str] = ()
    ) -> Home:
        """A home with its settings. Raises InvalidSettings."""
        root.mkdir(parents=True, exist_ok=True)
        return cls(root, load_settings(root, config=config, environ=environ, overrides=overrides))

    @property
    def warehouse(self) -> Path:
        """Where tables are that live in files."""
        return self.root / "warehouse"

    @cached_property
    def engine(self) -> Engine:
        """The warehouse."""
        from segue.wiring.engines import open_engine

        return open_engine(self.warehouse, self.settings.warehouse)

    @cached_property
    def state(self) -> ListenerStates:
        """Listener state."""
        from segue.listener.states import ListenerStates
        from segue.wiring.stores import open_store

        return ListenerStates(open_store(self.root, self.settings.state), self.settings.state)

    @cached_property
    def factorizer(self) -> Factorizer | None:
        """What fits iALS; None for the process that trains."""
        from segue.wiring.engines import open_factorizer

        return open_factorizer(self.warehouse, self.settings)

    @cached_property
    def log(self) -> Log:
        """The event and exposure logs."""
        from segue.wiring.logs import open_log

        return open_log(self.root, self.settings.log)

    @cached_property
    def bundles(self) -> BundleStore:
        """Published models."""
        return BundleStore(self.root / "bundles", lambda: self.experiments.bundles(datetime.now(UTC).date()))

    @cached_property
    def experiments(self) -> ExperimentStore:
        """Experiments."""
        from segue.experiments.store import ExperimentStore

        return ExperimentStore(self.root / "experiments", self.settings, self.bundles)

    @property
    def truth(self) -> Path:
        """True preferences of a simulated service, apart from everything a model may read."""
        return self.root / "truth"

    def evidence(self, challenger: str, rungs: Sequence[str], say: Callable[[str], None]) -> list[Comparison]:
        """What rungs of evidence say of a bundle's home page against the champion's."""
        from segue.wiring.evidence import compared

        return compared(self, challenger, rungs, say)
