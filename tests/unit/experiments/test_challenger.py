"""A challenger judged from a log of the real request pipeline, where what each track would earn is known.

Requests of the small service's listeners are answered by its bundle with much exploration, and listeners react as the
simulation's true preferences have it, less down the page. So the challenger's true value can be computed, and the estimates held
against it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from segue.cli.main import app
from segue.contracts.errors import InvalidData, InvalidInput
from segue.contracts.ports import Days
from segue.contracts.tables import OUTCOMES
from segue.contracts.vocabulary import DAY, HOUR
from segue.experiments.offpolicy.challenger import (
    DRAWS,
    Replayed,
    Shown,
    _report,
    judge,
    load_past,
    load_shown,
    moment,
    pages_of,
    replay,
    window,
)
from segue.experiments.offpolicy.slates import Pages
from segue.models.diversity import chances, select
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.settings.surfaces import Surface
from segue.simulation.truth import read_truth
from segue.wiring.home import Home
from small_service import SETTINGS

SLOTS, REACH, EXPLORE, REPEATS = 3, 12, 0.8, 40
LAST = date(2026, 11, 21)


def recommender(home: Home, **selector: float) -> Recommender:
    home_page = home.settings.surfaces["home"]
    changed = msgspec.structs.replace(
        home_page, selector=msgspec.structs.replace(home_page.selector, artist_spacing=0, **selector)
    )
    surfaces: dict[str, Surface] = {**home.settings.surfaces, "home": changed}
    return Recommender(Artifacts.load(home.bundles.open()), surfaces, lambda _: None, 50)


class World:
    """Requests of many listeners on the day behind the data, what each candidate would truly earn, and a log."""

    def __init__(self, home: Home) -> None:
        self.home = home
        users = np.array(
            home.engine.collect(home.engine.read(OUTCOMES).select("user_id").distinct())["user_id"]
        )
        users = np.sort(users.astype(np.int64))[:120]
        n = len(users) * SLOTS
        self.asked = Shown(
            request=np.repeat(np.arange(len(users)), SLOTS),
            position=np.tile(np.arange(SLOTS), len(users)),
            user_id=np.repeat(users, SLOTS),
            ts=np.full(n, moment(LAST) + DAY + 9 * HOUR),
            track_id=np.full(n, -1),
            reward=np.zeros(n),
            propensity=np.ones(n),
            length=np.full(n, SLOTS),
        )
        self.champion = self.replayed(recommender(home, diversity=0.0, explore=EXPLORE))
        self.truth = read_truth(home.truth)

    def replayed(self, policy: Recommender) -> list[tuple[Replayed, np.ndarray]]:
        """Each request put to a policy, and the ids of its candidates."""
        past = load_past(self.home.engine, self.asked, self.home.settings.state)
        pages = replay(policy, past, "home", self.asked)
        ids = policy.artifacts.catalogue.track_id
        return [(page, ids[page.inputs["rows"]]) for page in pages]

    def earns(self, number: int, tracks: np.ndarray) -> np.ndarray:
        """Chance that a request's listener listens to each track in each slot. float64[SLOTS, n]."""
        users = np.full(len(tracks), self.asked.user_id[number * SLOTS])
        liked = self.truth.listen_chance(users, tracks, np.full(len(tracks), self.asked.ts[0]))
        return liked[None, :].astype(np.float64) / (1.0 + 0.5 * np.arange(SLOTS))[:, None]

    def value(self, policy: list[tuple[Replayed, np.ndarray]]) -> float:
        """A policy's true listens per page."""
        total = []
        for number, (page, ids) in enumerate(policy):
            values = self.earns(number, ids)
            rng = np.random.default_rng(number)
            nobody = np.full(SLOTS, -1, np.int32)
            for uniforms in rng.random((DRAWS if page.config.explore else 1, SLOTS, 2)):
                drawn = chances(
                    page.final, nobody, page.config, values=values, uniforms=uniforms, **page.inputs
                )
                total.append(drawn.expected.sum())
        return float(np.mean(total))

    def log(self, seed: int) -> Shown:
        """Pages that the champion showed: most of the slots drawn from its best REACH candidates, whatever their rank."""
        rng = np.random.default_rng(seed)
        tracks, propensity, reward = [], [], []
        for number, (page, ids) in enumerate(self.champion):
            pool = np.zeros(len(page.final), np.bool_)
            pool[np.argsort(-page.final, kind="stable")[:REACH]] = True
            inputs = {**page.inputs, "pool": pool}
            values = self.earns(number, ids)
            for _ in range(REPEATS):
                shown = select(page.final, SLOTS, page.config, uniforms=rng.random((SLOTS, 2)), **inputs)
                tracks.append(ids[shown.order])
                propensity.append(shown.propensity)
                reward.append(rng.random(SLOTS) < values[np.arange(SLOTS), shown.order])
        n = len(self.champion) * REPEATS
        users = np.repeat(self.asked.user_id[::SLOTS], REPEATS)
        return Shown(
            request=np.repeat(np.arange(n), SLOTS),
            position=np.tile(np.arange(SLOTS), n),
            user_id=np.repeat(users, SLOTS),
            ts=np.full(n * SLOTS, self.asked.ts[0]),
            track_id=np.concatenate(tracks),
            reward=np.concatenate(reward).astype(float),
            propensity=np.concatenate(propensity),
            length=np.full(n * SLOTS, SLOTS),
        )

    def judged(self, policy: list[tuple[Replayed, np.ndarray]], log: Shown) -> Pages:
        """A policy's columns for a log; each request is replayed once, its pages share that."""
        again = []
        for number, (page, ids) in enumerate(policy):
            rows = slice(number * REPEATS * SLOTS, (number + 1) * REPEATS * SLOTS)
            place = {int(track): at for at, track in enumerate(ids)}
            asked = np.array([place.get(int(t), -1) for t in log.track_id[rows]], np.int32)
            again += [replace(page, asked=some) for some in asked.reshape(REPEATS, SLOTS)]
        return pages_of(log, again)

    def rescored(self, score: Callable[[np.ndarray, np.ndarray], None]) -> list[tuple[Replayed, np.ndarray]]:
        """The champion without exploration, its scores changed by `score`, which is given a copy and the best REACH."""
        found = []
        for page, ids in self.champion:
            final = page.final.copy()
            score(final, np.argsort(-page.final, kind="stable")[:REACH])
            config = msgspec.structs.replace(page.config, explore=0.0)
            found.append((replace(page, final=final, config=config), ids))
        return found


