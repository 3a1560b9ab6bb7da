"""Experiments' files: read strictly, and checked alone against the settings; `together` holds them against one another."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec

from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import CONTROL, HOLDOUT, Experiment, Variant
from segue.experiments.assignment import LAYER, slice_of
from segue.experiments.metrics import CREDITED, METRICS, of_unit
from segue.recommend.sources import SOURCES
from segue.settings.faults import fault_of, fields_of, value_of
from segue.settings.load import change_settings, leaf_keys
from segue.settings.tree import Settings

MOST_VARIANTS: Final = 20
MOST_TEXT: Final = 1_000_000
_SURFACES: Final = "surfaces"


def read_experiment(path: Path) -> Experiment:
    """The experiment of a TOML file. Raises InvalidInput naming the file and the key."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """What is in a file of an experiment. Raises InvalidInput for one that cannot be read, or is far too long."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_TEXT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}", field=str(path)) from error
    if len(text) > MOST_TEXT:
        raise InvalidInput(
            f"{path}: is longer than {MOST_TEXT:,} characters; is it an experiment?",
            field=str(path),
            limit=f"{MOST_TEXT:,} characters",
        )
    return text


def parse(text: str, origin: str) -> Experiment:
    """The experiment that a TOML text describes. Raises InvalidInput."""
    try:
        return from_tree(tomllib.loads(text), origin)
    except (
        ValueError,
        RecursionError,
    ) as error:  # also of a number of thousands of digits, or brackets within brackets
        raise InvalidInput(f"{origin}: not valid TOML: {error}", field=origin) from error


def from_tree(tree: Any, origin: str) -> Experiment:
    """The experiment of a decoded document. Raises InvalidInput, with a hint for a key that nobody knows."""
    _refuse_unknown(tree, Experiment, origin, "")
    try:
        return msgspec.convert(tree, Experiment)
    except msgspec.ValidationError as error:
        path, said = fault_of(Experiment, error)
        field = path or "experiment"
        raise InvalidInput(f"{origin}: {field}: {said}", field=field, limit=said) from error


def check(experiment: Experiment, settings: Settings) -> None:
    """Raise InvalidInput for what is wrong with an experiment by itself."""
    for fault in (
        _dates(experiment),
        _units(experiment),
        _variants(experiment),
        _holdout(experiment),
        _interleaving(experiment),
        _metrics(experiment),
    ):
        if fault is not None:
            raise _refused(experiment, *fault)
    for name, variant in experiment.variants.items():
        changed(settings, experiment, name, variant)
    surfaces = surfaces_of(experiment, settings)
    if not surfaces:
        raise _refused(
            experiment, "surfaces", "nothing says where the treatment could differ; name the surfaces"
        )
    for surface in surfaces:
        if surface not in settings.surfaces:
            raise _refused(
                experiment,
                "surfaces",
                f"there is no surface {surface!r}; there are {', '.join(settings.surfaces)}",
            )
    elsewhere = keyed_surfaces(experiment) - set(surfaces)
    if elsewhere:
        raise _refused(
            experiment,
            "surfaces",
            f"variants also change {', '.join(sorted(elsewhere))}: exposures there would not be logged",
        )


def surfaces_of(experiment: Experiment, settings: Settings) -> tuple[str, ...]:
    """Where the treatment could differ: as said, else every surface for another bundle, else those of the changed keys."""
    if experiment.surfaces:
        return experiment.surfaces
    if experiment.layer == HOLDOUT or bundles_of(experiment):
        return tuple(settings.surfaces)
    return tuple(sorted(keyed_surfaces(experiment)))


def bundles_of(experiment: Experiment) -> set[str]:
    """The bundles that its variants answer from."""
    return {variant.bundle for variant in experiment.variants.values() if variant.bundle is not None}


def changed(settings: Settings, experiment: Experiment, name: str, variant: Variant) -> Settings:
    """The settings as a variant has them. Raises InvalidInput for a key or value that is none, or no surface's."""
    for key in variant.set:
        if not key.startswith(f"{_SURFACES}."):
            raise _refused(
                experiment,
                f"variants.{name}.set",
                f"{key!r} is no setting of a surface; write surfaces.NAME.…",
            )
    found = change_settings(settings, variant.set, f"experiment {experiment.name}: variants.{name}.set")
    for surface, recipe in found.surfaces.items():
        for source in recipe.sources:
            if source not in SOURCES:
                raise _refused(
                    experiment,
                    f"variants.{name}.set",
                    f"surfaces.{surface}.sources: no source is called {source!r}{_near(source, SOURCES)}",
                )
    return found


def _refused(experiment: Experiment, field: str, what: str) -> InvalidInput:
    return InvalidInput(f"experiment {experiment.name}: {field}: {what}", field=field)


