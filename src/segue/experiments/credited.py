"""What came of an interleaving, from the tables of a home: whose slots listeners chose, and what follows."""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from segue.contracts.errors import InvalidData, NotFound
from segue.contracts.experiments import FAILED, FORCED, Experiment
from segue.contracts.ports import Engine
from segue.contracts.tables import EXPOSURES, OUTCOMES
from segue.contracts.vocabulary import Team
from segue.experiments.exposed import logged_variant, named_in
from segue.experiments.interleaving import Floats, Preference, Sides, preferred
from segue.experiments.metrics import CREDITED
from segue.experiments.results import awaited, early, planned_units, span
from segue.experiments.statistics.multiple import holm
from segue.experiments.store import Kept
from segue.warehouse.measures import times

_SIDES: Final = (Team.CONTROL, Team.TREATMENT)


class Verdict(Struct, frozen=True):
    """What to do: `test` (an A/B test of the variant that is preferred), `stop` or `wait`; in words, and why."""

    verdict: Literal["test", "stop", "wait"]
    said: str
    variant: str | None
    reasons: list[str]


class Preferences(Struct, frozen=True):
    """What listeners preferred of an experiment's interleaved variants over the days it is of: by variant and goal.

    answers: by what the log calls them, `forced:` and `failed:` ones are left out; silent: variants of which nothing can be read,
    and why; planned: listeners there will be, where anything tells.
    """

    experiment: str
    first: date
    last: date
    running: bool
    planned: int | None
    answers: dict[str, int]
    preferences: dict[str, dict[str, Preference]]
    silent: dict[str, str]
    decision: Verdict


def preferences(engine: Engine, kept: Kept, surfaces: tuple[str, ...], now: int) -> Preferences:
    """As of a moment (UTC microseconds). Raises NotFound where nothing of it has landed."""
    experiment = kept.experiment
    days, end = span(engine, kept, now)
    goals = experiment.metrics.goals
    shown = engine.read(EXPOSURES, days)
    shown = shown.filter(shown.surface.isin(surfaces) & (shown.ts < end) & named_in(shown, experiment))
    rows = engine.collect(by_listener(shown, engine.read(OUTCOMES, days), experiment))
    answers = engine.collect(_answers(shown, experiment))
    if not len(answers):
        raise NotFound(
            f"experiment {experiment.name}: nobody was shown its pages from {days.first} to {days.last}; is it put into the home "
            "that serves, and do its surfaces get requests?",
            field=EXPOSURES.name,
        )
    sequential, planned = early(kept, now), planned_units(engine, experiment, surfaces)
    found: dict[str, dict[str, Preference]] = {}
    silent: dict[str, str] = {}
    for variant in sorted(experiment.variants):
        mine = rows.filter(pc.equal(rows["variant"], variant))
        try:
            found[variant] = {
                goal: preferred(
                    sides_of(mine, goal), experiment.power.alpha, running=sequential, planned=planned
                )
                for goal in goals
            }
        except InvalidData as error:
            silent[variant] = error.message
    found = _corrected(found, experiment.power.alpha, sequential)
    return Preferences(
        experiment.name,
        days.first,
        days.last,
        sequential,
        planned,
        dict(zip(*(answers[name].to_pylist() for name in ("variant", "answers")), strict=True)),
        found,
        silent,
        decide(found, silent, awaited(kept, now)),
    )


def by_listener(shown: ir.Table, outcomes: ir.Table, experiment: Experiment) -> ir.Table:
    """A row a variant and listener with slots on interleaved pages: of either side the slots, the sum of their places, and what
    each goal credits; `neither` counts the slots that are credited to none. `shown` is of the experiment's pages.
    """
    variant = logged_variant(shown, experiment)
    marked = variant.startswith(FORCED) | variant.startswith(FAILED)
    slots = shown.filter(shown.team.notnull() & shown.user_id.notnull() & ~marked)
    slots = slots.select("request_id", "position", "team", variant=logged_variant(slots, experiment))
    columns = [CREDITED[goal] for goal in experiment.metrics.goals]
    done = outcomes.select("request_id", "position", "user_id", *columns)
    found = slots.inner_join(done, ["request_id", "position"])
    added = {"neither": times(found.team == Team.NEITHER)}
    for side in _SIDES:
        of = found.team == side
        added[f"{side}_slots"] = times(of)
        added[f"{side}_places"] = ibis.ifelse(of, found.position.cast("int64"), 0).sum().cast("int64")
        added |= {f"{side}_{column}": times(of & found[column]) for column in columns}
    return found.group_by("variant", "user_id").aggregate(**added)


