"""What a challenger (a bundle, a recipe) would have earned on a surface, from the exposures of what ran.

Each logged request is put to the challenger again: the listener's state as of then (`training.replay`), the challenger's
candidates and scores, and its page selection. Slot by slot that gives the chance the challenger would have shown what was shown:
given the slots above as they were (for rips and cascade-dr), and whatever it would have put above (for iips, over some draws of
its exploration). The log has the other half, its propensities, given the slots above. For iips the log's chance whatever stood
above is wanted as well: where the recommender that answered can still be made, and says of the page what was logged, it is asked.

What this assumes: that the log's propensities are true; that a request would have come all the same (a better page brings
listeners back: that is for an A/B test); that what was done with a track within a day is what the page earned; that the
challenger's models have seen nothing of the days judged, which is checked. Only the main list of a page is judged, whose slots
were drawn; the shelves below it are certain and their propensity is 1. Requests of strangers and surfaces asked about a track are
not replayed: the log does not keep what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidData, InvalidInput
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EXPOSURES, OUTCOMES
from segue.contracts.vocabulary import DAY
from segue.experiments.offpolicy import interval
from segue.experiments.offpolicy.logged import Floats, Longs, logged
from segue.experiments.offpolicy.overlap import Overlap, lacking, overlap
from segue.experiments.offpolicy.reward import cross_fit, parts_of
from segue.experiments.offpolicy.slates import CASCADE, INDEPENDENT, PageModel, Pages, PageTerms, page_terms
from segue.models.diversity import SelectionConfig, chances
from segue.recommend.api import Request
from segue.recommend.pipeline import Recommender
from segue.recommend.scorers import score
from segue.recommend.selector import Inputs, selection_inputs
from segue.settings.tree import State
from segue.training.replay import Replay

SURFACES: Final = ("home", "next-up")
"""Whose requests say nothing that the log does not keep."""
CERTAIN: Final = 1.0 - 1e-9
DRAWS: Final = 16
"""Pages drawn of a challenger that explores, for its chances whatever stands above."""
USUAL_DRAWS: Final = 64
"""The same of what ran, by whose chances is divided."""
SAME: Final = 1e-3
"""How near a chance must be to the logged one for the recommender to be what answered."""

Progress = Callable[[int, int], None]
Loggers = Callable[[str], Recommender | None]
"""What answered by a bundle, None where that cannot be made any more."""


class PageEstimate(msgspec.Struct, frozen=True):
    """value: listens per page; ci95 over listeners; ess: effective pages."""

    value: float
    ci95: tuple[float, float]
    ess: float


class ChallengerReport(msgspec.Struct, frozen=True):
    """What the challenger would have earned.

    first, last: days judged; pages, listeners: replayed; slots: judged of each page, at most; logged: what the pages earned as
    they were shown; overlap and refused: by family of estimators (`iips`, `rips`), the reason where one cannot answer.
    """

    policy: str
    surface: str
    first: str
    last: str
    pages: int
    listeners: int
    slots: int
    logged: PageEstimate
    overlap: dict[str, Overlap]
    estimates: dict[str, PageEstimate]
    refused: dict[str, str]


@dataclass(frozen=True)
class Shown:
    """Logged pages, slot by slot: request int64[n] ascending, position int64[n] from 0, user_id, ts, track_id int64[n],
    reward and propensity float64[n]; length int64[n], the slots of the page before it was cut; answered: the bundle and the
    hash of the surface's settings that answered each page, None where the log does not say.
    """

    request: Longs
    position: Longs
    user_id: Longs
    ts: Longs
    track_id: Longs
    reward: Floats
    propensity: Floats
    length: Longs
    answered: Sequence[tuple[str | None, str | None]] = ()


@dataclass(frozen=True)
class Usual:
    """The log's chance of each slot's track whatever stood above, float64[n], and where it is known, bool[n]."""

    chance: Floats
    known: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Replayed:
    """One page put to the challenger: its candidates as the selection reads them, the places among them of what was shown (-1:
    none of them) int32[m], and columns float64[n, 3] for the model of the reward."""

    final: npt.NDArray[np.float32]
    asked: npt.NDArray[np.int32]
    config: SelectionConfig
    inputs: Inputs
    columns: Floats


def judge(
    engine: Engine,
    recommender: Recommender,
    limits: State,
    policy: str,
    surface: str,
    first: date,
    last: date,
    *,
    pages: int,
    slots: int,
    loggers: Loggers = lambda bundle: None,
    progress: Progress = lambda done, total: None,
) -> ChallengerReport:
    """Judge a recommender by at most `pages` logged pages of the days from `first` to `last`, and their first `slots` slots.

    Raises InvalidData where the log has no pages, no propensities, or no support for what the recommender would show.
    """
    shown = load_shown(engine, surface, first, last, pages, slots)
    past = load_past(engine, shown, limits)
    replayed = replay(recommender, past, surface, shown, progress)
    found = pages_of(shown, replayed, usual_chances(loggers, past, surface, shown))
    return _report(found, policy, surface, first, last, slots)


def load_shown(engine: Engine, surface: str, first: date, last: date, most: int, slots: int) -> Shown:
    """Pages of listeners with an account, spread evenly over the days where there are more than `most`.

    Interleaved pages are left out: nobody knows their propensities.
    """
    days = Days(first, last)
    table, exposures = engine.read(OUTCOMES, days), engine.read(EXPOSURES, days)
    shared = exposures.filter((exposures.position == 0) & exposures.team.notnull())
    chosen = table.filter((table.surface == surface) & table.user_id.notnull())
    chosen = chosen.anti_join(shared.select("request_id"), "request_id")
    answered = exposures.filter(exposures.position == 0).select("request_id", "bundle", "config")
    heads = engine.collect(
        chosen.filter(chosen.position == 0)
        .select("request_id", "ts")
        .left_join(answered, "request_id")
        .select("request_id", "ts", "bundle", "config")
        .order_by(["ts", "request_id"])
    )
    if len(heads) == 0:
        raise InvalidData(
            f"no page of {surface} was shown to a listener from {first} to {last} (interleaved ones do not count): land the "
            "log and run the flow, or choose other days",
            field="days",
        )
    places = np.unique(np.linspace(0, len(heads) - 1, min(most, len(heads))).astype(np.int64))
    heads = heads.take(pa.array(places))
    wanted = heads["request_id"].combine_chunks()
    names = ["request_id", "position", "user_id", "ts", "track_id", "listened", "propensity"]
    batches = [
        batch.filter(pc.is_in(batch["request_id"], value_set=wanted))
        for batch in engine.stream(chosen.select(*names).order_by(["ts", "request_id", "position"]))
    ]
    rows = pa.Table.from_batches(batches)
    if rows["propensity"].null_count:
        raise InvalidData(
            f"propensity: {rows['propensity'].null_count:,} of {len(rows):,} slots were logged without one; judge days whose "
            "slots all have theirs (they cannot be made up later)",
            field="propensity",
        )
    if pc.min(rows["propensity"]).as_py() >= CERTAIN:
        raise InvalidData(
            f"propensity: every slot of {surface} was certain from {first} to {last}: a log without exploration says nothing "
            f"of what it did not show; serve with surfaces.{surface}.selector.explore above 0, or judge other days",
            field="propensity",
        )
    begins = np.flatnonzero(rows["position"].to_numpy() == 0)
    request = np.searchsorted(begins, np.arange(len(rows)), side="right") - 1
    position = np.arange(len(rows)) - begins[request]
    propensity = rows["propensity"].to_numpy()
    # The main list is drawn slot by slot; shelves below it are certain.
    certain = np.flatnonzero((propensity >= CERTAIN) & (position > 0))
    length = np.diff(np.append(begins, len(rows)))
    np.minimum.at(length, request[certain], position[certain])
    kept = position < np.minimum(length, slots)[request]
    return Shown(
        request[kept],
        position[kept],
        rows["user_id"].to_numpy()[kept],
        rows["ts"].to_numpy()[kept],
        rows["track_id"].to_numpy()[kept],
        rows["listened"].to_numpy(zero_copy_only=False).astype(np.float64)[kept],
        propensity[kept],
        length[request[kept]],
        list(zip(heads["bundle"].to_pylist(), heads["config"].to_pylist(), strict=True)),
    )


def load_past(engine: Engine, shown: Shown, limits: State) -> Replay:
    """What the listeners of the pages did, up to the last of them."""
    return Replay.load(engine, shown.user_id, int(shown.ts.max()) + 1, limits)


def replay(
    recommender: Recommender,
    past: Replay,
    surface: str,
    shown: Shown,
    progress: Progress = lambda done, total: None,
) -> list[Replayed]:
    """Every page put to the challenger as of its moment."""
    pages = _rows(shown)
    found = []
    for done, rows in enumerate(pages):
        found.append(_put(recommender, past, surface, shown, rows))
        progress(done + 1, len(pages))
    return found


def usual_chances(loggers: Loggers, past: Replay, surface: str, shown: Shown) -> Usual:
    """The log's chances whatever stood above, of pages that a bundle and settings answered which are still there, and to which
    they give the chances that were logged.
    """
    chance, known = shown.propensity.copy(), np.zeros(len(shown.propensity), np.bool_)
    made = {bundle: loggers(bundle) for bundle in {of for of, _ in shown.answered} if bundle is not None}
    if not any(made.values()):
        return Usual(chance, known)
    for number, (rows, (bundle, config)) in enumerate(zip(_rows(shown), shown.answered, strict=True)):
        recommender = None if bundle is None else made[bundle]
        # Not by the chances alone: pages that look as other settings would have made them would be picked by how they came out.
        if recommender is None or recommender.config[surface] != config:
            continue
        page = _put(recommender, past, surface, shown, rows)
        given = chances(page.final, page.asked, page.config, **page.inputs).chance
        if np.allclose(given, shown.propensity[rows], rtol=SAME, atol=0.0):
            # Other draws than the challenger's of this page, which are seeded by its number alone.
            uniforms = np.random.default_rng((1, number)).random((USUAL_DRAWS, len(given), 2))
            drawn = [
                chances(page.final, page.asked, page.config, uniforms=u, **page.inputs) for u in uniforms
            ]
            # The page itself is one of those that could stand above.
            chance[rows] = np.mean([given, *(draw.chance for draw in drawn)], axis=0)
            known[rows] = True
    return Usual(chance, known)


def _rows(shown: Shown) -> list[slice]:
    """Of each page."""
    begins = np.flatnonzero(shown.position == 0)
    ends = np.append(begins[1:], len(shown.position))
    return [slice(begin, end) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _put(recommender: Recommender, past: Replay, surface: str, shown: Shown, rows: slice) -> Replayed:
    user, ts = int(shown.user_id[rows.start]), int(shown.ts[rows.start])
    request = Request(surface=surface, user_id=user, k=int(shown.length[rows.start]), now=ts)
    query, candidates = recommender.gather(request, past.state(user, ts))
    artifacts = recommender.artifacts
    final = score(query, artifacts, candidates).final
    config, inputs = selection_inputs(query, artifacts, candidates, final)
    tracks = artifacts.catalogue.positions(shown.track_id[rows])
    own = np.isin(candidates.tracks, query.history.tracks)
    spread = float(final.std()) or 1.0
    columns = [(final - final.mean()) / spread, np.log1p(artifacts.plays[candidates.tracks]), own]
    return Replayed(
        final, _places(candidates.tracks, tracks), config, inputs, np.column_stack(columns).astype(np.float64)
    )


def pages_of(shown: Shown, replayed: list[Replayed], usual: Usual | None = None) -> Pages:
    """The estimators' columns: the challenger's chances and a cross-fitted model of the reward."""
    checked = logged(shown.reward, shown.propensity, np.zeros(len(shown.reward)), shown.user_id)
    part = parts_of(shown.user_id)
    fitted = _model(shown, replayed, part)
    columns: dict[str, list[Floats]] = {
        name: [] for name in ("target", "marginal", "repeated", "q", "v", "later", "e")
    }
    begins = np.flatnonzero(shown.position == 0)
    for number, page in enumerate(replayed):
        m = len(page.asked)
        values = fitted(page, m, int(part[begins[number]]))
        given = chances(page.final, page.asked, page.config, values=values, **page.inputs)
        drawn = [
            chances(page.final, page.asked, page.config, values=values, uniforms=uniforms, **page.inputs)
            for uniforms in _uniforms(page.config, m, number)
        ]
        would = np.mean([draw.expected for draw in drawn], axis=0)
        # What the slots below would earn, whatever stands in this one.
        later = np.append(np.cumsum(would[::-1])[::-1][1:], 0.0)
        columns["target"].append(given.chance)
        columns["marginal"].append(np.mean([draw.chance for draw in drawn], axis=0))
        columns["repeated"].append(np.mean([draw.repeated for draw in drawn], axis=0))
        columns["q"].append(np.where(page.asked >= 0, values[np.arange(m), page.asked], 0.0))
        columns["v"].append(would)
        columns["later"].append(later)
        columns["e"].append(given.expected)
    c = {name: np.concatenate(parts) for name, parts in columns.items()}
    if usual is not None:
        c["repeated"][usual.known] = 0.0
    return Pages(
        shown.request,
        shown.position,
        checked.reward,
        checked.propensity,
        c["target"],
        c["marginal"],
        c["repeated"],
        shown.user_id,
        PageModel(c["q"], c["v"], c["q"] + c["later"], c["e"] + c["later"]),
        None if usual is None else usual.chance,
    )


def _model(shown: Shown, replayed: list[Replayed], part: Longs) -> Callable[[Replayed, int, int], Floats]:
    """A function from a page, its slots and its part to what each candidate would earn in each slot: float64[m, n]."""
    asked = np.concatenate([page.asked for page in replayed])
    rows = np.concatenate([page.columns[page.asked] for page in replayed])  # of -1 any: those are left out
    known = asked >= 0
    if not known.any():
        raise InvalidData(
            "the challenger proposes nothing of what was shown: the log cannot say what it would earn",
            field="support",
        )
    middle, spread = rows[known].mean(axis=0), np.maximum(rows[known].std(axis=0), 1e-9)

    def design(columns: Floats, position: Longs) -> Floats:
        return np.column_stack([(columns - middle) / spread, 1.0 / (1.0 + position)])

    fitted = cross_fit(design(rows, shown.position)[known], shown.reward[known], part[known])

    def values(page: Replayed, slots: int, of: int) -> Floats:
        n = len(page.columns)
        return np.stack(
            [fitted.models[of].predict(design(page.columns, np.full(n, slot))) for slot in range(slots)]
        )

    return values


def _uniforms(config: SelectionConfig, slots: int, seed: int) -> list[Floats]:
    if config.explore == 0.0:
        return [np.ones((slots, 2))]
    return list(np.random.default_rng(seed).random((DRAWS, slots, 2)))


def _places(tracks: npt.NDArray[np.int32], asked: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Where in `tracks` each of `asked` is, -1 where nowhere."""
    order = np.argsort(tracks)
    at = np.minimum(np.searchsorted(tracks, asked, sorter=order), max(len(tracks) - 1, 0))
    found = order[at] if len(tracks) else np.zeros(len(asked), np.intp)
    hit = tracks[found] == asked if len(tracks) else np.zeros(len(asked), np.bool_)
    return np.where(hit & (asked >= 0), found, -1).astype(np.int32)


