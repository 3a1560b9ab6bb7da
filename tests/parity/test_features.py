"""Offline and online are one definition: the training join and a request's matrix agree on every feature, at every moment.

Offline runs the whole way from raw events through the warehouse's own expressions; online folds the same raw events that
happened strictly before the moment into a listener's state, encodes and decodes it, and assembles.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from ibis.config import Config

from segue.contracts.errors import NotFound
from segue.contracts.tables import ARTISTS, LISTENERS, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SECOND, Surface
from segue.features import FEATURES
from segue.features.offline import (
    FEATURES_ARTIST,
    FEATURES_TRACK,
    Tables,
    matrix,
    reach,
    snapshot,
    training_join,
)
from segue.features.online import Catalogue, Daily, Moment, OnlineFeatures
from segue.features.relations import Artist, Candidate, Track
from segue.listener.codec import decode, encode
from segue.listener.fold import Profiles, TrackFacts, apply, read_events
from segue.listener.state import anonymous
from segue.settings.tree import State
from segue.warehouse.daily import daily_artists, daily_tracks
from segue.warehouse.events import clean_events

# Why: ibis 12 calls what DuckDB 1.5 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

Event = dict[str, Any]
LIMITS = State(max_plays=40, max_marks=20)
START = 1_700_006_400 * SECOND
"""Midnight, UTC."""
N_TRACKS, N_ARTISTS, GENRES = 60, 12, ("ambient", "folk", "techno", "")
NAMES = [f.name for f in FEATURES.values() if f.entity is not Candidate]


def rows(table: Any, records: list[Event]) -> pa.Table:
    blank = {c.name: None for c in table.columns}
    return pa.Table.from_pylist([blank | r for r in records], schema=table.arrow)


def tracks_table() -> pa.Table:
    return rows(
        TRACKS,
        [
            {
                "track_id": 100 + 7 * n,
                # Why: artist 1999 is named by tracks and stands in no artists table.
                "artist_id": None if n % 9 == 0 else 1999 if n % 13 == 5 else 1000 + n % N_ARTISTS,
                "genre": None if n % 8 == 0 else GENRES[n % len(GENRES)],
                "duration_ms": None if n % 5 == 0 else 20_000 + 1_000 * n,
                "uploaded_at": None if n % 11 == 0 else START + (n - 40) * DAY + 3 * HOUR,
                "explicit": n % 6 == 0,
                "public": True,
            }
            for n in range(N_TRACKS)
        ],
    )


def artists_table() -> pa.Table:
    known = [{"artist_id": 1000 + n, "joined_at": START - 100 * DAY + n * HOUR} for n in range(N_ARTISTS)]
    return rows(ARTISTS, [r if n % 5 else r | {"joined_at": None} for n, r in enumerate(known)])


def listeners_table(users: int) -> pa.Table:
    profile = {"explicit_ok": True, "personalization_consent": True}
    joined = [None if n % 3 == 0 else START - n * DAY - n for n in range(users)]
    return rows(LISTENERS, [{"user_id": n, "joined_at": j, **profile} for n, j in enumerate(joined)])


def event(ts: int, user: int, kind: str, **other: Any) -> Event:
    day = datetime.fromtimestamp(ts / SECOND, UTC).date()
    return {
        "day": day,
        "ts": ts,
        "received_at": ts,
        "user_id": user,
        "type": kind,
        **other,
    }


def with_ids(events: list[Event]) -> list[Event]:
    return [e | {"event_id": n.to_bytes(16, "big")} for n, e in enumerate(events)]


def samples_table(samples: list[Event]) -> pa.Table:
    kept = [s | {"n": n, "request_id": n} for n, s in enumerate(samples)]
    types = {"surface": pa.string()}
    names = ["n", "request_id", "user_id", "ts", "track_id", "surface"]
    return pa.Table.from_pylist(
        kept, schema=pa.schema([(name, types.get(name, pa.int64())) for name in names])
    )


def random_events(seed: int, users: int, count: int, days: int) -> list[Event]:
    """Bursts of activity by few listeners on few tracks: ties, repeats, withdrawals and session gaps all happen."""
    rng = np.random.default_rng(seed)
    kinds = ["play", "skip", "like", "unlike", "repost", "unrepost", "follow", "unfollow", "playlist_add"]
    kinds += ["hide", "block_artist", "impression", "search", "share"]
    share = np.array([45, 8, 6, 2, 6, 1, 5, 2, 6, 2, 1, 12, 2, 2]) / 100
    bursts = rng.integers(0, days * DAY, 60 * days)
    out = []
    for _ in range(count):
        ts = int(START - days * DAY + rng.choice(bursts) // SECOND * SECOND + rng.integers(0, 90) * MINUTE)
        kind = str(rng.choice(kinds, p=share))
        fields: Event = {"query": "x"} if kind == "search" else {}
        if kind in ("follow", "unfollow", "block_artist"):
            fields["artist_id"] = int(1000 + rng.integers(N_ARTISTS))
        elif kind != "search":
            fields["track_id"] = int(100 + 7 * rng.integers(N_TRACKS))
        if kind in ("play", "skip") and rng.random() < 0.9:
            fields["ms_played"] = int(rng.integers(0, 80_000))
        out.append(event(ts, int(rng.integers(users)), kind, **fields))
    return out


class World:
    """Both sides over the same raw events."""

    def __init__(self, events: list[Event], users: int = 6) -> None:
        raw = rows(RAW_EVENTS, with_ids(events))
        self.con = ibis.duckdb.connect(threads=1)
        tracks, artists, listeners = tracks_table(), artists_table(), listeners_table(users)
        made = {"raw": raw, "tracks": tracks, "artists": artists, "listeners": listeners}
        t = {name: self.con.create_table(name, table) for name, table in made.items()}
        clean = self.con.create_table("events", clean_events(t["raw"], t["tracks"]))
        self.tables = Tables(
            clean,
            clean,
            t["tracks"],
            t["artists"],
            t["listeners"],
            self.con.create_table("daily_tracks", daily_tracks(clean)),
            self.con.create_table("daily_artists", daily_artists(clean)),
        )
        self.raw = raw
        self.profiles = Profiles(listeners)
        self.facts = TrackFacts.from_table(tracks)
        genres = tracks["genre"].to_pylist()
        codes = {g: n for n, g in enumerate(sorted({g for g in genres if g}))}
        track_artist = tracks["artist_id"].fill_null(-1).to_numpy()
        self.artist_id = np.union1d(artists["artist_id"].to_numpy(), track_artist[track_artist >= 0])
        self.catalogue = Catalogue(
            tracks["track_id"].to_numpy(),
            np.where(track_artist < 0, -1, np.searchsorted(self.artist_id, track_artist)).astype(np.int32),
            self.artist_id,
            np.array([codes.get(g, -1) for g in genres], np.int16),
        )

    def offline(self, samples: list[Event], limits: State = LIMITS) -> npt.NDArray[np.float32]:
        """float32[samples, NAMES]."""
        given = self.con.create_table("samples", samples_table(samples), overwrite=True)
        return matrix(training_join(given, self.tables, limits).order_by("n").to_pyarrow(), NAMES)

    def online(self, samples: list[Event], limits: State = LIMITS) -> npt.NDArray[np.float32]:
        """The same, one request at a time."""
        out = np.empty((len(samples), len(NAMES)), np.float32)
        assemblers: dict[int, OnlineFeatures] = {}
        for n, s in enumerate(samples):
            now = s["ts"]
            if now // DAY not in assemblers:
                assemblers[now // DAY] = self.assembler(date(1970, 1, 1).fromordinal(719_163 + now // DAY))
            before = self.raw.filter(pa.compute.less(self.raw["ts"], now))
            profile = self.profiles.find(s["user_id"]) or anonymous(s["user_id"])
            state = decode(encode(apply(profile, read_events(before, self.facts), limits)))
            index = self.catalogue.positions(np.array([s["track_id"]]))
            out[n] = assemblers[now // DAY].assemble(state, Moment(now, s["surface"]), index)[0]
        return out

    def assembler(self, day: date) -> OnlineFeatures:
        track = snapshot(Track, day, self.tables).order_by("track_id").to_pyarrow()
        artist = snapshot(Artist, day, self.tables).order_by("artist_id").to_pyarrow()
        assert track.schema.names == list(FEATURES_TRACK.names)
        assert track["track_id"].to_pylist() == self.catalogue.track_id.tolist()
        assert artist["artist_id"].to_pylist() == self.artist_id.tolist()
        return OnlineFeatures(
            NAMES,
            self.catalogue,
            Daily(FEATURES_TRACK.names[2:], matrix(track, FEATURES_TRACK.names[2:])),
            Daily(FEATURES_ARTIST.names[2:], matrix(artist, FEATURES_ARTIST.names[2:])),
        )


def sample(ts: int, user: int, track: int, surface: str | None = "home") -> Event:
    return {"ts": ts, "user_id": user, "track_id": track, "surface": surface}


def random_samples(seed: int, events: list[Event], users: int, count: int) -> list[Event]:
    """Moments and candidates that matter: half soon after an event of the listener, for a track they have met, half on
    the edges of windows, to the microsecond or one beside it; some of nobody and nothing known."""
    rng = np.random.default_rng(seed)
    surfaces = [*Surface, None]
    spans = [0, 30 * MINUTE, HOUR, 7 * DAY]
    few = rng.choice(sorted({e["ts"] // DAY for e in events}), 4, replace=False)
    events = [e for e in events if e["ts"] // DAY in few]
    out: list[Event] = []
    for n in range(count):
        e = events[int(rng.integers(len(events)))]
        near = int(rng.integers(0, 40 * MINUTE)) if n % 2 else int(rng.choice(spans) + rng.integers(-1, 2))
        met = e.get("track_id", 100) + int(rng.choice([0, 0, 7 * N_ARTISTS]))
        anything = int(100 + 7 * rng.integers(N_TRACKS))
        out.append(
            sample(
                e["ts"] + near,
                e["user_id"] if rng.random() < 0.9 else users,
                met if met < 100 + 7 * N_TRACKS and rng.random() < 0.8 else anything,
                surfaces[int(rng.integers(len(surfaces)))],
            )
        )
    return out


def agree(offline: npt.NDArray[np.float32], online: npt.NDArray[np.float32]) -> None:
    for n, name in enumerate(NAMES):
        np.testing.assert_allclose(
            online[:, n], offline[:, n], rtol=1e-6, atol=0, err_msg=name, equal_nan=True
        )


def test_training_join_equals_assembled_matrix() -> None:
    seed = 1
    events = random_events(seed, users=5, count=1500, days=35)
    world = World(events)
    samples = random_samples(seed, events, users=5, count=200)
    offline = world.offline(samples)
    agree(offline, world.online(samples))
    # Why: a comparison of defaults with defaults would prove nothing.
    varied = [name for n, name in enumerate(NAMES) if len(np.unique(offline[:, n])) > 1]
    assert set(NAMES) - set(varied) == set()


@pytest.mark.parametrize("limits", [State(max_plays=10, max_marks=10), State()], ids=["tight", "shipped"])
def test_bounds_of_the_state_hold_offline_too(limits: State) -> None:
    events = random_events(3, users=2, count=900, days=8)
    world = World(events)
    samples = random_samples(3, events, users=2, count=40)
    agree(world.offline(samples, limits), world.online(samples, limits))


def test_the_days_that_are_read_are_enough() -> None:
    """The join over no more partitions than `reach` says equals that over all of them, also for features one by one."""
    events = random_events(6, users=3, count=600, days=110)
    world = World(events)
    samples = random_samples(6, events, users=3, count=40)
    given = world.con.create_table("given", samples_table(samples))
    moments = [s["ts"] for s in samples]
    whole, fewer = world.tables, 0
    for names in (NAMES, *([name] for name in NAMES if name.endswith("_7d"))):
        days = reach(names, min(moments), max(moments))
        cut = {
            field: rows.filter(rows.day.between(bounds.first, bounds.last))
            for field, bounds in vars(days).items()
            for rows in [getattr(whole, field)]
        }
        fewer += sum(
            cut[field].count().to_pyarrow().as_py() < getattr(whole, field).count().to_pyarrow().as_py()
            for field in cut
        )
        all_of, some = (
            matrix(training_join(given, tables, LIMITS, names).order_by("n").to_pyarrow(), names)
            for tables in (whole, replace(whole, **cut))
        )
        np.testing.assert_array_equal(some, all_of, err_msg=str(names))
    assert fewer > 10, "something was left out, or the test shows nothing"


def test_a_mark_counts_for_400_days() -> None:
    world = World([event(NOON - 400 * DAY - over, over, "like", track_id=107) for over in (0, 1)])
    got = world.offline([sample(NOON, over, 107) for over in (0, 1)])
    assert got[:, NAMES.index("listener_track_liked")].tolist() == [1.0, 0.0]


NOON = START + 12 * HOUR
SHIFTS = [-SECOND, -1, 0, 1, SECOND]
KINDS = ["play", "skip", "like", "repost", "playlist_add", "follow", "impression", "hide"]


def shifted(around: int) -> tuple[list[Event], list[Event]]:
    """One event of each kind by a listener and on a track of its own, shifted across `around`; a sample at noon for each."""
    events, samples = [], []
    for n, shift in enumerate(SHIFTS):
        for k, kind in enumerate(KINDS):
            user, track = n * len(KINDS) + k, 100 + 7 * (1 + n * len(KINDS) + k)
            target = {"artist_id": 5000 + user} if kind == "follow" else {"track_id": track}
            events.append(event(around + shift, user, kind, **target))
            samples.append(sample(NOON, user, track))
    return events, samples


def own_tracks() -> pa.Table:
    return rows(
        TRACKS,
        [
            {
                "track_id": 100 + 7 * n,
                "artist_id": 4999 + n,
                "genre": f"g{n}",
                "explicit": False,
                "public": True,
            }
            for n in range(N_TRACKS)
        ],
    )


def own_artists() -> pa.Table:
    return rows(ARTISTS, [{"artist_id": 4999 + n} for n in range(N_TRACKS)])


@pytest.mark.parametrize("around", [NOON, START], ids=["the moment", "midnight"])
def test_no_feature_sees_the_moment_it_predicts(around: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event appears in exactly the features that may know it, a second and a microsecond either side of the boundary."""
    monkeypatch.setitem(globals(), "tracks_table", own_tracks)
    monkeypatch.setitem(globals(), "artists_table", own_artists)
    events, samples = shifted(around)
    before = [event(START - 3 * DAY, 40, "play", track_id=s["track_id"]) for s in samples]
    without, world = World(before, users=41), World(before + events, users=41)
    for compute in (world.offline, world.online):
        changed = ~((got := compute(samples)) == (blank := without.offline(samples)))
        changed &= ~(np.isnan(got) & np.isnan(blank))
        for row, e in enumerate(events):
            seen = {NAMES[n] for n in np.flatnonzero(changed[row])}
            daily = {name for name in seen if name.startswith(("track_", "artist_"))}
            assert bool(seen - daily) == (e["ts"] < NOON and e["type"] not in ("impression", "hide")), (
                e,
                seen,
            )
            assert bool(daily) == (e["ts"] < START), (e, daily)


