"""A small music service: what it is made of, and how."""

from __future__ import annotations

from datetime import date

from segue.simulation import SimulationConfig
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

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


def build(home: Home) -> None:
    """Simulate, run the tables, train, publish."""
    simulate_into(home, SMALL, lambda day: None)
    assert {progress.state for progress in runner_of(home).run()} == {"running", "done"}