def supported(pages: Pages) -> tuple[dict[str, Overlap], dict[str, str], dict[str, PageTerms]]:
    """The overlap by family of estimators (`iips`, `rips`), the reason of each that cannot answer, and the terms of those that
    can. Raises InvalidData where none can.
    """
    terms = page_terms(pages)
    weights = {"iips": pages.slot_weight + pages.repeated, "rips": pages.page_weight}
    overlaps = {}
    for family, weight in weights.items():
        found = overlap(weight, pages.unit)
        # Effective pages, not slots: those of one page are one listener's.
        least = min(found.ess, terms[family].ess)
        overlaps[family] = msgspec.structs.replace(found, rows=len(pages.first), ess=least)
    refused = {family: why for family, found in overlaps.items() if (why := lacking(found)) is not None}
    if len(refused) == len(overlaps):
        raise InvalidData(refused["iips"], field="support")
    families = {"iips": INDEPENDENT, "rips": CASCADE}
    answering = [name for family, names in families.items() if family not in refused for name in names]
    return overlaps, refused, {name: terms[name] for name in terms if name in answering}


def _report(pages: Pages, policy: str, surface: str, first: date, last: date, slots: int) -> ChallengerReport:
    try:
        overlaps, refused, terms = supported(pages)
    except InvalidData as error:
        raise InvalidData(f"{policy}: {error.message}", field="support") from error
    earned = np.add.reduceat(pages.reward, pages.first)
    influences = np.column_stack([earned, *(found.influence for found in terms.values())])
    own, *limits = interval.bca(influences, pages.units)
    return ChallengerReport(
        policy=policy,
        surface=surface,
        first=first.isoformat(),
        last=last.isoformat(),
        pages=len(pages.first),
        listeners=len(np.unique(pages.units)),
        slots=slots,
        logged=PageEstimate(float(earned.mean()), own, float(len(earned))),
        overlap=overlaps,
        estimates={
            name: PageEstimate(found.value, ci95, found.ess)
            for (name, found), ci95 in zip(terms.items(), limits, strict=True)
        },
        refused=refused,
    )