def _dates(experiment: Experiment) -> tuple[str, str] | None:
    if experiment.ends <= experiment.starts:
        return (
            "ends",
            f"{experiment.ends} is not after starts ({experiment.starts}); it is the first day that is not in it",
        )
    places = slice_of(experiment)
    if not places or places.stop > 1_000_000:
        return (
            "share",
            f"offset {experiment.offset} and share {experiment.share} are no slice of a layer: 0 < share, offset + share <= 1",
        )
    return None


def _units(experiment: Experiment) -> tuple[str, str] | None:
    if experiment.salt.startswith(LAYER):
        return (
            "salt",
            f"{LAYER!r} is what places in layers are drawn by: variants would follow them; use another salt",
        )
    if (experiment.unit == "switchback") != (experiment.slot_minutes is not None):
        return "slot_minutes", "a switchback needs it (such as 60), and nothing else has it"
    return None


def _variants(experiment: Experiment) -> tuple[str, str] | None:
    least = 1 if experiment.layer == HOLDOUT or experiment.interleaved else 2
    if least == 2 and list(experiment.variants) == [CONTROL]:
        return (
            "variants",
            f"there is nothing to hold against {CONTROL}: add a [variants.treatment] that changes something, such as "
            "[variants.treatment.set]",
        )
    if not 1 <= len(experiment.variants) <= MOST_VARIANTS:
        return "variants", f"there are {len(experiment.variants)}; name {least} to {MOST_VARIANTS}"
    if CONTROL not in experiment.variants and not experiment.interleaved:
        return (
            "variants",
            f"one must be called {CONTROL!r}, which the others are held against: add a [variants.{CONTROL}]",
        )
    return None


def _holdout(experiment: Experiment) -> tuple[str, str] | None:
    if experiment.layer != HOLDOUT:
        return None
    if list(experiment.variants) != [CONTROL] or experiment.variants[CONTROL].changes:
        return "variants", f"those held out get what everybody gets: [variants.{CONTROL}], without changes"
    if experiment.unit != "listener" or experiment.targeting != type(experiment.targeting)():
        return "unit", "a holdout is of listeners, without targeting"
    return None


def _interleaving(experiment: Experiment) -> tuple[str, str] | None:
    if not experiment.interleaved:
        return None
    if CONTROL in experiment.variants:
        return "variants", f"whoever is in an interleaving gets both sides; leave out [variants.{CONTROL}]"
    for name, variant in experiment.variants.items():
        if variant.interleave is None or not variant.changes:
            return (
                f"variants.{name}",
                "beside an interleaved variant each must be interleaved, and change something",
            )
    if experiment.unit != "listener":
        return "unit", 'pages are credited by listener; write unit = "listener"'
    if experiment.metrics.guardrails:
        return (
            "metrics.guardrails",
            "an interleaving says which side is preferred, not what listeners lose; guardrails need an A/B test",
        )
    for name in experiment.metrics.goals:
        if name in METRICS and name not in CREDITED:
            return "metrics.goals", f"{name} is of no slot; slots are credited with {' or '.join(CREDITED)}"
    return None


def _metrics(experiment: Experiment) -> tuple[str, str] | None:
    chosen = experiment.metrics
    if not chosen.goals:
        return "metrics.goals", "name the metric that decides; docs/reference/metrics.md lists them"
    fitting = of_unit(experiment.unit)
    for field, names in (("metrics.goals", chosen.goals), ("metrics.guardrails", tuple(chosen.guardrails))):
        for name in names:
            if name not in METRICS:
                return field, f"there is no metric {name!r}{_near(name, METRICS)}"
            if name not in fitting:
                return (
                    field,
                    f"{name} is of listeners, not of a {experiment.unit}; there are {', '.join(fitting)}",
                )
    both = set(chosen.goals) & set(chosen.guardrails)
    if both:
        return "metrics.guardrails", f"{', '.join(sorted(both))}: already a goal"
    return None


def keys_of(experiment: Experiment) -> set[str]:
    """The settings that its variants change."""
    return {key for variant in experiment.variants.values() for key in leaf_keys(variant.set)}


def keyed_surfaces(experiment: Experiment) -> set[str]:
    """Surfaces whose settings a variant changes."""
    return {key.split(".")[1] for key in keys_of(experiment)}


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


def _refuse_unknown(node: Any, kind: Any, origin: str, prefix: str) -> None:
    """Raise InvalidInput for the first key that a document has and its type lacks."""
    if not isinstance(node, dict):
        return
    fields = fields_of(kind)
    for key, value in node.items():
        if fields is None:
            _refuse_unknown(value, value_of(kind), origin, f"{prefix}{key}.")
        elif key not in fields:
            raise InvalidInput(
                f"{origin}: unknown key {prefix}{key}{_near(str(key), fields)}", field=f"{prefix}{key}"
            )
        else:
            _refuse_unknown(value, fields[key], origin, f"{prefix}{key}.")