def sides_of(rows: pa.Table, goal: str) -> Sides:
    """The rows of one variant as `preferred` reads them."""
    neither = int(pc.sum(rows["neither"]).as_py() or 0)

    def pair(name: str) -> Floats:
        columns = [rows[f"{side}_{name}"].to_numpy() for side in _SIDES]
        return np.column_stack(columns).astype(np.float64)

    slots = pair("slots")
    seen = slots.sum(axis=1) > 0
    return Sides(slots[seen], pair("places")[seen], pair(CREDITED[goal])[seen], neither)


def decide(found: dict[str, dict[str, Preference]], silent: dict[str, str], until: date | None) -> Verdict:
    """What follows; `until` is when a running one ends. A variant that any goal prefers and none rejects is worth an A/B test."""
    reasons = [
        f"{variant}: {_said(goal, one)}" for variant, goals in found.items() for goal, one in goals.items()
    ]
    reasons += [f"{variant}: {why}" for variant, why in silent.items()]
    of = {variant: {one.verdict for one in goals.values()} for variant, goals in found.items()}
    liked = [
        variant for variant, verdicts in of.items() if "treatment" in verdicts and "control" not in verdicts
    ]
    if liked:
        best = max(liked, key=lambda variant: next(iter(found[variant].values())).lead)
        return Verdict(
            "test", f"{best} is preferred: run an A/B test of it, which says by how much", best, reasons
        )
    if until is not None and (silent or any("control" not in verdicts for verdicts in of.values())):
        return Verdict("wait", f"wait until {until}: no preference is settled yet", None, reasons)
    worse = all("control" in verdicts for verdicts in of.values()) and not silent
    said = "what everybody gets is preferred" if worse else "no preference was found"
    return Verdict("stop", f"stop: {said}", None, reasons)


def _said(goal: str, one: Preference) -> str:
    if not one.fair:
        worst = min(one.fair_p.values())
        return f"{goal}: the sides did not have the same chances (p {worst:.2g}): nothing may be read"
    words = {
        "treatment": "it is preferred",
        "control": "what everybody gets is preferred",
        "open": "not told apart",
    }
    return (
        f"{goal}: lead {one.lead:+.1%} [{one.lead_ci95[0]:+.1%}, {one.lead_ci95[1]:+.1%}] of {sum(one.credit.values()):,.0f} "
        f"credited: {words[one.verdict]} (p {one.lead_p:.2g}, always-valid {one.always_valid.p:.2g})"
    )


def _corrected(
    found: dict[str, dict[str, Preference]], alpha: float, goes_on: bool
) -> dict[str, dict[str, Preference]]:
    """Verdicts that stand by Holm's adjusted p, where there are several variants or goals."""
    every = [(variant, goal, one) for variant, goals in found.items() for goal, one in goals.items()]
    adjusted = holm([one.always_valid.p if goes_on else one.lead_p for *_, one in every])
    kept: dict[str, dict[str, Preference]] = {variant: {} for variant in found}
    for (variant, goal, one), p in zip(every, adjusted, strict=True):
        kept[variant][goal] = one if p < alpha else replace(one, verdict="open")
    return kept


def _answers(shown: ir.Table, experiment: Experiment) -> ir.Table:
    """How many answers the log has of each variant, as it calls it."""
    heads = shown.filter(shown.position == 0)
    heads = heads.select(variant=logged_variant(heads, experiment))
    return heads.group_by("variant").aggregate(answers=heads.count().cast("int64")).order_by("variant")
