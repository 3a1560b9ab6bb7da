"""An interleaving's file, run on simulated listeners: read as a real one is, with the truth beside."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from segue.contracts.experiments import CONTROL, Experiment
from segue.experiments.credited import Preferences, preferences
from segue.experiments.definition import check
from segue.experiments.store import Kept
from segue.simulation.effects import Effect, true_effects
from segue.wiring.closed_loop import Arm, Lived, live_many
from segue.wiring.home import Home
from segue.wiring.simulated_experiment import assigned, planned
from segue.wiring.simulated_home import as_of, check_free, lived_on, moved

__all__ = ["SimulatedInterleaving", "simulate_interleaving"]


class SimulatedInterleaving(msgspec.Struct, frozen=True):
    """What simulated listeners preferred, and by variant and metric what everybody treated differs from everybody in control."""

    experiment: str
    listeners: int
    days: int
    seed: int
    surfaces: tuple[str, ...]
    preferences: Preferences
    truth: dict[str, dict[str, Effect]]
    broken_guarantees: int
    seconds: float


def simulate_interleaving(
    home: Home,
    experiment: Experiment,
    *,
    listeners: int | None = None,
    days: int | None = None,
    seed: int = 1,
    workers: int | None = None,
    into: Path | None = None,
    say: Callable[[str], None] = lambda what: None,
) -> SimulatedInterleaving:
    """Run it; `into` keeps the home that has lived it. Raises InvalidInput for one that cannot be simulated, NotFound where
    the home has no simulated service, or nobody was shown its pages.
    """
    started = time.perf_counter()
    check(experiment, home.settings)
    if into is not None:
        check_free(home, into)
    plan = planned(home, experiment, listeners, days, seed)
    shared = [Arm(name, v.set, v.bundle, v.interleave) for name, v in experiment.variants.items()]
    arm = assigned(home, experiment, [one.name for one in shared])
    alone = [Arm(CONTROL), *(msgspec.structs.replace(one, interleave=None) for one in shared)]
    lives: list[Lived] = [(shared, arm, msgspec.structs.replace(plan, logs=True))]
    lives += [
        (alone, np.where(arm >= 0, np.int16(number), np.int16(-1)), plan) for number in range(len(alone))
    ]
    mixed, *worlds = live_many(
        home, lives, workers=workers, say=lambda done, of: say(f"{done} of {of} lives lived")
    )
    with tempfile.TemporaryDirectory(prefix="segue-lived-") as folder:
        copy = lived_on(home, into or Path(folder) / "home", experiment, mixed.logs, say)
        found = preferences(copy.engine, Kept(moved(experiment, mixed.logs)), plan.surfaces, as_of(copy))
        copy.engine.close()
    return SimulatedInterleaving(
        experiment=experiment.name,
        listeners=len(mixed.told.user),
        days=plan.days,
        seed=seed,
        surfaces=plan.surfaces,
        preferences=found,
        truth={
            one.name: true_effects(worlds[0].told, world.told)
            for one, world in zip(shared, worlds[1:], strict=True)
        },
        broken_guarantees=mixed.told.broken,
        seconds=time.perf_counter() - started,
    )