@pytest.fixture(scope="module")
def world(service: Home) -> World:
    return World(service)


@pytest.fixture(scope="module")
def log(world: World) -> Shown:
    return world.log(seed=1)


def upside_down(final: np.ndarray, best: np.ndarray) -> None:
    final[best] = final[best[::-1]].copy()


def test_estimates_of_challengers_hold_the_truth_and_tell_good_from_bad(world: World, log: Shown) -> None:
    """One shows the champion's best without exploring, a little spread; the other the worst of what the log reached."""
    challengers = {
        "good": world.replayed(recommender(world.home, diversity=0.05, explore=0.0)),
        "bad": world.rescored(upside_down),
    }
    truth = {name: world.value(policy) for name, policy in challengers.items()}
    assert truth["bad"] < 0.95 * truth["good"]
    held = []
    for one in (log, *(world.log(seed) for seed in (2, 3, 4))):
        found = {
            name: _report(world.judged(policy, one), name, "home", LAST, LAST, SLOTS)
            for name, policy in challengers.items()
        }
        assert found["good"].refused == {}
        assert set(found["bad"].refused) == {"rips"}, "three unlikely slots in a row never happened"
        for name, report in found.items():
            other = truth["bad" if name == "good" else "good"]
            held += [
                answer.ci95[0] <= truth[name] <= answer.ci95[1]
                for estimator, answer in report.estimates.items()
                if estimator != "dm"
            ]
            for estimator in ("iips-dr", "sniips"):
                value = report.estimates[estimator].value
                assert abs(value - truth[name]) < abs(value - other), (name, estimator, value, truth)
    assert np.mean(held) > 0.9, "95% is due"


def test_a_challenger_beyond_the_log_is_refused(world: World, log: Shown) -> None:
    """It shows what the log's exploration never reached."""

    def beyond(final: np.ndarray, best: np.ndarray) -> None:
        final[best] = final.min() - 1

    with pytest.raises(InvalidData, match=r"far: at least (9\d|100)% of what it would choose had no chance"):
        _report(world.judged(world.rescored(beyond), log), "far", "home", LAST, LAST, SLOTS)


def test_a_log_is_read_page_by_page(service: Home) -> None:
    shown = load_shown(service.engine, "home", date(2026, 11, 19), LAST, 40, 5)
    assert shown.request.max() + 1 == 40
    assert shown.position.max() == 4
    assert (shown.length == 12).mean() > 0.9, "the simulated home page has twelve slots"
    starts = np.flatnonzero(shown.position == 0)
    assert np.all(np.diff(shown.ts[starts]) >= 0)
    assert np.all((shown.propensity > 0) & (shown.propensity <= 1))
    assert 0 < shown.reward.mean() < 1