def test_a_window_reaches_back_to_its_very_edge() -> None:
    world = World([event(NOON - 28 * DAY - over, over, "play", track_id=107) for over in (0, 1)])
    for compute in (world.offline, world.online):
        got = compute([sample(NOON, over, 107) for over in (0, 1)])
        assert got[:, NAMES.index("listener_plays_28d")].tolist() == [1.0, 0.0]
        assert got[:, NAMES.index("listener_track_plays_90d")].tolist() == [1.0, 1.0]


def test_a_like_stands_until_it_is_withdrawn_that_microsecond_included() -> None:
    world = World([event(NOON - HOUR, 1, "like", track_id=107), event(NOON, 1, "unlike", track_id=107)])
    samples = [sample(ts, 1, 107) for ts in (NOON - HOUR, NOON - HOUR + 1, NOON, NOON + 1)]
    for compute in (world.offline, world.online):
        assert compute(samples)[:, NAMES.index("listener_track_liked")].tolist() == [0.0, 1.0, 1.0, 0.0]


def test_daily_windows_count_whole_days_before_today_and_strangers_get_defaults() -> None:
    events = [
        event(START + n * DAY + HOUR, n % 6, "play", track_id=107, ms_played=n * 1000) for n in range(-30, 2)
    ]
    got = World(events).offline([sample(NOON, 1, 107), sample(NOON, 99, 999_999, None)])
    values = dict(zip(NAMES, got[0], strict=True))
    assert [values[f"track_plays_{n}d"] for n in (1, 7, 28)] == [1, 7, 28]
    assert values["track_listener_days_28d"] == 28
    assert values["track_trend_28d"] == 0.25
    for name, value in zip(NAMES, got[1], strict=True):
        if not name.startswith("context_"):
            assert value == FEATURES[name].default or (
                np.isnan(value) and np.isnan(FEATURES[name].default)
            ), name


