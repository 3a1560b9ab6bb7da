"""Which variants a request gets: the experiments that run on its surface, asked one layer after another.

A layer costs one hash, whatever experiments are in it, and one more for a unit that is in one of them. Listener state is read
only where an experiment asks who the listener is, and then the answer is made from what was read.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property

import msgspec

from segue.bundle.catalogue import Catalogue
from segue.contracts.errors import InvalidInput, Unavailable
from segue.contracts.experiments import FORCED, HOLDOUT, OF_UNIT, Experiment, Targeting, Unit
from segue.contracts.ids import format_id, new_id
from segue.experiments.assignment import Split, place, slot
from segue.experiments.definition import surfaces_of
from segue.listener.state import ListenerState
from segue.recommend.api import Request
from segue.recommend.pipeline import ReadState
from segue.settings.tree import Settings

_TOLD: frozenset[Unit] = frozenset(("listener", "request", "switchback"))
"""Units that a row of the exposure log tells."""


@dataclass(frozen=True)
class Trial:
    """An experiment, ready to be asked: `begins` and `ends` in UTC microseconds."""

    experiment: Experiment
    split: Split
    surfaces: frozenset[str]
    begins: int
    ends: int

    @property
    def name(self) -> str:
        """The experiment's."""
        return self.experiment.name


@dataclass(frozen=True)
class Given:
    """What a request gets: `variants` as they are logged, and those of them that change something, as (experiment, variant)."""

    variants: dict[str, str] = field(default_factory=dict)
    treatments: tuple[tuple[str, str], ...] = ()
    request_id: bytes | None = None
    read_state: ReadState | None = None


class Asked:
    """What experiments ask about one request, found out once and only if it is asked."""

    def __init__(self, request: Request, catalogue: Catalogue, read_state: ReadState) -> None:
        self.now = request.now if request.now is not None else time.time_ns() // 1000
        # Of this moment the answer is, too: what is logged must be of the time slot that was asked for.
        self.request = msgspec.structs.replace(request, now=self.now)
        self.read: ReadState | None = None
        self._catalogue = catalogue
        self._read_state = read_state

    @cached_property
    def request_id(self) -> bytes:
        """The id that the answer will have."""
        return new_id()

    @cached_property
    def state(self) -> ListenerState | None:
        """The listener, as the answer will see them; None for a stranger, and where state cannot be read."""
        user = self.request.user_id
        try:
            found = None if user is None else self._read_state(user)
        except Unavailable:
            return None
        self.read = lambda _: found
        return found

    def unit(self, trial: Trial) -> str | None:
        """The request's unit of that kind, as it is hashed; None where it has none."""
        request, kind = self.request, trial.experiment.unit
        match kind:
            case "listener":
                return None if request.user_id is None else str(request.user_id)
            case "session":
                known = request.user_id is not None and request.session_id is not None
                return f"{request.user_id}:{request.session_id}" if known else None
            case "request":
                return format_id(self.request_id)
            case "artist":
                return None if self._artist is None else str(self._artist)
            case "switchback":
                return str(slot(self.now, trial.experiment.slot_minutes or 1))

    def fits(self, targeting: Targeting) -> bool:
        """Whether all that is asked of who the listener is holds."""
        if targeting == _EVERYBODY:
            return True
        state = self.state
        country = (state.country if state else None) or self.request.country
        return (
            (not targeting.countries or country in targeting.countries)
            and (not targeting.plans or (state is not None and state.plan in targeting.plans))
            and (targeting.consent is None or (state is not None and state.consent == targeting.consent))
        )

    @cached_property
    def _artist(self) -> int | None:
        request, catalogue = self.request, self._catalogue
        if request.artist_id is not None or request.track_id is None:
            return request.artist_id
        at = int(catalogue.positions([request.track_id])[0])
        artist = int(catalogue.artist[at]) if at >= 0 else -1
        return int(catalogue.artist_id[artist]) if artist >= 0 else None


_EVERYBODY = Targeting()


