"""A generator of a whole music service's history, with the truth it came from.

`generate_catalogue(config)` makes music and listeners, `simulate_days(config, catalogue)` their events day by day.
"""

from __future__ import annotations

from segue.simulation.catalogue import Catalogue, generate_catalogue
from segue.simulation.config import SimulationConfig
from segue.simulation.history import DayOfEvents, Policy, simulate_days
from segue.simulation.truth import Truth, read_truth, truth_relevance

__all__ = [
    "Catalogue",
    "DayOfEvents",
    "Policy",
    "SimulationConfig",
    "Truth",
    "generate_catalogue",
    "read_truth",
    "simulate_days",
    "truth_relevance",
]
