"""What an experiment is, as its file says it: who is in it, what its variants change, and what decides it.

Shares are of a layer: experiments of one layer never share a unit, and layers are independent of one another. See
docs/concepts/assignment.md for the one algorithm, and `segue.experiments.definition` for what is checked.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

CONTROL: Final = "control"
"""The variant that every other is held against."""
HOLDOUT: Final = "holdout"
"""The layer whose experiments keep their listeners out of every other experiment."""
FORCED: Final = "forced:"
"""Before a variant in the log that somebody asked for: it counts for nothing."""
FAILED: Final = "failed:"
"""Before a variant in the log that could not be given, so that the unit was treated as control."""
OF_UNIT: Final = "@"
"""Behind a variant in the log, before the unit, where the row does not tell it: `treatment@17:3`."""

NAME: Final = r"^[a-z0-9][a-z0-9-]{0,59}(?!\n)$"  # a $ alone would let a newline pass
Name = Annotated[str, Meta(pattern=NAME)]
Unit = Literal["listener", "session", "request", "artist", "switchback"]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$")]
Interleave = Literal["team-draft", "competing-pairs"]
Words = Annotated[str, Meta(max_length=4_000)]


class Targeting(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who may be in it; all that is given must hold. A listener's country is that of their profile, else the request's."""

    countries: tuple[Country, ...] = ()
    plans: tuple[str, ...] = ()
    consent: bool | None = None


class Variant(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What some of the units get: `set` changes settings of surfaces, by dotted key; `bundle` answers from another bundle.

    With `interleave` its units get pages of both: of what everybody gets, and of what it changes.
    """

    weight: Annotated[
        float, Meta(gt=0, le=1_000_000, description="chance relative to the other variants")
    ] = 1.0
    bundle: Annotated[str | None, Meta(description="a version, as `segue bundle list` prints it")] = None
    set: Annotated[
        dict[str, Any],
        Meta(description="settings of surfaces, such as {'surfaces.home.selector.diversity': 0.5}"),
    ] = {}
    interleave: Annotated[
        Interleave | None,
        Meta(description="share each page between what everybody gets and this variant, drawn in this way"),
    ] = None

    @property
    def changes(self) -> bool:
        """Whether it differs from what everybody gets."""
        return bool(self.set) or self.bundle is not None


class Metrics(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What decides: goals, and guardrails with the relative loss that would still be accepted. docs/reference/metrics.md has the
    names."""

    goals: tuple[str, ...] = ()
    guardrails: dict[str, Annotated[float, Meta(gt=0, le=1)]] = {}


class Power(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How sure it must be: the relative effect worth finding, the chance of a false alarm, and of finding it."""

    mde: Annotated[float, Meta(gt=0, le=10)] | None = None
    alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Meta(gt=0.5, lt=1)] = 0.8


class Experiment(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An experiment. It runs from 00:00 UTC of `starts` up to 00:00 UTC of `ends`, a day that is not in it."""

    name: Name
    layer: Name
    starts: date
    ends: date
    variants: dict[Name, Variant]
    description: Words = ""
    hypothesis: Words = ""
    owner: Annotated[str, Meta(max_length=200)] = ""
    unit: Unit = "listener"
    slot_minutes: Annotated[
        Annotated[int, Meta(ge=1, le=20_160)] | None,
        Meta(description="length of a time slot of a switchback"),
    ] = None
    share: Annotated[
        float,
        Meta(gt=0, le=1, description="share of the layer's units that are in it; may grow while it runs"),
    ] = 1.0
    offset: Annotated[float, Meta(ge=0, lt=1, description="where its slice of the layer begins")] = 0.0
    surfaces: Annotated[
        tuple[str, ...],
        Meta(description="where the treatment could differ; empty: those of the changed settings"),
    ] = ()
    salt: Annotated[str, Meta(max_length=200, description="what variants are drawn by; empty: the name")] = ""
    targeting: Targeting = Targeting()
    metrics: Metrics = Metrics()
    power: Power = Power()

    @property
    def interleaved(self) -> bool:
        """Whether its units get pages of both sides: then nobody is in control, and what wins is a preference."""
        return any(variant.interleave is not None for variant in self.variants.values())
