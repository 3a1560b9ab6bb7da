"""Experiments in the request path: who gets what, who answers, what is logged, and what if a variant cannot be given."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tomli_w
from test_platform import again, wait

from segue.contracts.errors import InvalidInput, Unavailable
from segue.contracts.experiments import Experiment, Metrics, Targeting, Variant
from segue.contracts.ids import format_id, parse_id
from segue.events.records import EXPOSURES_TOPIC, decode_exposures
from segue.experiments.assignment import Split, place, slice_of, slot
from segue.listener.state import ListenerState
from segue.recommend.api import Request
from segue.settings import Settings
from segue.wiring.exposures import exposure_of
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform
from segue.wiring.trials import Asked, Given, Trials

NOW = 1_795_305_600_000_000
DAY = datetime.fromtimestamp(NOW / 1e6, UTC).date()
SETTINGS = Settings()
DIVERSE = {"control": Variant(), "treatment": Variant(set={"surfaces.home.selector.diversity": 0.9})}
USERS = range(200)


def experiment(name: str = "diverse", day: date = DAY, **known: Any) -> Experiment:
    return msgspec.structs.replace(
        Experiment(
            name=name,
            layer="home",
            starts=day - timedelta(days=1),
            ends=day + timedelta(days=2),
            variants=DIVERSE,
            metrics=Metrics(goals=("listens_per_exposure",)),
        ),
        **known,
    )


def given(
    *experiments: Experiment, read: Any = lambda user: pytest.fail("state is read"), **request: Any
) -> Given:
    asked = Request(**({"surface": "home", "now": NOW} | request))
    return Trials(experiments, SETTINGS).given(Asked(asked, None, read))  # type: ignore[arg-type]


def test_a_listener_gets_the_variant_of_the_pure_function() -> None:
    one = experiment(share=0.6)
    names = {user: Split.of(one).variant(str(user)) for user in USERS}
    assert set(names.values()) == {None, "control", "treatment"}
    for user, name in names.items():
        found = given(one, user_id=user)
        assert found.variants == ({} if name is None else {"diverse": name})
        assert found.treatments == ((("diverse", "treatment"),) if name == "treatment" else ())


def test_a_stranger_is_in_no_experiment_of_listeners() -> None:
    assert given(experiment()) == Given()


def test_only_on_its_surfaces_and_days() -> None:
    one = experiment()
    begins, ends = (
        int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp()) * 1_000_000
        for d in (one.starts, one.ends)
    )
    for now, inside in ((begins - 1, False), (begins, True), (ends - 1, True), (ends, False)):
        assert bool(given(one, user_id=1, now=now).variants) == inside
    assert given(one, user_id=1, surface="station").variants == {}


def test_layers_cross_and_slices_do_not() -> None:
    fresh = {"control": Variant(), "b": Variant(set={"surfaces.home.sources.fresh.limit": 100})}
    crowd = [
        experiment("left", share=0.5),
        experiment("right", share=0.5, offset=0.5),
        experiment("fresh", layer="fresh", variants=fresh),
    ]
    found = [given(*crowd, user_id=user).variants for user in USERS]
    assert all("fresh" in one and ("left" in one) != ("right" in one) for one in found)
    pairs = {(one["fresh"], one.get("left"), one.get("right")) for one in found}
    assert len(pairs) == 8


def test_a_thousand_experiments_of_a_layer_are_each_found_by_their_places() -> None:
    count = 1_000
    crowd = [
        experiment(
            f"e-{n}",
            share=0.0009,
            offset=n / count,
            variants={"control": Variant(), "b": Variant()},
            surfaces=("home",),
        )
        for n in range(count)
    ]
    trials = Trials(crowd, SETTINGS)
    inside = 0
    for user in range(500):
        found = trials.given(Asked(Request("home", user_id=user, now=NOW), None, lambda _: None)).variants  # type: ignore[arg-type]
        at = place("home", str(user))
        wanted = [one for one in crowd if at in slice_of(one)]
        assert found == {one.name: Split.of(one).variant(str(user)) for one in wanted}
        inside += len(found)
    assert 400 < inside < 490


def test_a_layer_may_get_units_of_another_kind_behind_what_is_over() -> None:
    """Both are known to a server that started before the first ended."""
    first = experiment("first", ends=DAY)
    then = experiment("then", starts=DAY, unit="session")
    found = given(first, then, user_id=4, session_id=9).variants
    assert found == {"then": f"{Split.of(then).variant('4:9')}@4:9"}
    assert given(first, then, user_id=4, session_id=9, now=NOW - 86_400_000_000).variants.keys() == {"first"}


def test_who_is_held_out_is_in_nothing_else() -> None:
    held = experiment("held", layer="holdout", share=0.3, variants={"control": Variant()})
    found = {user: given(held, experiment(), user_id=user).variants for user in USERS}
    assert {tuple(one) for one in found.values()} == {("held",), ("diverse",)}
    for user, one in found.items():
        assert ("held" in one) == (Split.of(held).variant(str(user)) is not None)


def test_targeting_reads_the_listener_once_and_the_answer_sees_the_same() -> None:
    reads: list[int] = []
    free = ListenerState(7, country="DE", plan="free")

    def read(user: int) -> ListenerState:
        reads.append(user)
        return free

    of_plan = experiment("plan", targeting=Targeting(plans=("free",), consent=True))
    country = experiment("country", layer="other", targeting=Targeting(countries=("DE", "FR")))
    found = given(of_plan, country, user_id=7, read=read)
    assert set(found.variants) == {"plan", "country"}
    assert reads == [7]
    assert found.read_state is not None
    assert found.read_state(7) is free
    for unfit in (Targeting(countries=("FR",)), Targeting(plans=("premium",)), Targeting(consent=False)):
        assert given(experiment(targeting=unfit), user_id=7, read=read).variants == {}
    assert given(experiment(), user_id=7).variants.keys() == {"diverse"}


def test_a_listener_who_cannot_be_read_is_in_no_experiment_that_asks_who_they_are() -> None:
    def away(user: int) -> ListenerState:
        raise Unavailable("gone")

    found = given(experiment(targeting=Targeting(plans=("free",))), user_id=7, read=away)
    assert (found.variants, found.read_state) == ({}, None)


def test_a_strangers_country_is_the_requests() -> None:
    german = experiment(unit="request", targeting=Targeting(countries=("DE",)))
    assert given(german, country="DE").variants.keys() == {"diverse"}
    assert given(german, country="FR").variants == {}


def test_other_units() -> None:
    one = given(experiment(unit="request"))
    assert one.request_id is not None
    wanted = Split.of(experiment()).variant(format_id(one.request_id))
    assert one.variants == {"diverse": wanted}
    slots = experiment(unit="switchback", slot_minutes=60)
    found = {now: given(slots, now=now).variants["diverse"] for now in range(NOW, NOW + 10**11, 10**9)}
    assert all(name == Split.of(slots).variant(str(slot(now, 60))) for now, name in found.items())
    assert set(found.values()) == {"control", "treatment"}
    sessions = experiment(unit="session")
    assert given(sessions, user_id=4).variants == {}
    wanted = Split.of(sessions).variant("4:9")
    assert given(sessions, user_id=4, session_id=9).variants == {"diverse": f"{wanted}@4:9"}
    artists = experiment(unit="artist", surfaces=("home", "station"))
    wanted = Split.of(artists).variant("12")
    assert given(artists, surface="station", artist_id=12).variants == {"diverse": f"{wanted}@12"}
    assert given(artists).variants == {}


def test_an_answer_is_of_the_moment_that_its_slot_was_drawn_for() -> None:
    """Whatever time passes while the answer is made: else a slot's last answers would be logged in the next one."""
    asked = Asked(Request("home"), None, None)  # type: ignore[arg-type]
    time.sleep(0.001)
    assert asked.request.now == asked.now < time.time_ns() // 1000


