"""The skew report over a replayed day: a platform answers while events flow in, the day lands, every value is accounted for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from click.testing import Result
from typer.testing import CliRunner

from segue.cli.main import app
from segue.contracts.errors import NotFound
from segue.contracts.ports import Days
from segue.contracts.tables import LISTENERS, TRACKS
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SECOND
from segue.events.landing import land, land_candidates, land_exposures
from segue.features import FEATURES
from segue.features.online import Moment
from segue.flows.ledger import Ledger
from segue.flows.steps import BUILD
from segue.monitoring.skew import UNEXPLAINED, SkewReport, skew
from segue.recommend.api import Request
from segue.wiring.flow import runner_of
from segue.wiring.follower import TOPIC, group_of
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform

# Why: ibis 12 calls what DuckDB 1.5 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")

TODAY = int(np.datetime64("2026-11-22", "us").astype(int))
"""The first day of service: the bundle's events end the day before."""
FIRST = Days(date(2026, 11, 22), date(2026, 11, 22))
SECOND_DAY = Days(date(2026, 11, 23), date(2026, 11, 23))
DAILY = {name for name, feature in FEATURES.items() if feature.entity.daily}
NEWCOMER = 4_000_000


class Service:
    """A platform that answers at moments we choose."""

    def __init__(self, home: Home, clock: SimpleNamespace) -> None:
        self.home = home
        self._clock = clock
        self._platform = HomePlatform(home)

    def send(self, now: int, *events: dict[str, Any]) -> None:
        """Take events in at a moment, and let listener state know them."""
        self._clock.now = now
        receipt = self._platform.ingest(msgspec.json.encode(events), "application/json")
        receipt.acknowledged.result(30)
        assert {result.status for result in receipt.results} == {"accepted"}
        group = group_of(self.home.settings.state)
        while (self.home.log.committed(TOPIC, group) or 0) < self.home.log.end(TOPIC):  # type: ignore[attr-defined]
            pass

    def ask(self, now: int, surface: str, user: int) -> list[int]:
        """Tracks shown at a moment."""
        answer = self._platform.recommend(Request(surface=surface, user_id=user, k=20, now=now))
        return [item.track_id for item in answer.items]

    def close(self) -> None:
        """Have the exposures written."""
        self._platform.close()


