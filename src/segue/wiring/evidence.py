"""Evidence for and against a challenger: what it is, what the rungs say of it, and what follows."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.experiments import CONTROL, Experiment
from segue.experiments.definition import check, from_tree, surfaces_of
from segue.experiments.ladder import (
    RUNGS,
    Advice,
    Prediction,
    Record,
    Silent,
    advise,
    past_records,
)
from segue.flows.verdicts import Comparison
from segue.settings.load import change_settings
from segue.wiring.home import Home
from segue.wiring.rungs import Challenger, Ladder, Say, Size

__all__ = ["Evidence", "compared", "gather", "read_challenger"]


class Evidence(msgspec.Struct, frozen=True):
    """One page: what each rung says, how it did before, what follows."""

    challenger: Challenger
    champion: str
    predictions: list[Prediction]
    silent: list[Silent]
    records: dict[str, Record]
    advice: Advice


def read_challenger(
    home: Home, named: str, surface: str | None = None, variant: str | None = None
) -> Challenger:
    """A bundle by its version, or a TOML file: an experiment (`variant`, by default its only treatment) or a recipe, which has
    the keys of settings under `surfaces`. Without `surface` it is the only one changed, or home for a bundle.

    Raises InvalidInput, InvalidSettings, NotFound.
    """
    path = Path(named)
    if path.suffix != ".toml":
        if named not in {made.version for made in home.bundles.versions()}:
            raise NotFound(
                f"{named}: no bundle is called so (`segue bundle list`), and a file of settings ends in .toml",
                field="challenger",
            )
        return Challenger(named, _surface(home, (surface or "home",), surface), bundle=named)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read as TOML: {error}", field="challenger") from error
    if "variants" in tree:
        experiment = from_tree(tree, str(path))
        check(experiment, home.settings)
        return _tried(home, experiment, surface, variant)
    if set(tree) != {"surfaces"}:
        raise InvalidInput(
            f"{path}: a recipe has settings of surfaces and nothing else: [surfaces.home.selector], say; what changes training "
            "is judged as a bundle",
            field="challenger",
            limit="surfaces",
        )
    change_settings(home.settings, tree, str(path))
    return Challenger(path.stem, _surface(home, tuple(tree["surfaces"]), surface), tree)


def _tried(home: Home, experiment: Experiment, surface: str | None, variant: str | None) -> Challenger:
    treatments = [name for name in experiment.variants if name != CONTROL]
    name = variant or (treatments[0] if len(treatments) == 1 else "")
    if name not in treatments:
        raise InvalidInput(
            f"experiment {experiment.name}: --variant: say which of {', '.join(treatments)} is to be judged",
            field="variant",
            limit=", ".join(treatments),
        )
    chosen = experiment.variants[name]
    where = _surface(home, surfaces_of(experiment, home.settings), surface)
    return Challenger(f"{experiment.name}/{name}", where, chosen.set, chosen.bundle)


def _surface(home: Home, changed: Sequence[str], asked: str | None) -> str:
    there = [name for name in changed if name in home.settings.surfaces]
    if asked is None and len(there) != 1:
        raise InvalidInput(
            f"--surface: say which of {', '.join(changed)} is to be judged, one at a time", field="surface"
        )
    surface = asked or there[0]
    if surface not in there:
        raise InvalidInput(
            f"--surface: {surface!r} is not changed; {', '.join(changed)} is",
            field="surface",
            limit=", ".join(changed),
        )
    return surface


def gather(ladder: Ladder, challenger: Challenger, rungs: Sequence[str] = RUNGS) -> Evidence:
    """Ask the rungs and say what follows."""
    answers = [ladder.ask(rung, challenger) for rung in rungs]
    predictions = [one for one in answers if isinstance(one, Prediction)]
    silent = [one for one in answers if isinstance(one, Silent)]
    records = past_records()
    return Evidence(
        challenger,
        ladder.home.bundles.open().version,
        predictions,
        silent,
        records,
        advise(predictions, silent, records),
    )


def compared(home: Home, version: str, rungs: Sequence[str], say: Say) -> list[Comparison]:
    """What rungs say of a bundle's home page, for the gate."""
    ladder, challenger = Ladder(home, Size(), say), Challenger(version, "home", bundle=version)
    return [_compared(ladder.ask(rung, challenger)) for rung in rungs]


def _compared(said: Prediction | Silent) -> Comparison:
    if isinstance(said, Silent):
        return Comparison(said.rung, "", note=said.why)
    low, high = (edge * abs(said.champion) for edge in said.ci95)
    return Comparison(
        said.rung,
        said.metric,
        said.challenger,
        said.champion,
        said.challenger - said.champion,
        (low, high),
        said.basis,
    )
