"""The closed loop over a published home: real recommenders answer, listeners react, and the truth is known."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, timedelta
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.experiments import Metrics, Targeting, Variant
from segue.contracts.ports import Days
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.experiments.credited import preferences
from segue.experiments.definition import read_experiment
from segue.recommend.api import Request
from segue.simulation.answering import States
from segue.simulation.effects import composed, gini, true_effects
from segue.simulation.environment import LivedDay
from segue.simulation.session import PLAY
from segue.simulation.tally import METRICS, Told
from segue.simulation.world import TRACK_BASE, USER_BASE
from segue.wiring.closed_loop import Arm, Life, Plan, World, live_many, run_ab
from segue.wiring.home import Home
from segue.wiring.simulated_experiment import lived, page_of, simulate_experiment
from segue.wiring.simulated_home import as_of
from segue.wiring.simulated_interleaving import simulate_interleaving

CONTROL = Arm("control")
UPSIDE_DOWN = Arm("treatment", {"surfaces.home.scorer.weights": {"play": -1.0, "like": -0.5, "skip": 0.3}})
PLAN = Plan(("home",), 6, experiment="try", logs=True)
MMR = Path(__file__).parents[3] / "examples/experiments/mmr.toml"
SHARED = MMR.with_name("mmr-interleaved.toml")


def everybody(world: World, arm: int) -> npt.NDArray[np.int16]:
    return np.full(world.config.listeners, arm, np.int16)


@pytest.fixture(scope="module")
def world(service: Home) -> World:
    return World(service)


@pytest.fixture(scope="module")
def pair(world: World) -> list[Life]:
    """Everybody in control, everybody treated."""
    return [world.live([CONTROL, UPSIDE_DOWN], everybody(world, arm), PLAN) for arm in (0, 1)]


def same(one: Told, other: Told) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Told))


def test_a_life_is_lived_the_same_again_also_in_other_processes(service: Home, pair: list[Life]) -> None:
    quiet = msgspec.structs.replace(PLAN, logs=False)
    n = len(pair[0].told.user)
    assert n > 50
    arms = [CONTROL, UPSIDE_DOWN]
    size = World(service).config.listeners
    again = live_many(service, [(arms, np.full(size, arm, np.int16), quiet) for arm in (0, 1)], workers=2)
    for one, other in zip(pair, again, strict=True):
        assert same(one.told, other.told)


def test_what_was_just_done_is_known_at_the_next_request(service: Home, world: World) -> None:
    states = world.states(np.ones(world.config.listeners, np.bool_))
    seen: list[LivedDay] = []
    world.live([CONTROL], everybody(world, 0), Plan(("home",), 2), states=states, look=seen.append)
    events = seen[0].events
    user = int(events.user[events.type == PLAY][0])
    mine = (events.user == user) & (events.type == PLAY)
    after = states.read(user + USER_BASE)
    assert after is not None
    played = set(zip(after.plays["ts"].tolist(), after.plays["track_id"].tolist(), strict=True))
    done = zip(events.ts[mine].tolist(), (events.track[mine] + TRACK_BASE).tolist(), strict=True)
    assert set(done) <= played
    before = service.state.read(user + USER_BASE)
    assert before is not None
    assert before.plays["ts"].max() < events.ts.min()  # the home's own state stays as it was


def test_guarantees_hold_for_every_answer(world: World, pair: list[Life]) -> None:
    for life in pair:
        assert life.told.broken == 0
    shown = pa.concat_tables([day.exposures for day in pair[1].logs])
    events = pa.concat_tables([day.events for day in pair[1].logs])
    answered = shown.filter(pc.field("variants").is_valid())
    hidden = events.filter(pc.field("type") == "hide")
    assert hidden.num_rows > 0
    since = {
        (user, track): ts
        for user, track, ts in zip(
            *(hidden[c].to_pylist() for c in ("user_id", "track_id", "ts")), strict=True
        )
    }
    for user, track, ts in zip(
        *(answered[c].to_pylist() for c in ("user_id", "track_id", "ts")), strict=True
    ):
        assert ts <= since.get((user, track), ts)


def test_the_logs_are_those_of_a_service(service: Home, pair: list[Life]) -> None:
    for day in pair[0].logs:
        assert day.events.schema.equals(RAW_EVENTS.arrow)
        assert day.exposures.schema.equals(EXPOSURES.arrow)
    shown = pa.concat_tables([day.exposures for day in pair[0].logs])
    answered = shown.filter(pc.field("surface") == "home")
    assert answered["variants"].unique().to_pylist() == ['{"try":"control"}']
    assert answered["bundle"].unique().to_pylist() == [service.bundles.current()]
    assert answered["config"].null_count == 0
    assert 0 < pc.min(answered["propensity"]).as_py() <= pc.max(answered["propensity"]).as_py() <= 1
    assert pc.min(pc.list_value_length(answered["sources"])).as_py() >= 1
    rest = shown.filter(pc.field("surface") != "home")
    assert rest["bundle"].unique().to_pylist() == ["logging-policy-1"]
    assert rest["variants"].null_count == rest.num_rows > 0


def test_an_answer_is_that_of_serving(service: Home, world: World, pair: list[Life]) -> None:
    """The first page of a listener is what a server would answer with the state of the home's store."""
    from segue.recommend.pipeline import Recommender

    first = (
        pair[0]
        .logs[0]
        .exposures.filter(pc.field("surface") == "home")
        .sort_by([("ts", "ascending"), ("position", "ascending")])
    )
    user, ts = first["user_id"][0].as_py(), first["ts"][0].as_py()
    page = first.filter((pc.field("user_id") == user) & (pc.field("ts") == ts))
    recommender = Recommender(
        world.artifacts(None), service.settings.surfaces, service.state.read, service.settings.serving.max_k
    )
    answer = recommender.recommend(Request("home", user, k=40, now=ts, seed=0))
    scores = {item.track_id: item.score for item in answer.items}
    # What is drawn differs, and with it the order of what is not.
    chosen = page.filter(pc.field("propensity") > 0.5)
    assert chosen.num_rows >= 6
    found = [scores.get(track) for track in chosen["track_id"].to_pylist()]
    assert found == pytest.approx(chosen["score"].to_pylist(), abs=1e-5)