@contextmanager
def served(home: Home) -> Iterator[Service]:
    """A platform over the home, whose clock is ours; afterwards everything lands and the tables are built."""
    clock = SimpleNamespace(now=TODAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segue.wiring.platform.time", SimpleNamespace(time_ns=lambda: clock.now * 1000))
        service = Service(home, clock)
        try:
            yield service
        finally:
            service.close()
    ledger = Ledger(home.engine)
    for landing in (land_exposures, land_candidates, land):
        landing(home.log, home.engine, now=TODAY + 3 * DAY, on_landed=ledger.record_landing)
    list(runner_of(home).run([step.name for step in BUILD]))


def listen(service: Service, user: int, now: int, dice: np.random.Generator) -> int:
    """A session: what is shown is played, skipped, liked; the queue is asked for after each. Returns when it ends."""
    shown = service.ask(now, "home", user)
    for _ in range(5):
        track = int(dice.choice(shown))
        heard = int(dice.integers(2, 200)) * SECOND
        event = {"user_id": user, "track_id": track, "ts": now + SECOND, "type": "play"}
        liked = [event | {"type": "like", "ts": now + heard}] if dice.random() < 0.4 else []
        now += heard + 2 * SECOND
        service.send(now, event | {"ms_played": heard // 1000}, *liked)
        now += 3 * SECOND
        shown = service.ask(now, "next-up", user) or shown
    return now


@pytest.fixture(scope="module")
def home(service: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two days of service: listening through the first and some of the second; on the first, one device was offline for hours."""
    root = tmp_path_factory.mktemp("skew") / "home"
    shutil.copytree(service.root, root)
    few = msgspec.structs.replace(service.settings.serving, log_losers=15)
    # A handful of listeners in a test is less than the days before had.
    unwatched = msgspec.structs.replace(service.settings.warehouse, expect=False)
    made = Home(root, msgspec.structs.replace(service.settings, serving=few, warehouse=unwatched))
    dice = np.random.default_rng(6)
    consenting = [u for u in made.state.sample(10_000) if personal(made, u)]
    with served(made) as platform:
        for user, hour in zip(consenting[:8], range(1, 24, 3), strict=True):
            end = listen(platform, user, TODAY + hour * HOUR, dice)
            listen(platform, user, end + 20 * MINUTE, dice)
            listen(platform, user, end + 4 * HOUR, dice)
        offline, now = consenting[9], TODAY + 10 * HOUR
        shown = platform.ask(now, "home", offline)
        late = [
            {"user_id": offline, "track_id": t, "ts": now + n * MINUTE, "type": "play"}
            for n, t in enumerate(shown[:4])
        ]
        platform.ask(now + 2 * HOUR, "home", offline)
        platform.send(now + 3 * HOUR, *late)
        platform.ask(now + 4 * HOUR, "home", offline)
        listen(platform, NEWCOMER, TODAY + 5 * HOUR, dice)
        for user in consenting[10:13]:
            listen(platform, user, TODAY + DAY + 8 * HOUR, dice)
    return made


def personal(home: Home, user: int) -> bool:
    """Whether a ranker answers them: they consent, and have listened."""
    state = home.state.read(user)
    return state is not None and state.consent and bool(state.plays["listened"].any())


def report(home: Home, days: Days = FIRST) -> SkewReport:
    return skew(home.engine, home.bundles, home.settings, days)


def causes(found: SkewReport) -> dict[str, set[str]]:
    """Cause -> the features it was found for."""
    every = {cause for f in found.features for cause in f.causes}
    return {cause: {f.feature for f in found.features if cause in f.causes} for cause in every}


def test_a_day_of_service_is_equal_but_for_what_came_late(home: Home) -> None:
    found = report(home)
    assert found.worst == 0
    assert found.left_out == {}
    assert found.vectors > 3_000
    assert {f.feature for f in found.features} == {
        n for n, f in FEATURES.items() if f.entity.name != "candidate"
    }
    assert {f.compared for f in found.features} == {found.vectors}
    by = causes(found)
    assert set(by) == {"late"}
    assert {"listener_plays_1d", "listener_minutes_since_play_90d"} <= by["late"]
    assert not by["late"] & DAILY
    asked_meanwhile = {f.example.request_id for f in found.features if f.example is not None}
    assert len(asked_meanwhile) == 1


def test_on_the_second_day_the_snapshot_is_stale_and_nothing_else(home: Home) -> None:
    found = report(home, SECOND_DAY)
    assert found.worst == 0
    by = causes(found)
    assert set(by) == {"snapshot"}
    assert by["snapshot"] <= DAILY
    assert {"track_plays_1d", "artist_plays_28d", "track_age_days"} <= by["snapshot"]


def test_a_changed_definition_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, other in (
        ("listener_session_skips_1d", "listener_session_plays_1d"),
        ("track_likes_7d", "track_likes_28d"),
    ):
        monkeypatch.setitem(FEATURES, name, replace(FEATURES[name], value=FEATURES[other].value))
    found = report(home)
    worst = [f for f in found.features if f.unexplained]
    assert {f.feature for f in worst} == {"listener_session_skips_1d", "track_likes_7d"}
    assert list(found.features[: len(worst)]) == worst
    example = worst[0].example
    assert example is not None
    assert example.cause == UNEXPLAINED
    assert worst[0].largest == abs(example.logged - example.recomputed) > 0


def test_a_shifted_clock_is_found(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(home.root, tmp_path / "home")
    copy = Home(tmp_path / "home", home.settings)
    monkeypatch.setattr("segue.recommend.features.Moment", lambda now, surface: Moment(now + HOUR, surface))
    user = next(u for u in copy.state.sample(10_000) if personal(copy, u))
    with served(copy) as platform:
        platform.ask(TODAY + 2 * DAY + HOUR, "home", user)
    found = report(copy, Days(date(2026, 11, 24), date(2026, 11, 24)))
    wrong = {f.feature for f in found.features if f.unexplained == f.compared}
    assert {"context_hour", "listener_minutes_since_play_90d"} <= wrong
    assert not wrong & DAILY


def test_what_changed_since_is_told_from_a_fault(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.root, tmp_path / "home")
    copy = Home(tmp_path / "home", home.settings)
    tracks = copy.engine.collect(copy.engine.read(TRACKS))
    longer = pa.compute.add(tracks["duration_ms"], 1000).cast(pa.int32())
    tracks = tracks.set_column(tracks.schema.get_field_index("duration_ms"), "duration_ms", longer)
    copy.engine.overwrite(TRACKS, tracks)
    listeners = copy.engine.collect(copy.engine.read(LISTENERS)).to_pylist()
    for row in listeners:
        if row["user_id"] == NEWCOMER:
            row["joined_at"] = TODAY
    copy.engine.overwrite(LISTENERS, pa.Table.from_pylist(listeners, LISTENERS.arrow))
    found = report(copy)
    assert found.worst == 0
    by = causes(found)
    assert by["catalogue"] == {"track_duration_s"}
    assert by["profile"] == {"listener_age_days"}


def test_counts_that_grew_behind_the_bundle_are_told_from_a_fault(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.root, tmp_path / "home")
    copy = Home(tmp_path / "home", home.settings)
    track = copy.engine.collect(copy.engine.read(TRACKS).select("track_id").limit(1))["track_id"][0].as_py()
    with served(copy) as platform:
        made = copy.bundles.open().manifest.created_at
        for user in copy.state.sample(40):
            platform.send(
                made + DAY, {"user_id": user, "track_id": track, "ts": TODAY - HOUR, "type": "play"}
            )
    found = report(copy)
    assert found.worst == 0
    assert "track_plays_1d" in causes(found)["late"]


def test_a_bundle_that_is_gone_is_said_and_nothing_is_made_up(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.root, tmp_path / "home")
    copy = Home(tmp_path / "home", home.settings)
    version = copy.bundles.current()
    shutil.rmtree(copy.bundles.root / str(version))
    found = report(copy)
    assert found.features == ()
    assert found.left_out == {f"bundle {version} was removed": found.vectors}


def test_the_command_says_what_differs_and_ends_by_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["features", "skew", "--home", str(home.root), *arguments])

    told = said("--days", "1")
    assert told.exit_code == 0, told.stderr
    assert "track_age_days: request " in told.stdout
    assert "snapshot 100%" in told.stdout
    assert "snapshot: the bundle's daily snapshot is of another day" in told.stdout
    other = FEATURES["listener_session_plays_1d"]
    monkeypatch.setitem(
        FEATURES,
        "listener_session_skips_1d",
        replace(FEATURES["listener_session_skips_1d"], value=other.value),
    )
    bad = said("--days", "1")
    assert bad.exit_code == 3
    assert "listener_session_skips_1d differ without a cause" in bad.stderr
    assert bad.stdout.index("listener_session_skips_1d") < bad.stdout.index("track_plays_1d"), "worst first"
    allowed = said("--days", "1", "--allow", "1", "--json")
    assert allowed.exit_code == 0, allowed.stderr
    document = msgspec.json.decode(allowed.stdout)
    assert (document["first"], document["last"]) == ("2026-11-23", "2026-11-23")
    assert document["features"][0]["feature"] == "listener_session_skips_1d"
    assert document["features"][0]["example"]["request_id"] in bad.stdout


def test_without_vectors_it_says_what_to_do(home: Home) -> None:
    with pytest.raises(NotFound, match="log_sample_share"):
        report(home, Days(date(2026, 11, 20), date(2026, 11, 20)))