class Trials:
    """The experiments that may run, by surface and layer. Nothing is written after construction."""

    def __init__(self, experiments: Iterable[Experiment], settings: Settings) -> None:
        every = [_trial(experiment, settings) for experiment in experiments]
        self.by_name: Mapping[str, Trial] = {trial.name: trial for trial in every}
        self._holdouts = tuple(_Layer([trial]) for trial in every if trial.experiment.layer == HOLDOUT)
        self._layers: dict[str, tuple[_Layer, ...]] = {}
        for surface in settings.surfaces:
            layers: dict[tuple[str, Unit, int | None], list[Trial]] = {}
            for trial in every:
                if surface in trial.surfaces:
                    one = trial.experiment
                    # Why also the unit: behind an experiment that is over, its layer may get units of another kind.
                    layers.setdefault((one.layer, one.unit, one.slot_minutes), []).append(trial)
            if layers:
                self._layers[surface] = tuple(map(_Layer, layers.values()))

    def concern(self, request: Request) -> bool:
        """Whether any experiment has to be asked."""
        return request.surface in self._layers or bool(request.variants)

    def given(self, asked: Asked) -> Given:
        """The variants of a request. Raises InvalidInput for one that is asked for and is not there."""
        found: dict[str, str] = {}
        chosen: dict[str, str] = {}
        forced = self._forced(asked.request.variants or {})
        held_out = any(holdout.variant(asked) for holdout in self._holdouts)
        for layer in self._layers.get(asked.request.surface, ()):
            if layer.name in forced or (held_out and layer.name != HOLDOUT):
                continue
            drawn = layer.variant(asked)
            if drawn is not None:
                trial, unit, variant = drawn
                chosen[trial.name] = variant
                told = trial.experiment.unit in _TOLD
                found[trial.name] = variant if told else f"{variant}{OF_UNIT}{unit}"
        for trial, variant in forced.values():
            chosen[trial.name], found[trial.name] = variant, f"{FORCED}{variant}"
        treatments = tuple(
            (name, variant)
            for name, variant in sorted(chosen.items())
            if self.by_name[name].experiment.variants[variant].changes
        )
        return Given(found, treatments, asked.__dict__.get("request_id"), asked.read)

    def _forced(self, wanted: Mapping[str, str]) -> dict[str, tuple[Trial, str]]:
        """What is asked for, by layer: there the request is in nothing else. Raises InvalidInput."""
        found: dict[str, tuple[Trial, str]] = {}
        for name, variant in wanted.items():
            trial = self.by_name.get(name)
            if trial is None:
                known = ", ".join(self.by_name) or "none"
                raise InvalidInput(
                    f"variants: there is no experiment {name!r}; there are: {known}", field="variants"
                )
            if variant not in trial.experiment.variants:
                known = ", ".join(trial.split.names)
                raise InvalidInput(
                    f"variants: {name} has no variant {variant!r}; it has {known}", field="variants"
                )
            other, _ = found.setdefault(trial.experiment.layer, (trial, variant))
            if other is not trial:
                raise InvalidInput(
                    f"variants: {other.name} and {name} are of one layer, ask for one of them",
                    field="variants",
                )
        return found


class _Layer:
    """The experiments of a layer on a surface, found by a unit's place however many they are."""

    def __init__(self, trials: list[Trial]) -> None:
        self.name = trials[0].experiment.layer
        self._first = trials[0]
        edges = {edge for trial in trials for edge in (trial.split.places.start, trial.split.places.stop)}
        self._edges = sorted(edges)
        self._between: list[list[Trial]] = [[] for _ in range(len(edges) + 1)]
        """Who has the places before each edge, and behind the last: several, one after another in time."""
        for trial in trials:
            first, last = (
                bisect_right(self._edges, at) for at in (trial.split.places[0], trial.split.places[-1])
            )
            for held in self._between[first : last + 1]:
                held.append(trial)

    def variant(self, asked: Asked) -> tuple[Trial, str, str] | None:
        """The experiment that the request is in, its unit, and the unit's variant."""
        unit = asked.unit(self._first)
        if unit is None:
            return None
        for trial in self._between[bisect_right(self._edges, place(self.name, unit))]:
            if trial.begins <= asked.now < trial.ends:
                fits = asked.fits(trial.experiment.targeting)
                return (trial, unit, trial.split.drawn(unit)) if fits else None
        return None


def _trial(experiment: Experiment, settings: Settings) -> Trial:
    surfaces = frozenset(surfaces_of(experiment, settings))
    begins, ends = (_micros(day) for day in (experiment.starts, experiment.ends))
    return Trial(experiment, Split.of(experiment), surfaces, begins, ends)


def _micros(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