def test_a_bundle_is_not_judged_by_the_days_it_has_seen(service: Home) -> None:
    with pytest.raises(InvalidData, match=r"has seen the events of 2026-11-21.*judge `settings`"):
        window(service.engine, "home", 3, LAST)
    assert window(service.engine, "home", 3, date(2026, 11, 20)) == (LAST, LAST)
    assert window(service.engine, "home", 3, None) == (date(2026, 11, 19), LAST)


def test_the_simulated_log_cannot_speak_of_a_bundle_and_says_so(service: Home) -> None:
    """Its pools are other tracks than the bundle's candidates: what the bundle would show had no chance, or next to none."""
    policy = recommender(service, explore=0.0)
    nothing = r"mine: (at least \d+% of what it would choose had no chance|its weights leave .* too few to say anything)"
    with pytest.raises(InvalidData, match=nothing):
        judge(service.engine, policy, service.settings.state, "mine", "home", LAST, LAST, pages=100, slots=4)
    with pytest.raises(InvalidInput, match="station is asked about a track"):
        window(service.engine, "station", 3, None)
    with pytest.raises(InvalidData, match="no page of home was shown"):
        load_shown(service.engine, "home", date(2020, 1, 1), date(2020, 1, 2), 9, 4)


def test_the_command_judges_a_bundle_by_the_days_behind_its_data(
    world: World, log: Shown, service: Home, tmp_path: Path
) -> None:
    """The world's log as the outcomes of the day behind the bundle's data, among shelves below each page."""
    copy = Home.open(Path(shutil.copytree(service.root, tmp_path / "home")), environ={}, overrides=SETTINGS)
    day = LAST + timedelta(days=1)
    copy.engine.overwrite(OUTCOMES, outcomes(log, day), Days(day, day))
    version = copy.bundles.current()
    assert version is not None
    changes = ("explore=0.0", "artist_spacing=0", "diversity=0.05")
    told = [f"--set=surfaces.home.selector.{change}" for change in changes]
    command = ["ope", "--policy", version, "--home", str(copy.root), "--pages", "2000", "--slots", "3", *told]
    printed = CliRunner().invoke(app, [*command, "--json"])
    assert printed.exit_code == 0, printed.output
    report = json.loads(printed.stdout)
    assert (report["first"], report["last"], report["pages"]) == (day.isoformat(), day.isoformat(), 2_000)
    truth = world.value(world.replayed(recommender(world.home, diversity=0.05, explore=0.0)))
    for name in ("iips-dr", "sniips"):
        low, high = report["estimates"][name]["ci95"]
        assert low <= truth <= high, name
    assert report["logged"]["value"] == pytest.approx(log.reward.sum() / (log.request.max() + 1), rel=0.05)
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "as logged" in shown.stdout
    both = CliRunner().invoke(app, [*command, "--log", str(tmp_path)])
    assert both.exit_code == 2
    certain = outcomes(replace(log, propensity=np.ones(len(log.request))), day)
    copy.engine.overwrite(OUTCOMES, certain, Days(day, day))
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "a log without exploration says nothing" in " ".join(refused.stderr.split())


def outcomes(log: Shown, day: date) -> pa.Table:
    """A table of outcomes: each page's slots as logged, and one below them that was certain."""
    slots = np.flatnonzero(log.position == 0)
    order = np.concatenate([np.arange(len(log.request)), slots])
    below = np.arange(len(order)) >= len(log.request)
    position = np.where(below, SLOTS, log.position[order])
    order, below, position = (
        column[np.lexsort((position, log.request[order]))] for column in (order, below, position)
    )
    ids = [int(request + 1).to_bytes(16, "big") for request in log.request[order]]
    nothing = np.zeros(len(order), np.bool_)
    listened = np.where(below, False, log.reward[order] > 0)
    columns = {
        "day": pa.array([day] * len(order), pa.date32()),
        "request_id": pa.array(ids, OUTCOMES.column("request_id").type),
        "ts": log.ts[order],
        "user_id": log.user_id[order],
        "surface": ["home"] * len(order),
        "position": position,
        "track_id": np.where(below, 1, log.track_id[order]),
        "propensity": np.where(below, 1.0, np.round(log.propensity[order], 6)),
        "played": listened,
        "listened": listened,
        "skipped": nothing,
        "liked": nothing,
        "hidden": nothing,
        "ms_played": np.where(listened, 60_000, 0),
    }
    arrays = {name: pa.array(values).cast(OUTCOMES.column(name).type) for name, values in columns.items()}
    return pa.table(arrays).select(OUTCOMES.names)
