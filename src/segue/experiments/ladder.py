"""The ladder of evidence: what each rung predicts of a challenger, how often it was right before, and what follows from both.

A rung measures what it can see: a page held against what was played later, a log that another policy wrote, simulated listeners.
None of these is the effect on real listeners. How far one may be believed is a matter of record: known challengers, better and
worse, are put to every rung and to a whole simulated service, which has the truth (`make bench-evidence`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Final, Literal

import msgspec
import numpy as np
from scipy.stats import spearmanr

__all__ = [
    "AB",
    "FILE",
    "GOAL",
    "INTERLEAVING",
    "OFFLINE",
    "OFF_POLICY",
    "RUNGS",
    "SIMULATION",
    "TODAY",
    "Advice",
    "Calibration",
    "Known",
    "Prediction",
    "Record",
    "Silent",
    "Truth",
    "advise",
    "calibration",
    "direction",
    "past_records",
    "records",
]

OFFLINE: Final = "offline"
OFF_POLICY: Final = "off-policy"
SIMULATION: Final = "simulation"
INTERLEAVING: Final = "interleaving"
AB: Final = "a/b"
RUNGS: Final = (OFFLINE, OFF_POLICY, SIMULATION, INTERLEAVING)
"""From the cheapest up; an A/B test with real listeners stands above them."""
ENOUGH: Final = 5
"""Known challengers on which a rung must have been sure before its word counts."""
RELIABLE: Final = 0.8
"""Share of them on which it must have been right."""
FILE: Final = "known.json"
GOAL: Final = "listens_per_listener"
TODAY: Final = "today"
"""The champion of a known challenger, unless it names another: the home page as it is."""

Interval = tuple[float, float]
Direction = Literal["better", "worse", "unclear"]


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a rung expects of a challenger.

    metric: what it measures, and in what; relative: the difference as a share of the champion's level; beside: other metrics'
    relative effects and intervals.
    """

    rung: str
    metric: str
    champion: float
    challenger: float
    relative: float
    ci95: Interval
    basis: str
    """What it is made from, in words."""
    seconds: float
    beside: dict[str, tuple[float, float, float]] = {}

    @property
    def direction(self) -> Direction:
        """What its interval says."""
        return direction(self.ci95)


class Silent(msgspec.Struct, frozen=True):
    """A rung that cannot say anything, and why."""

    rung: str
    why: str


class Truth(msgspec.Struct, frozen=True):
    """A relative effect and its standard error, from everybody living under either arm."""

    relative: float
    error: float

    @property
    def clear(self) -> bool:
        """Whether its sign is beyond doubt."""
        return abs(self.relative) > 2 * self.error


class Known(msgspec.Struct, frozen=True):
    """A challenger whose effect is known, and what each rung said of it without knowing.

    truth: by metric; coverage: share of A/B tests, each with its own assignment, whose interval held the truth; champion: what it
    was held against, TODAY or the name of another known challenger.
    """

    name: str
    change: str
    truth: dict[str, Truth]
    predictions: dict[str, Prediction] = {}
    silent: dict[str, str] = {}
    coverage: float | None = None
    champion: str = TODAY


class Record(msgspec.Struct, frozen=True):
    """How a rung did on known challengers.

    known: challengers it spoke of; signs: of those with a clear effect, how many it gave the right sign, whatever its interval;
    worse, better: of all that it was sure are so, its interval leaving out 0, how many were by the best estimate of the truth;
    rank: Spearman's correlation of its order with the true one; covered: how often its interval held the truth, where it
    measures the same thing.
    """

    known: int
    signs: tuple[int, int]
    worse: tuple[int, int]
    better: tuple[int, int]
    rank: float | None
    covered: tuple[int, int] | None = None

    def trusted(self, said: Direction) -> bool:
        """Whether its word counts when it is sure of that direction: harm may be easier to see than gain."""
        right, of = self.better if said == "better" else self.worse
        return said != "unclear" and of >= ENOUGH and right >= RELIABLE * of


class Calibration(msgspec.Struct, frozen=True):
    """Known challengers and the service they were tried in."""

    date: str
    machine: str
    service: str
    seconds: float
    known: list[Known]


class Advice(msgspec.Struct, frozen=True):
    """What to do with a challenger, and why."""

    verdict: Literal["ship to A/B", "stop", "not enough evidence"]
    reasons: list[str]


def direction(ci95: Interval) -> Direction:
    """Of an effect whose interval this is."""
    return "better" if ci95[0] > 0 else "worse" if ci95[1] < 0 else "unclear"


