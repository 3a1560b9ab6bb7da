"""A simulated history: contracts, references, guarantees, statistics, truth and repeatability."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from contract_check import CONFIG, check_contract

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.contracts.vocabulary import END_MS, LISTEN_MS, MINUTE, SESSION_GAP, Surface
from segue.simulation import (
    DayOfEvents,
    SimulationConfig,
    generate_catalogue,
    read_truth,
    simulate_days,
    truth_relevance,
)
from segue.simulation.catalogue import Catalogue
from segue.simulation.statistics import plays_of_events, statistics
from segue.simulation.taste import relevance
from segue.simulation.words import COUNTRIES

SMALL = SimulationConfig(tracks=600, artists=80, listeners=200, days=6, seed=3)


class History(NamedTuple):
    """A catalogue, its days, and all their rows joined with what the dimension tables say."""

    catalogue: Catalogue
    days: list[DayOfEvents]
    events: pa.Table
    exposures: pa.Table


@pytest.fixture(scope="module")
def history() -> History:
    catalogue = generate_catalogue(CONFIG)
    days = list(simulate_days(CONFIG, catalogue))
    return History(
        catalogue,
        days,
        pa.concat_tables([d.events for d in days]),
        pa.concat_tables([d.exposures for d in days]),
    )


def column(rows: pa.Table, name: str) -> npt.NDArray[np.generic]:
    return rows.column(name).to_numpy()


def with_tracks(rows: pa.Table, catalogue: Catalogue) -> pa.Table:
    """The rows that have a track, with the track's columns beside them."""
    rows = rows.append_column("row", pa.array(np.arange(rows.num_rows))).filter(
        pc.field("track_id").is_valid()
    )
    at = pa.array(column(rows, "track_id") - column(catalogue.tracks, "track_id")[0])
    found = catalogue.tracks.take(at)
    assert np.array_equal(column(found, "track_id"), column(rows, "track_id"))
    for name in ("uploaded_at", "public", "explicit", "blocked_countries", "duration_ms", "genre"):
        rows = rows.append_column(name, found.column(name).combine_chunks())
    return rows.append_column("true_artist", found.column("artist_id").combine_chunks())


def of_users(rows: pa.Table, catalogue: Catalogue, name: str) -> pa.ChunkedArray:
    at = column(rows, "user_id") - column(catalogue.listeners, "user_id")[0]
    assert at.min() >= 0
    assert at.max() < catalogue.listeners.num_rows
    return catalogue.listeners.column(name).take(pa.array(at))


def test_every_day_keeps_the_contracts(history: History) -> None:
    assert [d.day for d in history.days] == [CONFIG.first + timedelta(days=n) for n in range(CONFIG.days)]
    for number, day in enumerate(history.days):
        start = CONFIG.start_us + number * 86_400_000_000
        for rows, table in ((day.events, RAW_EVENTS), (day.exposures, EXPOSURES)):
            check_contract(rows, table)
            assert pc.unique(rows.column("day")).to_pylist() == [day.day]
            ts, user = column(rows, "ts"), column(rows, "user_id")
            assert ts.min() >= start
            assert ts.max() < start + 86_400_000_000
            ordered = (user[1:] > user[:-1]) | ((user[1:] == user[:-1]) & (ts[1:] >= ts[:-1]))
            assert ordered.all()


def test_size_is_as_promised(history: History) -> None:
    per_listener_day = history.events.num_rows / (CONFIG.listeners * CONFIG.days)
    assert 1.5e6 / (5_000 * 60) < per_listener_day < 2.5e6 / (5_000 * 60)