def test_the_join_keeps_every_sample_and_its_columns() -> None:
    world = World(random_events(4, users=3, count=200, days=3))
    given = pa.table(
        {
            "request_id": pa.array([b"a", b"a", b"b"], pa.binary()),
            "user_id": [1, 1, 2],
            "ts": [NOON, NOON, NOON],
            "track_id": [107, 107, 114],
            "surface": ["home", "home", "search"],
            "label": [1.0, 0.0, 0.5],
        }
    )
    samples = world.con.create_table("samples", given)
    names = ["listener_plays_7d", "track_explicit", "source_rules_score"]
    joined = training_join(samples, world.tables, LIMITS, names).to_pyarrow()
    assert joined.schema.names == [*given.schema.names, "listener_plays_7d", "track_explicit"]
    assert (
        joined.sort_by([("user_id", "ascending"), ("label", "descending")]).select(given.schema.names)
        == given
    )
    with pytest.raises(NotFound, match="no_such_feature"):
        training_join(samples, world.tables, LIMITS, ["no_such_feature"])


class SparkOptions(Config):
    """What the Spark dialect looks up while it writes SQL."""

    treat_nan_as_null: bool = False


def test_every_engine_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Why: Ibis registers an engine's options with its client, which writing its SQL does not need.
    monkeypatch.setattr(ibis.options, "pyspark", SparkOptions())
    world = World([])
    samples = world.con.create_table("samples", samples_table([sample(NOON, 1, 107)]))
    joined = training_join(samples, world.tables, LIMITS).unbind()
    daily = snapshot(Artist, date(2026, 1, 1), world.tables).unbind()
    for dialect in ("duckdb", "pyspark", "bigquery"):
        assert "listener_plays_7d" in str(ibis.to_sql(joined, dialect=dialect))
        assert "artist_plays_7d" in str(ibis.to_sql(daily, dialect=dialect))