def window(engine: Engine, surface: str, days: int, after: date | None) -> tuple[date, date]:
    """The last `days` days with outcomes of a surface, none of them up to `after`, the last day that a bundle has seen.

    Raises InvalidData where there are none, InvalidInput for a surface that cannot be replayed.
    """
    if surface not in SURFACES:
        raise InvalidInput(
            f"surface: {surface} is asked about a track or artist, which the log does not keep; judge {' or '.join(SURFACES)}",
            field="surface",
            limit=", ".join(SURFACES),
        )
    table = engine.read(OUTCOMES)
    there = engine.collect(table.filter(table.surface == surface).select("day").distinct())["day"].to_pylist()
    if not there:
        raise InvalidData(
            f"no page of {surface} is in the log: serve, land the log and run the flow first", field="days"
        )
    last = max(there)
    first = max(last - timedelta(days=days - 1), min(there))
    if after is not None and after >= last:
        raise InvalidData(
            f"the bundle has seen the events of {after}, and the log ends on {last}: a model must not be judged by what it "
            "learnt from. Wait for a day behind it, choose an older bundle, or judge `settings`, which trains anew as of the "
            "first day",
            field="policy",
        )
    return (first if after is None else max(first, after + timedelta(days=1))), last


def moment(day: date) -> int:
    """The beginning of a UTC day, microseconds."""
    return (day - date(1970, 1, 1)).days * DAY