def test_a_variant_that_is_asked_for_is_given_and_marked() -> None:
    small = experiment(share=0.000_001, offset=0.5)
    found = given(small, variants={"diverse": "treatment"})
    assert (found.variants, found.treatments) == (
        {"diverse": "forced:treatment"},
        (("diverse", "treatment"),),
    )
    rest = experiment("rest", share=0.4)
    both = {"diverse": "control", "rest": "control"}
    assert given(small, rest, user_id=3, variants={"diverse": "control"}).variants == {
        "diverse": "forced:control"
    }
    with pytest.raises(InvalidInput, match="diverse and rest are of one layer"):
        given(small, rest, user_id=3, variants=both)
    for asked, said in (({"diverse": "c"}, "no variant 'c'; it has control, treatment"), ({"x": "c"}, "'x'")):
        with pytest.raises(InvalidInput, match=said):
            given(small, variants=asked)


@pytest.fixture
def home(service: Home, tmp_path: Path) -> Home:
    """A copy of the published service."""
    shutil.copytree(service.root, tmp_path / "home")
    return Home(tmp_path / "home", service.settings)


@pytest.fixture
def platform(home: Home) -> Iterator[HomePlatform]:
    opened = HomePlatform(home)
    yield opened
    opened.close()


def today() -> date:
    return datetime.now(UTC).date()