def records(known: Sequence[Known], metric: str = GOAL) -> dict[str, Record]:
    """The record of every rung, against the true effect on a metric."""
    found = {}
    for rung in (*RUNGS, AB):
        pairs = [(one.truth[metric], one.predictions[rung]) for one in known if rung in one.predictions]
        if pairs:
            found[rung] = _record(pairs, metric)
    return found


def past_records() -> dict[str, Record]:
    """The records that came with this version: `make bench-evidence` writes them."""
    return records(calibration().known)


def calibration() -> Calibration:
    """The known challengers that came with this version."""
    return msgspec.json.decode(files("segue.experiments").joinpath(FILE).read_bytes(), type=Calibration)


def advise(
    predictions: Iterable[Prediction], silent: Iterable[Silent], record: Mapping[str, Record]
) -> Advice:
    """What follows. A rung counts if it is sure now and, when it was sure of the same direction before, was right often enough.

    One that counts and says worse stops the challenger unless another that counts says better: then they contradict each other.
    """
    counted: dict[Direction, list[str]] = {"better": [], "worse": [], "unclear": []}
    reasons = []
    for said in predictions:
        past = record.get(said.rung)
        reasons.append(f"{said.rung}: {_words(said)}; {_believed(past, said.direction)}")
        if past is not None and past.trusted(said.direction):
            counted[said.direction].append(said.rung)
    reasons += [f"{one.rung}: silent: {one.why}" for one in silent]
    better, worse = counted["better"], counted["worse"]
    if worse and not better:
        return Advice(
            "stop", [f"{_all(worse, 'expect')} harm and nothing that counts speaks for it", *reasons]
        )
    if better and not worse:
        return Advice(
            "ship to A/B",
            [f"{_all(better, 'expect')} a gain and nothing that counts speaks against it", *reasons],
        )
    if better and worse:
        return Advice(
            "not enough evidence",
            [f"{_all(better, 'expect')} a gain, {_all(worse, 'expect')} harm", *reasons],
        )
    return Advice(
        "not enough evidence", ["no rung that was right often enough before is sure of a direction", *reasons]
    )


def _record(pairs: Sequence[tuple[Truth, Prediction]], metric: str) -> Record:
    right = [(truth.relative > 0) == (said.relative > 0) for truth, said in pairs]
    clear = [n for n, (truth, _) in enumerate(pairs) if truth.clear]
    # All that it was sure of: to leave out those of no clear effect would forgive it being sure of nothing.
    called = {
        way: [ok for ok, (_, said) in zip(right, pairs, strict=True) if said.direction == way]
        for way in ("worse", "better")
    }
    same = [(truth, said) for truth, said in pairs if said.metric == metric]
    held = [said.ci95[0] <= truth.relative <= said.ci95[1] for truth, said in same]
    order = None
    if len(pairs) > 2:
        found = spearmanr([t.relative for t, _ in pairs], [s.relative for _, s in pairs]).statistic
        order = None if np.isnan(found) else round(float(found), 3)
    return Record(
        known=len(pairs),
        signs=(sum(right[n] for n in clear), len(clear)),
        worse=(sum(called["worse"]), len(called["worse"])),
        better=(sum(called["better"]), len(called["better"])),
        rank=order,
        covered=(sum(held), len(held)) if held else None,
    )


def _words(said: Prediction) -> str:
    low, high = said.ci95
    return f"{said.direction}, {said.metric} {said.relative:+.1%} [{low:+.1%}, {high:+.1%}]"


def _believed(past: Record | None, said: Direction) -> str:
    if past is None:
        return "it has no record, so it does not count"
    of_harm, of_gain = (f"{right} of {of}" for right, of in (past.worse, past.better))
    if said == "unclear":
        return (
            f"not sure now; of known challengers that it was sure were worse {of_harm} were, better {of_gain}"
        )
    history = (
        f"of known challengers that it was sure were {said}, {of_gain if said == 'better' else of_harm} were"
    )
    if past.trusted(said):
        return history
    _, of = past.better if said == "better" else past.worse
    return f"{history}: too few to count" if of < ENOUGH else f"{history}: not often enough to count"


def _all(rungs: Sequence[str], do: str) -> str:
    """Who does what: `interleaving expects`, `offline and interleaving expect`."""
    return f"{' and '.join(rungs)} {do}{'s' if len(rungs) == 1 else ''}"