def test_event_ids_are_unique_version_7_and_carry_the_time(history: History) -> None:
    ids = history.events.column("event_id").combine_chunks()
    assert len(pc.unique(ids)) == len(ids)
    raw = np.frombuffer(b"".join(ids.slice(0, 5_000).to_pylist()), np.uint8).reshape(-1, 16)
    assert ((raw[:, 6] >> 4) == 7).all()
    milliseconds = raw[:, :6].astype(np.int64) @ (256 ** np.arange(5, -1, -1))
    assert np.array_equal(milliseconds, column(history.events, "ts")[:5_000] // 1_000)


def test_tracks_and_listeners_exist_before_they_appear(history: History) -> None:
    for rows in (history.events, history.exposures):
        joined = of_users(rows, history.catalogue, "joined_at").to_numpy()
        assert (column(rows, "ts") > joined).all()
        found = with_tracks(rows, history.catalogue)
        assert (column(found, "ts") >= column(found, "uploaded_at")).all()
    found = with_tracks(history.events, history.catalogue)
    assert np.array_equal(column(found, "artist_id"), column(found, "true_artist"))
    new = column(found, "uploaded_at") >= CONFIG.start_us
    assert new.sum() > 100  # uploads of the period find listeners


def test_guarantees_hold_everywhere(history: History) -> None:
    for rows in (history.events, history.exposures):
        found = with_tracks(rows, history.catalogue)
        assert column(found, "public").all()
        refused = ~of_users(found, history.catalogue, "explicit_ok").to_numpy(zero_copy_only=False)
        assert not (refused & column(found, "explicit")).any()
        assert column(found, "explicit").any()
        country = of_users(found, history.catalogue, "country").to_pylist()
        blocked = found.column("blocked_countries").to_pylist()
        assert not any(c in b for c, b in zip(country, blocked, strict=True))
        assert any(blocked)


@pytest.mark.parametrize(("mark", "what"), [("hide", "track_id"), ("block_artist", "true_artist")])
def test_never_again_means_never_again(history: History, mark: str, what: str) -> None:
    events = history.events
    marks = events.filter(pc.field("type") == mark)
    assert marks.num_rows > 3
    name = "track_id" if what == "track_id" else "artist_id"
    since = {
        (u, x): t
        for u, x, t in zip(*(marks.column(c).to_pylist() for c in ("user_id", name, "ts")), strict=True)
    }
    for rows in (events.filter(pc.field("type") != mark), history.exposures):
        found = with_tracks(rows, history.catalogue)
        later = [
            t > since[u, x]
            for u, x, t in zip(*(found.column(c).to_pylist() for c in ("user_id", what, "ts")), strict=True)
            if (u, x) in since
        ]
        assert not any(later)


def test_without_consent_no_history_is_read(history: History) -> None:
    home = history.exposures.filter(pc.field("surface") == str(Surface.HOME))
    consent = of_users(home, history.catalogue, "personalization_consent").to_numpy(zero_copy_only=False)
    tasted = np.array(["logged-taste" in s for s in home.column("sources").to_pylist()])
    assert (~consent).sum() > 100
    assert not tasted[~consent].any()
    assert tasted[consent].mean() > 0.4


def test_events_answer_exposures(history: History) -> None:
    shown = {
        (r, p): (u, t, s, at)
        for r, p, u, t, s, at in zip(
            *(
                history.exposures.column(c).to_pylist()
                for c in ("request_id", "position", "user_id", "track_id", "surface", "ts")
            ),
            strict=True,
        )
    }
    asked = history.events.filter(pc.field("request_id").is_valid() & pc.field("track_id").is_valid())
    names = ("request_id", "position", "user_id", "track_id", "surface", "ts")
    for r, p, u, t, s, at in zip(*(asked.column(c).to_pylist() for c in names), strict=True):
        exposed = shown[r, p]
        assert exposed[:3] == (u, t, s)
        assert at >= exposed[3]
    seen = asked.filter(pc.field("type") == "impression")
    assert seen.group_by(["request_id", "position"]).aggregate([]).num_rows == seen.num_rows
    assert {"home", "station", "next-up", "related"} == set(pc.unique(seen.column("surface")).to_pylist())
    unasked = history.events.filter(~pc.field("request_id").is_valid())
    assert set(pc.unique(unasked.column("surface")).to_pylist()) <= {None, "search"}


def test_slates_are_whole(history: History) -> None:
    slates = history.exposures.group_by("request_id").aggregate(
        [("position", "max"), ("position", "min"), ("position", "count"), ("track_id", "count_distinct")]
    )
    size = column(slates, "position_count")
    assert (column(slates, "position_min") == 0).all()
    assert np.array_equal(column(slates, "position_max") + 1, size)
    assert np.array_equal(column(slates, "track_id_count_distinct"), size)
    chance = column(history.exposures, "propensity")
    assert chance.min() > 0
    assert chance.max() <= 1


def test_positions_lower_down_are_seen_less(history: History) -> None:
    seen = history.events.filter((pc.field("type") == "impression") & (pc.field("surface") == "home"))
    count = np.bincount(column(seen, "position").astype(np.int64), minlength=12)
    assert (np.diff(count) < 0).all()
    assert count[6] < 0.6 * count[0]


def test_played_time_follows_the_rules(history: History) -> None:
    started = with_tracks(
        history.events.filter(pc.is_in(pc.field("type"), pa.array(["play", "skip"]))), history.catalogue
    )
    ms, duration = column(started, "ms_played"), column(started, "duration_ms")
    assert (ms >= 0).all()
    assert (ms <= duration).all()
    skipped = column(started.select(["type"]), "type") == "skip"
    assert (ms[skipped] < 5_000).all()
    listened = (ms >= LISTEN_MS) | (ms >= duration - END_MS)
    assert not listened[skipped].any()
    assert 0.1 < 1 - listened.mean() < 0.4
    assert (column(history.events, "received_at") >= column(history.events, "ts")).all()
    late = column(history.events, "received_at") - column(history.events, "ts") > 60 * MINUTE
    assert 0.001 < late.mean() < 0.03


def test_sessions_of_a_listener_are_apart(history: History) -> None:
    rows = history.events.sort_by([("user_id", "ascending"), ("ts", "ascending")])
    named = rows.filter(pc.field("session_id").is_valid())
    assert 0.85 < named.num_rows / rows.num_rows < 0.98
    ranges = named.group_by(["user_id", "session_id"]).aggregate([("ts", "min"), ("ts", "max")])
    ranges = ranges.sort_by([("user_id", "ascending"), ("ts_min", "ascending")])
    user = column(ranges, "user_id")
    same = user[1:] == user[:-1]
    apart = column(ranges, "ts_min")[1:] - column(ranges, "ts_max")[:-1]
    assert (apart[same] > SESSION_GAP).all()


def test_searches_name_what_is_opened(history: History) -> None:
    rows = history.events.filter(pc.field("surface") == "search")
    kind, query = rows.column("type").to_pylist(), rows.column("query").to_pylist()
    track = rows.column("track_id").to_pylist()
    texts = {
        t: (title.lower(), " ".join(tags))
        for t, title, tags in zip(
            *(history.catalogue.tracks.column(c).to_pylist() for c in ("track_id", "title", "tags")),
            strict=True,
        )
    }
    names = dict(
        zip(*(history.catalogue.artists.column(c).to_pylist() for c in ("artist_id", "name")), strict=True)
    )
    artist = rows.column("artist_id").to_pylist()
    found = 0
    for i in range(len(kind) - 1):
        if kind[i] == "search" and kind[i + 1] == "click":
            title, tags = texts[track[i + 1]]
            assert query[i] in title or query[i] in tags or query[i] == names[artist[i + 1]].lower()
            found += 1
    assert found > 100


def test_days_have_a_rhythm(history: History) -> None:
    plays = history.events.filter(pc.field("type") == "play")
    ahead = {c[0]: c[2] for c in COUNTRIES}
    hours = np.array([ahead[c] for c in plays.column("country").to_pylist()])
    local = ((column(plays, "ts") / 3.6e9 + hours) % 24).astype(int)
    share = np.bincount(local, minlength=24) / len(local)
    assert share[17:22].sum() > 2 * share[2:7].sum()


def test_statistics_are_near_real_listening(history: History) -> None:
    got = statistics(plays_of_events(history.events))
    assert 5 <= got.session_plays[2] <= 9
    assert 12 <= got.session_plays[4] <= 24
    assert 150 <= got.gap_seconds[2] <= 330
    assert 0.04 < got.repeats_in_session < 0.14
    assert 0.08 < got.top_1_percent < 0.25
    assert 0.35 < got.top_10_percent < 0.65
    plays = history.events.filter(pc.field("type") == "play").sort_by(
        [("user_id", "ascending"), ("ts", "ascending")]
    )
    user, track = column(plays, "user_id"), column(plays, "track_id")
    number = np.arange(len(user)) - np.searchsorted(user, user)
    early = number < 24  # as many as a listener of 30Music's sample has on average
    pairs = np.unique(user[early] * 10**8 + track[early])
    assert 0.10 < 1 - len(pairs) / early.sum() < 0.30


def test_activity_is_heavy_tailed(history: History) -> None:
    count = np.sort(np.bincount(column(history.events, "user_id").astype(np.int64)))[::-1]
    assert count[: len(count) // 10].sum() > 0.3 * count.sum()


def test_tracks_of_a_release_follow_each_other(history: History) -> None:
    plays = plays_of_events(history.events)
    release = history.catalogue.truth.track_release[plays.track - 1_000_001]
    together = (plays.session[1:] == plays.session[:-1]) & (plays.track[1:] != plays.track[:-1])
    next_one = (release[1:] == release[:-1])[together].mean()
    by_chance = (np.random.default_rng(0).permutation(release)[1:] == release[:-1])[together].mean()
    assert next_one > 0.08
    assert next_one > 20 * by_chance


def test_taste_decides_what_is_stayed_with(history: History) -> None:
    started = with_tracks(
        history.events.filter(pc.is_in(pc.field("type"), pa.array(["play", "skip"]))), history.catalogue
    )
    ids = [column(started, c) for c in ("user_id", "track_id", "ts")]
    ms, duration = column(started, "ms_played"), column(started, "duration_ms")
    listened = (ms >= LISTEN_MS) | (ms >= duration - END_MS)
    chance = history.catalogue.truth.listen_chance(*ids)
    fifths = np.array_split(np.argsort(chance), 5)
    rate = [listened[rows].mean() for rows in fifths]
    assert rate == sorted(rate)
    assert rate[-1] - rate[0] > 0.25


def test_an_oracle_of_taste_beats_popularity_by_far(history: History) -> None:
    truth, cut = history.catalogue.truth, CONFIG.end_us - 5 * 86_400_000_000
    plays = history.events.filter((pc.field("type") == "play") & (pc.field("ms_played") >= LISTEN_MS))
    user, track, ts = (column(plays, c) for c in ("user_id", "track_id", "ts"))
    popularity = np.bincount(track[ts < cut] - 1_000_001, minlength=CONFIG.tracks).astype(np.float32)
    fame = np.log1p(popularity)
    public = column(history.catalogue.tracks, "public")
    late = ts >= cut
    users = np.unique(user[late])[:300]
    scores = truth.scores(users, cut)
    hits = {"popular": 0, "oracle": 0, "both": 0}
    total = 0
    for row, u in enumerate(users):
        targets = np.unique(track[late & (user == u)]) - 1_000_001
        total += len(targets)
        for name, score in (
            ("popular", popularity),
            ("oracle", scores[row]),
            ("both", scores[row] + 0.5 * fame),
        ):
            top = np.argpartition(-np.where(public, score, -np.inf), 100)[:100]
            hits[name] += len(np.intersect1d(top, targets))
    assert hits["oracle"] > 1.5 * hits["popular"]
    assert hits["both"] > 2 * hits["popular"]
    assert total > 1_000


def test_truth_is_the_kernels_relevance(history: History) -> None:
    rng = np.random.default_rng(5)
    catalogue, n = history.catalogue, 500
    user, track = rng.integers(0, CONFIG.listeners, n), rng.integers(0, CONFIG.tracks, n)
    ts = rng.integers(CONFIG.start_us, CONFIG.end_us, n)
    got = truth_relevance(catalogue.truth, user + 1, track + 1_000_001, ts)
    drift = (ts - CONFIG.start_us) / (CONFIG.end_us - CONFIG.start_us)
    wanted = [
        relevance(catalogue.music, catalogue.people, u, t, d)
        for u, t, d in zip(user, track, drift, strict=True)
    ]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    one = catalogue.truth.scores(user[:3] + 1, int(ts[0]))
    again = truth_relevance(
        catalogue.truth,
        np.repeat(user[:3] + 1, 50),
        np.tile(np.arange(50) + 1_000_001, 3),
        np.full(150, ts[0]),
    )
    np.testing.assert_allclose(one[:, :50].ravel(), again, rtol=1e-4, atol=1e-4)


def test_tastes_drift(history: History) -> None:
    truth = history.catalogue.truth
    users = np.arange(1, 101)
    start, end = truth.scores(users, CONFIG.start_us), truth.scores(users, CONFIG.end_us)
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(start, end, strict=True)]
    assert 0.7 < np.mean(same) < 0.995


def test_truth_round_trips(history: History, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("truth")
    truth = history.catalogue.truth
    truth.write(folder)
    again = read_truth(folder)
    ids = np.arange(1, 51), np.arange(1_000_001, 1_000_051), np.full(50, CONFIG.end_us - 1)
    np.testing.assert_array_equal(again.relevance(*ids), truth.relevance(*ids))
    (folder / "taste_end.npy").unlink()
    with pytest.raises(NotFound, match=r"taste_end\.npy"):
        read_truth(folder)


def test_truth_refuses_strangers(history: History) -> None:
    now = np.array([CONFIG.start_us])
    with pytest.raises(InvalidInput, match="user_id"):
        history.catalogue.truth.relevance(np.array([0]), np.array([1_000_001]), now)
    with pytest.raises(InvalidInput, match="track_id"):
        history.catalogue.truth.relevance(np.array([1]), np.array([1]), now)
    with pytest.raises(InvalidInput, match="equally long"):
        history.catalogue.truth.relevance(np.array([1, 2]), np.array([1_000_001]), now)


def test_same_config_same_history_other_seed_another() -> None:
    catalogue = generate_catalogue(SMALL)
    one, two = list(simulate_days(SMALL, catalogue)), list(simulate_days(SMALL, generate_catalogue(SMALL)))
    assert all(
        a.events.equals(b.events) and a.exposures.equals(b.exposures) for a, b in zip(one, two, strict=True)
    )
    other = SimulationConfig(tracks=600, artists=80, listeners=200, days=6, seed=4)
    assert not next(simulate_days(other, generate_catalogue(other))).events.equals(one[0].events)


def test_memory_does_not_grow_with_days() -> None:
    def peak(days: int) -> int:
        config = SimulationConfig(tracks=600, artists=80, listeners=600, days=days, seed=3, joining_share=0.0)
        catalogue = generate_catalogue(config)
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        arrow = 0
        for _ in simulate_days(config, catalogue):
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        highest = tracemalloc.get_traced_memory()[1] + arrow
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(24) < 1.5 * peak(4)


def test_the_smallest_service_lives() -> None:
    config = SimulationConfig(tracks=1, artists=1, listeners=1, days=3)
    assert len(list(simulate_days(config, generate_catalogue(config)))) == 3