def put(platform: HomePlatform, one: Experiment) -> None:
    platform.put_experiment(one.name, msgspec.json.encode(one))


def users_of(one: Experiment) -> dict[str, int]:
    """A listener of each variant."""
    split = Split.of(one)
    found = split.column(np.arange(200))
    return {name: int(np.flatnonzero(found == at)[0]) for at, name in enumerate(split.names)}


def page(platform: HomePlatform, user: int, surface: str = "home", **known: Any) -> Any:
    return platform.recommend(Request(surface=surface, user_id=user, k=15, seed=1, **known))


def test_a_variant_answers_its_units_is_logged_and_stops(home: Home, platform: HomePlatform) -> None:
    one = experiment(day=today())
    user = users_of(one)
    before = {name: page(platform, user[name]) for name in user}
    put(platform, one)
    wait(lambda: page(platform, user["treatment"]).trace.variants != {})
    after = {name: page(platform, user[name]) for name in user}
    assert {name: page.trace.variants for name, page in after.items()} == {n: {"diverse": n} for n in user}
    assert after["control"].config == before["control"].config != after["treatment"].config
    tracks = {n: [[i.track_id for i in p[n].items] for p in (before, after)] for n in user}
    assert tracks["control"][0] == tracks["control"][1]
    assert tracks["treatment"][0] != tracks["treatment"][1]
    assert (
        page(platform, user["treatment"], "next-up", session=(tracks["control"][0][0],)).trace.variants == {}
    )
    forced = page(platform, user["control"], variants={"diverse": "treatment"})
    assert (forced.trace.variants, forced.config) == (
        {"diverse": "forced:treatment"},
        after["treatment"].config,
    )
    platform.stop_experiment("diverse")
    wait(lambda: page(platform, user["treatment"]).trace.variants == {})
    assert page(platform, user["treatment"]).config == before["treatment"].config
    last = page(platform, user["control"]).request_id
    wait(lambda: parse_id(last) in b"".join(home.log.read(EXPOSURES_TOPIC, 0, 1_000).records))
    rows, _, _ = decode_exposures(home.log.read(EXPOSURES_TOPIC, 0, 1_000).records)
    kept = {
        (row["user_id"], row["surface"], row["variants"])
        for row in rows.select(["user_id", "surface", "variants"]).to_pylist()
    }
    assert kept >= {
        (user["control"], "home", None),
        (user["control"], "home", '{"diverse":"control"}'),
        (user["treatment"], "home", '{"diverse":"treatment"}'),
        (user["control"], "home", '{"diverse":"forced:treatment"}'),
    }
    assert {text for _, surface, text in kept if surface != "home"} == {None}
    assert all(us > 0 for us in rows["took_us"].to_pylist())


def test_a_variant_may_be_another_bundle_which_follows_the_catalogue_too(
    home: Home, platform: HomePlatform
) -> None:
    other = again(home.bundles, "other")
    one = experiment(day=today(), variants={"control": Variant(), "treatment": Variant(bundle=other)})
    user, champion = users_of(one), platform.bundle_version()
    put(platform, one)
    wait(lambda: page(platform, user["treatment"]).bundle == other)
    answered = page(platform, user["control"])
    assert (answered.bundle, answered.trace.variants) == (champion, {"diverse": "control"})
    gone = page(platform, user["treatment"]).items[0].track_id
    platform.remove_track(gone).result(10)
    assert gone not in [item.track_id for item in page(platform, user["treatment"]).items]
    home.bundles.publish(other)
    wait(lambda: platform.bundle_version() == other)
    assert page(platform, user["treatment"]).trace.variants == {"diverse": "treatment"}
    assert gone not in [item.track_id for item in page(platform, user["treatment"]).items]
    assert platform.health().degraded == {}