def test_two_arms_that_are_the_same_differ_in_nothing(service: Home, world: World) -> None:
    arm = (np.arange(world.config.listeners) % 2).astype(np.int16)
    ab = run_ab(service, [CONTROL, Arm("treatment")], arm, Plan(("home",), 3), workers=1)
    for effect in ab.truth["treatment"].values():
        assert effect.effect == 0 or np.isnan(effect.effect)
    assert set(ab.units["variant"].to_pylist()) == {"control", "treatment"}


def test_a_ranker_upside_down_is_found_worse(pair: list[Life]) -> None:
    found = true_effects(pair[0].told, pair[1].told)
    assert set(found) == set(METRICS)
    for name in ("listens_per_exposure", "listens_per_listener"):
        assert found[name].effect < -3 * found[name].standard_error
    assert found["skip_rate"].effect > 0


def test_an_experiment_is_put_together_of_lives(world: World, pair: list[Life]) -> None:
    arm = (np.arange(world.config.listeners) % 2).astype(np.int16)
    both = composed([life.told for life in pair], arm)
    assert np.array_equal(both.arm, arm[both.user])
    for number, life in enumerate(pair):
        mine = np.isin(life.told.user, both.user[both.arm == number])
        assert np.array_equal(both.daily[both.arm == number], life.told.daily[mine])
    alone = [replace(life.told, shown=life.told.shown[[n]]) for n, life in enumerate(pair)]
    assert np.array_equal(composed(alone, arm).shown, both.shown)  # lives that know of no other arm


