"""What experiments are judged by, each metric defined once: sums of a source's columns, over warehouse tables, on every engine.

A source is rows of one kind (plays, slots that were shown, ...) with a moment, whose integer columns can be added up; its
expression is in `sources.py`. A metric is one such sum for each unit, or for each unit the ratio of two. To add one, write it
into METRICS. `docs/reference/metrics.md` is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from segue.contracts.experiments import Unit
from segue.contracts.vocabulary import DAY

PRE_DAYS: Final = 28
"""Days before a unit's first exposure of which its values reduce the noise of those after (CUPED)."""
NEW_ARTIST: Final = 90 * DAY
"""An artist is new for so long after joining."""
HEAD: Final = (4, 5)
"""The most listened artists that hold this share of the listens before the experiment; all others are small."""


@dataclass(frozen=True)
class Source:
    """Rows that are added up. Where they have no `request_id`, they are a listener's and no other unit's."""

    name: str
    doc: str
    columns: tuple[str, ...]
    of_requests: bool = False


@dataclass(frozen=True)
class Sum:
    """A column of a source, added up over a unit's rows, times `scale`."""

    source: Source
    column: str
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Its column in a unit table."""
        return f"{self.source.name}_{self.column}"


@dataclass(frozen=True)
class Definition:
    """A metric: a mean over units of `numerator`, or, with a `denominator`, the ratio of both sums.

    From a unit's first exposure on, for `window_days` at most. `direction` is which way is good.
    """

    name: str
    doc: str
    direction: Literal["up", "down"]
    numerator: Sum
    denominator: Sum | None = None
    window_days: int | None = None

    @property
    def sums(self) -> tuple[Sum, ...]:
        """What it adds up."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    def fits(self, unit: Unit) -> bool:
        """Whether units of that kind have it."""
        return unit == "listener" or all(part.source.of_requests for part in self.sums)


PLAYS: Final = Source("plays", "plays and skips of a listener, anywhere", ("plays", "listens", "skips", "ms"))
DAYS: Final = Source("days", "a listener's days with a play of 30 s or more", ("active",))
FIRSTS: Final = Source(
    "firsts",
    f"a listener's first play of an artist, since {PRE_DAYS} days before the experiment",
    ("artists",),
)
SLOTS: Final = Source(
    "slots",
    "slots that were shown on the experiment's surfaces, with what the listener did within 24 hours",
    ("shown", "played", "listened", "skipped", "liked", "hidden"),
    of_requests=True,
)
CREATORS: Final = Source(
    "creators", "the same slots, where the artist is known", ("shown", "small", "new"), of_requests=True
)
ANSWERS: Final = Source(
    "answers",
    "answers on the experiment's surfaces",
    ("answers", "us", "degraded", "failed"),
    of_requests=True,
)
SOURCES: Final = (PLAYS, DAYS, FIRSTS, SLOTS, CREATORS, ANSWERS)

METRICS: Final[dict[str, Definition]] = {
    metric.name: metric
    for metric in (
        Definition(
            "listens_per_listener", "Plays of 30 s or more, or to the end.", "up", Sum(PLAYS, "listens")
        ),
        Definition(
            "first_week_listens",
            "Plays of 30 s or more, or to the end, within 7 days of the first exposure.",
            "up",
            Sum(PLAYS, "listens"),
            window_days=7,
        ),
        Definition("minutes_per_listener", "Minutes listened.", "up", Sum(PLAYS, "ms", 1 / 60_000)),
        Definition("days_active", "Days with a play of 30 s or more.", "up", Sum(DAYS, "active")),
        Definition("discovery", "Artists played for the first time.", "up", Sum(FIRSTS, "artists")),
        Definition(
            "skip_rate",
            "Plays given up before 30 s, of all plays.",
            "down",
            Sum(PLAYS, "skips"),
            Sum(PLAYS, "plays"),
        ),
        Definition(
            "listens_per_exposure",
            "Slots listened to, of those shown.",
            "up",
            Sum(SLOTS, "listened"),
            Sum(SLOTS, "shown"),
        ),
        Definition(
            "likes_per_exposure",
            "Slots liked, of those shown.",
            "up",
            Sum(SLOTS, "liked"),
            Sum(SLOTS, "shown"),
        ),
        Definition(
            "hides_per_exposure",
            "Slots hidden for good, of those shown.",
            "down",
            Sum(SLOTS, "hidden"),
            Sum(SLOTS, "shown"),
        ),
        Definition(
            "skips_per_start",
            "Slots given up, of those started.",
            "down",
            Sum(SLOTS, "skipped"),
            Sum(SLOTS, "played"),
        ),
        Definition(
            "small_artist_share",
            "Slots given to artists outside those that held four fifths of the listens before.",
            "up",
            Sum(CREATORS, "small"),
            Sum(CREATORS, "shown"),
        ),
        Definition(
            "new_artist_share",
            "Slots given to artists who joined within the 90 days before.",
            "up",
            Sum(CREATORS, "new"),
            Sum(CREATORS, "shown"),
        ),
        Definition(
            "latency_ms",
            "Milliseconds to make an answer, on the server.",
            "down",
            Sum(ANSWERS, "us", 1 / 1_000),
            Sum(ANSWERS, "answers"),
        ),
        Definition(
            "degraded_rate",
            "Answers from which a stage left something out.",
            "down",
            Sum(ANSWERS, "degraded"),
            Sum(ANSWERS, "answers"),
        ),
        Definition(
            "failed_rate",
            "Answers whose variant raised an error or could not be given: the champion answered instead.",
            "down",
            Sum(ANSWERS, "failed"),
            Sum(ANSWERS, "answers"),
        ),
    )
}
"""By name. What no exposure is logged of cannot be here: where the champion itself fails, as it does for every variant alike, the
request ends in an error, which is in the server's metrics only."""

CREDITED: Final[dict[str, str]] = {
    metric.name: metric.numerator.column
    for metric in METRICS.values()
    if metric.denominator == Sum(SLOTS, "shown") and metric.direction == "up"
}
"""What the slots of interleaved pages may be credited with: metrics by name, and their column of outcomes."""


def of_unit(unit: Unit) -> dict[str, Definition]:
    """The metrics that units of that kind have."""
    return {name: metric for name, metric in METRICS.items() if metric.fits(unit)}