def test_a_bundle_that_does_not_open_costs_its_units_the_treatment_and_is_told(
    home: Home, platform: HomePlatform
) -> None:
    bad = again(home.bundles, "bad")
    biggest = max((home.bundles.root / bad).rglob("*.npy"), key=lambda path: path.stat().st_size)
    one = experiment(day=today(), variants={"control": Variant(), "treatment": Variant(bundle=bad)})
    user, champion = users_of(one), platform.bundle_version()
    biggest.write_bytes(biggest.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidInput, match=r"variants.treatment.bundle: .*SHA-256 differs"):
        put(platform, one)
    home.experiments.root.mkdir(exist_ok=True)
    (home.experiments.root / "diverse.toml").write_text(_toml(one))  # put there before its bundle was damaged
    wait(lambda: page(platform, user["treatment"]).trace.variants != {})
    answered = page(platform, user["treatment"])
    assert (answered.bundle, answered.trace.variants) == (champion, {"diverse": "failed:treatment"})
    assert page(platform, user["control"]).trace.variants == {"diverse": "control"}
    assert f"diverse:treatment: bundle {bad} is not open" in platform.health().degraded["experiments"]


def _toml(one: Experiment) -> str:
    return tomli_w.dumps(msgspec.to_builtins(one, builtin_types=(date,)))


def test_files_that_clash_or_cannot_be_read_harm_no_other(home: Home, platform: HomePlatform) -> None:
    put(platform, experiment("first", day=today()))
    home.experiments.root.joinpath("second.toml").write_text(_toml(experiment("second", day=today())))
    home.experiments.root.joinpath("third.toml").write_text("name = 3")
    wait(lambda: "experiments" in platform.health().degraded)
    said = platform.health().degraded["experiments"]
    assert "experiments first and second: their slices of layer home overlap" in said
    assert "third.toml" in said
    assert page(platform, 5).trace.variants.keys() == {"first"}


def test_a_new_champion_keeps_the_experiments(home: Home, platform: HomePlatform) -> None:
    one = experiment(day=today())
    user = users_of(one)["treatment"]
    put(platform, one)
    wait(lambda: page(platform, user).trace.variants != {})
    after = again(home.bundles, "b")
    home.bundles.publish(after)
    seen = set()
    deadline = time.monotonic() + 20
    while platform.bundle_version() != after and time.monotonic() < deadline:
        seen.add(tuple(page(platform, user).trace.variants.items()))
    answered = page(platform, user)
    assert (answered.bundle, answered.trace.variants) == (after, {"diverse": "treatment"})
    assert seen <= {(("diverse", "treatment"),)}


def test_a_treatment_that_fails_costs_its_unit_the_treatment_and_not_the_answer(
    platform: HomePlatform,
) -> None:
    one = experiment(day=today())
    put(platform, one)
    user = users_of(one)["treatment"]
    wait(lambda: page(platform, user).trace.variants != {})
    variants = platform._variants
    assert variants is not None
    variants._made[(("diverse", "treatment"),)].answer = _gone  # type: ignore[method-assign]
    answered = page(platform, user)
    assert answered.trace.variants == {"diverse": "failed:treatment"}
    assert answered.config == page(platform, users_of(one)["control"]).config
    with pytest.raises(InvalidInput, match="k: 100000 is out of range"):
        platform.recommend(Request("home", user, k=100_000))


