"""A small music service, simulated, run through the whole flow and published once per test process."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import hypothesis
import pytest
from threadpoolctl import threadpool_limits

from segue.simulation import SimulationConfig
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

pytest_plugins = ["real_stores", "real_engines"]
# No test asserts a time: the first example may load a library, and the machine may be busy.
hypothesis.settings.register_profile("segue", deadline=None)
hypothesis.settings.load_profile("segue")

SMALL = SimulationConfig(tracks=500, artists=80, listeners=200, days=16, end=date(2026, 11, 21), seed=3)
SETTINGS = [
    "warehouse.threads=1",
    "training.threads=1",
    "training.factors=16",
    "training.epochs=4",
    "training.rankers.home.trees=20",
    "training.rankers.next-up.trees=20",
    "training.rankers.home.requests=150",
    "training.rankers.next-up.requests=150",
    "training.neighbours=50",
    "gate.max_requests=100",
    "serving.log_sample_share=1.0",
    # No test is about how busy the machine is.
    *(f"surfaces.{surface}.deadline_ms=60000" for surface in ("home", "station", "next-up", "related")),
]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As every process of Segue: one thread per matrix product."""
    threadpool_limits(limits=1)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a published bundle and filled listener state. Tests must not publish into it."""
    home = Home.open(tmp_path_factory.mktemp("service"), environ={}, overrides=SETTINGS)
    build(home)
    return home


def build(home: Home) -> None:
    """Simulate, run the tables, train, publish."""
    simulate_into(home, SMALL, lambda day: None)
    assert {progress.state for progress in runner_of(home).run()} == {"running", "done"}


def settings_for(root: Path) -> Home:
    """An empty home with the small settings."""
    return Home.open(root, environ={}, overrides=SETTINGS)
