"""Experiments for the tests of this folder."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from segue.contracts.experiments import Experiment, Metrics, Variant

DIVERSE = {"surfaces.home.selector.diversity": 0.5}


def experiment(name: str = "diverse", **known: Any) -> Experiment:
    """Half of the layer `home`, in November."""
    made = Experiment(
        name=name,
        layer="home",
        starts=date(2026, 11, 1),
        ends=date(2026, 11, 15),
        variants={"control": Variant(), "treatment": Variant(set=DIVERSE)},
        share=0.5,
        metrics=Metrics(goals=("listens_per_exposure",)),
    )
    return msgspec.structs.replace(made, **known)