def test_combinations_that_are_kept_are_bounded(
    platform: HomePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.wiring.variants.KEPT", 3)
    selector = "surfaces.home.selector"
    names = {
        "diversity": {f"{selector}.diversity": 0.9},
        "explore": {f"{selector}.explore": 1.0},
        "explore-pool": {f"{selector}.explore_pool": 9},
    }
    for name, change in names.items():
        changes = {"treatment": Variant(set=change), "control": Variant()}
        put(platform, experiment(name, layer=name, day=today(), variants=changes))
    wait(lambda: len(page(platform, 5).trace.variants) == len(names))
    for chosen in ({"diversity"}, {"explore"}, {"explore-pool"}, {"diversity", "explore"}, set(names)):
        answered = page(platform, 5, variants={n: "treatment" if n in chosen else "control" for n in names})
        changed = {n for n, variant in answered.trace.variants.items() if variant == "forced:treatment"}
        assert changed == chosen
    assert platform._variants is not None
    assert len(platform._variants._made) <= 3


def _gone(request: Request, **known: Any) -> Any:
    raise Unavailable("gone")


SHARED = {"treatment": Variant(set={"surfaces.home.selector.diversity": 0.9}, interleave="competing-pairs")}


def test_an_interleaved_page_is_logged_with_its_teams_and_without_propensities(
    home: Home, platform: HomePlatform
) -> None:
    one = experiment("shared", day=today(), variants=SHARED, share=0.5)
    column = Split.of(one).column(np.arange(200))
    inside, outside = (int(np.flatnonzero(column == at)[0]) for at in (0, -1))
    put(platform, one)
    wait(lambda: page(platform, inside).trace.variants != {})
    shared, plain = page(platform, inside), page(platform, outside)
    assert shared.trace.variants == {"shared": "treatment"}
    assert {item.team for item in shared.items} == {"control", "treatment", "neither"}
    assert {item.team for item in plain.items} == {None}
    assert page(platform, inside).items == shared.items
    last = plain.request_id
    wait(lambda: parse_id(last) in b"".join(home.log.read(EXPOSURES_TOPIC, 0, 1_000).records))
    rows, _, _ = decode_exposures(home.log.read(EXPOSURES_TOPIC, 0, 1_000).records)
    kept = {
        i: [r for r in rows.to_pylist() if r["request_id"] == parse_id(i)] for i in (shared.request_id, last)
    }
    slots = [item for shelf in shared.shelves for item in shelf.items]
    assert [(r["track_id"], r["team"]) for r in kept[shared.request_id]] == [
        (i.track_id, i.team) for i in slots
    ]
    assert {(r["propensity"], r["features"]) for r in kept[shared.request_id]} == {(None, None)}
    assert exposure_of(platform.answer(Request("home", inside, k=15)), losers=9).lost is None
    assert all(r["propensity"] > 0 and r["team"] is None for r in kept[last])


def test_an_interleaved_variant_is_beside_what_other_layers_change(platform: HomePlatform) -> None:
    """Both sides of the page have it: it is the request's, not the treatment's."""
    fresh = {"treatment": Variant(set={"surfaces.home.selector.explore": 1.0}), "control": Variant()}
    put(platform, experiment("shared", day=today(), variants=SHARED))
    put(platform, experiment("explores", layer="other", day=today(), variants=fresh))
    user = users_of(experiment("explores", layer="other", variants=fresh))["treatment"]
    wait(lambda: len(page(platform, user).trace.variants) == 2)
    alone = platform.recommend(Request("home", user, k=15, seed=1, variants={"shared": "treatment"}))
    both = page(platform, user)
    assert alone.trace.variants == {"shared": "forced:treatment", "explores": "treatment"}
    assert alone.items == both.items
    reached = {item.track_id for item in page(platform, user, variants={"explores": "control"}).items}
    assert (
        len(reached & {item.track_id for item in both.items}) < 8
    )  # nearly every slot was drawn, on both sides


def test_a_side_that_cannot_answer_leaves_the_page_to_the_other(platform: HomePlatform) -> None:
    one = experiment("shared", day=today(), variants=SHARED)
    put(platform, one)
    wait(lambda: page(platform, 5).trace.variants != {})
    variants = platform._variants
    assert variants is not None
    plain = page(platform, 5, variants={}).items

    variants._made[(("shared", "treatment"),)].answer = _gone  # type: ignore[method-assign]
    answered = page(platform, 5)
    assert answered.trace.variants == {"shared": "failed:treatment"}
    assert {item.team for item in answered.items} == {None}
    assert (
        answered.items == variants.champion.recommend(Request("home", 5, k=15, seed=1, now=answered.ts)).items
    )
    assert plain != ()
