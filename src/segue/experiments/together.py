"""Experiments that run at the same time: who would share units, or change the same thing.

What two may clash over is known beforehand (a layer, a salt, a setting, ...): each is held only against those that have one of
these in common with it, so that a thousand experiments take as many steps and not their square or cube.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from itertools import accumulate

from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import HOLDOUT, Experiment
from segue.experiments.assignment import salt_of, slice_of
from segue.experiments.definition import bundles_of, keyed_surfaces, keys_of

__all__ = ["Together", "check_together", "clash"]


class Together:
    """Experiments that may run beside one another, as far as they were added."""

    def __init__(self, experiments: Iterable[Experiment] = ()) -> None:
        self._having: defaultdict[Hashable, list[Experiment]] = defaultdict(list)
        for one in experiments:
            self._enter(one)

    def add(self, experiment: Experiment) -> None:
        """Raise InvalidInput for one that runs at the same time as another that is here and would share units of its layer, or
        change what the other changes; then it is not added."""
        met = {one.name: one for thing in _sought(experiment) for one in self._having.get(thing, ())}
        for one in met.values():
            if one.starts < experiment.ends and experiment.starts < one.ends:
                fault = clash(one, experiment)
                if fault is not None:
                    raise InvalidInput(
                        f"experiments {one.name} and {experiment.name}: {fault}",
                        field="layer",
                        limit=one.layer,
                    )
        self._enter(experiment)

    def _enter(self, experiment: Experiment) -> None:
        for thing in _had(experiment):
            self._having[thing].append(experiment)


def check_together(experiments: Iterable[Experiment]) -> None:
    """Raise InvalidInput for the first that may not run beside those before it."""
    together = Together()
    for experiment in experiments:
        together.add(experiment)


def _had(experiment: Experiment) -> Iterator[Hashable]:
    """What others may clash with it over."""
    yield from _common(experiment)
    for key in keys_of(experiment):
        yield "key", key
        for section in _sections(key):
            yield "below", section


def _sought(experiment: Experiment) -> Iterator[Hashable]:
    """What those have that it may clash with."""
    yield from _common(experiment)
    for key in keys_of(experiment):
        yield "below", key
        for section in _sections(key):
            yield "key", section


def _common(experiment: Experiment) -> Iterator[Hashable]:
    yield "layer", experiment.layer
    yield "salt", salt_of(experiment)
    if experiment.interleaved:
        yield "interleaved"
    if bundles_of(experiment):
        yield "bundle"


def _sections(key: str) -> list[str]:
    """The key and all sections that it is in: a.b.c, a, a.b."""
    return list(accumulate(key.split("."), lambda above, part: f"{above}.{part}"))


def clash(one: Experiment, other: Experiment) -> str | None:
    """Why two may not run at the same time, or None."""
    if one.layer == other.layer:
        if (one.unit, one.slot_minutes) != (other.unit, other.slot_minutes):
            return f"both are in layer {one.layer}, whose units must be of one kind, not {_kind(one)} and {_kind(other)}"
        a, b = slice_of(one), slice_of(other)
        if a.start < b.stop and b.start < a.stop:
            return (
                f"their slices of layer {one.layer} overlap: {_slice(one)} and {_slice(other)}; "
                "move an offset, lower a share, or use another layer"
            )
        return None
    if HOLDOUT in (one.layer, other.layer):
        return None
    if salt_of(one) == salt_of(other):
        return (
            f"both draw variants by the salt {salt_of(one)!r}: who is treated in one is treated in the other, and what either "
            "does cannot be told; give one another salt"
        )
    for key in sorted(keys_of(one)):
        for theirs in sorted(keys_of(other)):
            if f"{key}.".startswith(f"{theirs}.") or f"{theirs}.".startswith(f"{key}."):
                return f"both change {max(key, theirs, key=len)}, and their layers share units; put them into one layer"
    if one.interleaved and other.interleaved and _may_meet(one, other):
        return "both interleave pages of one surface, and their layers share units; put them into one layer"
    if bundles_of(one) and bundles_of(other):
        return "both choose a bundle, and their layers share units; put them into one layer"
    return None


def _may_meet(one: Experiment, other: Experiment) -> bool:
    """Whether there may be a surface that both are on; another bundle is on all, unless surfaces are named."""
    of = [
        set(found.surfaces or (() if bundles_of(found) else keyed_surfaces(found))) for found in (one, other)
    ]
    return not all(of) or bool(of[0] & of[1])


def _kind(experiment: Experiment) -> str:
    return (
        experiment.unit if experiment.slot_minutes is None else f"slots of {experiment.slot_minutes} minutes"
    )


def _slice(experiment: Experiment) -> str:
    return f"{experiment.offset:g} to {experiment.offset + experiment.share:g}"
