"""A rehearsal of the checks of data quality over a simulated service, in a directory that is removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from segue.flows.rehearsal import Rehearsal, Rehearsed
from segue.settings import Settings
from segue.simulation import SimulationConfig
from segue.simulation.faults import Happening
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into


def growing_service(days: int, seed: int, listeners: int = 2_500) -> SimulationConfig:
    """A service of which a third joins during those days, with its weekly rhythm."""
    return SimulationConfig(
        tracks=4_000, artists=700, listeners=listeners, days=days, seed=seed, joining_share=1 / 3
    )


def rehearse(
    settings: Settings,
    size: SimulationConfig,
    happenings: Sequence[Happening],
    say: Callable[[str], None] = lambda what: None,
) -> Rehearsed:
    """Simulate, run the daily flow's checks, and let things happen."""
    with tempfile.TemporaryDirectory(prefix="segue-rehearsal-") as folder:
        home = Home(Path(folder), settings)
        simulate_into(home, size, lambda day: say(f"simulates {day}"))
        try:
            return Rehearsal(home.engine, home.settings, home, size.seed).run(happenings, say)
        finally:
            home.engine.close()