def test_counts_begin_with_the_first_answer(world: World, pair: list[Life]) -> None:
    """Against the logs, row by row."""
    told, logs = pair[0].told, pa.concat_tables([day.events for day in pair[0].logs])
    user = int(told.user[len(told.user) // 2])
    mine = logs.filter(
        (pc.field("user_id") == user + USER_BASE)
        & (pc.field("ts") >= int(told.first[len(told.user) // 2]))
        & pc.is_in(pc.field("type"), pa.array(["play", "skip"]))
    )
    assert told.sums("starts")[len(told.user) // 2] == mine.num_rows
    minutes = (pc.sum(mine["ms_played"]).as_py() or 0) / 60_000
    assert told.sums("minutes")[len(told.user) // 2] == pytest.approx(minutes)
    pages = pa.concat_tables([day.exposures for day in pair[0].logs]).filter(pc.field("surface") == "home")
    assert told.sums("shown").sum() == pages.num_rows == told.shown[0].sum()


def test_an_experiments_file_is_run_and_its_truth_stands_beside(service: Home) -> None:
    read = read_experiment(MMR)
    found = simulate_experiment(service, read, days=4, workers=1)
    assert found.days == 4
    assert found.surfaces == ("home",)
    assert sum(found.analysis.units.values()) == found.listeners > 50
    assert {one.metric for one in found.held} == set(METRICS)
    assert found.analysis.metrics["listens_per_listener"].metric.role == "goal"
    assert found.analysis.metrics["skip_rate"].metric.margin == 0.02
    assert found.broken_guarantees == 0
    page = page_of(found)
    assert page.index("What is true") < page.index("First: is the ratio of units right?")
    assert "http" not in page.replace("http-equiv", "")


def test_a_side_that_is_plainly_worse_is_found_by_interleaving(service: Home, tmp_path: Path) -> None:
    """And the home that lived it says so too, off-policy estimates leaving its pages out."""
    variants = {"worse": Variant(set=UPSIDE_DOWN.set, interleave="competing-pairs")}
    metrics = Metrics(("listens_per_exposure",))
    read = msgspec.structs.replace(read_experiment(SHARED), variants=variants, metrics=metrics, share=0.7)
    found = simulate_interleaving(service, read, days=5, workers=1, into=tmp_path / "lived")
    one = found.preferences.preferences["worse"]["listens_per_exposure"]
    assert (one.verdict, one.fair) == ("control", True)
    assert found.preferences.decision.verdict == "stop"
    assert found.truth["worse"]["listens_per_exposure"].effect < 0
    assert found.broken_guarantees == 0
    home = Home(tmp_path / "lived", service.settings)
    kept = home.experiments.get(read.name)
    assert (kept.experiment.ends - kept.experiment.starts).days == 5
    shown = home.engine.collect(home.engine.read(EXPOSURES, Days(kept.experiment.starts, date.max)))
    pages = shown.filter(pc.field("surface") == "home")
    shared = pages.filter(pc.field("variants").is_valid())
    assert 0 < shared.num_rows < pages.num_rows
    assert shared["propensity"].null_count == shared.num_rows
    assert shared["team"].null_count == 0
    assert set(shared["team"].to_pylist()) == {"control", "treatment", "neither"}
    rest = pages.filter(~pc.field("variants").is_valid())
    assert (rest["team"].null_count, rest["propensity"].null_count) == (rest.num_rows, 0)
    again = preferences(home.engine, kept, ("home",), as_of(home))
    assert again == found.preferences
    home.engine.close()
    with pytest.raises(InvalidInput, match="is there already"):
        simulate_interleaving(service, read, days=1, workers=1, into=tmp_path)


def test_only_those_aimed_at_are_in_it(service: Home, world: World) -> None:
    read = msgspec.structs.replace(
        read_experiment(MMR), targeting=Targeting(countries=("US", "DE"), plans=("free",), consent=True)
    )
    ab, _ = lived(service, read, None, 3, 1, 1, lambda done, of: None)
    rows = world.catalogue.listeners.filter(pc.is_in(pc.field("user_id"), ab.units["unit"].combine_chunks()))
    assert 0 < rows.num_rows == ab.units.num_rows < 0.5 * world.config.listeners
    assert set(rows["country"].to_pylist()) <= {"US", "DE"}
    assert rows["plan"].unique().to_pylist() == ["free"]
    assert rows["personalization_consent"].unique().to_pylist() == [True]


def test_what_cannot_be_simulated_is_refused(service: Home, tmp_path: Path) -> None:
    read = read_experiment(MMR)
    metrics = msgspec.structs.replace(read.metrics, goals=("listens_per_exposure",), guardrails={})
    by_request = msgspec.structs.replace(read, unit="request", metrics=metrics)
    with pytest.raises(InvalidInput, match="only listeners live twice"):
        simulate_experiment(service, by_request)
    with pytest.raises(InvalidInput, match="--days"):
        simulate_experiment(service, read, days=0)
    with pytest.raises(InvalidInput, match="1 at least"):
        simulate_experiment(service, read, days=1, listeners=0, workers=1)
    latency = msgspec.structs.replace(read.metrics, goals=("latency_ms",), guardrails={})
    with pytest.raises(InvalidInput, match="a simulation has none of latency_ms"):
        simulate_experiment(service, msgspec.structs.replace(read, metrics=latency), days=1, workers=1)
    with pytest.raises(NotFound, match="no simulated service"):
        simulate_experiment(Home.open(tmp_path, environ={}), read)


def test_gini() -> None:
    assert gini(np.array([3, 3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)


def test_states_of_others_are_not_kept(world: World) -> None:
    wanted = np.zeros(world.config.listeners, np.bool_)
    states = world.states(wanted)
    world.live([CONTROL], everybody(world, -1), Plan(("home",), 1), states=states)
    assert isinstance(states, States)
    before = world.home.state.read(USER_BASE)
    assert (states.read(USER_BASE) is None) == (before is None)
    assert world.config.first + timedelta(days=world.config.days - 1) == world.config.end
