"""Requests' matrices against values worked out by hand, and against the language's rules in plain Python."""

from __future__ import annotations

from math import exp, isnan, log, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SECOND, SESSION_GAP, Surface
from segue.features import FEATURES, definition, feature
from segue.features.expression import Aggregate, Attribute, Column, Rows, Value, evaluate
from segue.features.online import (
    _MARK_COLUMNS,
    _PLAY_COLUMNS,
    Catalogue,
    Daily,
    Known,
    Moment,
    OnlineFeatures,
)
from segue.features.program import of_nothing
from segue.features.relations import (
    MARKS,
    PLAYS,
    Artist,
    Candidate,
    ListenerArtist,
    ListenerGenre,
    ListenerTrack,
    Track,
    days,
    facts,
)
from segue.listener.fold import Changes, apply
from segue.listener.state import FOLLOW, HIDE, LIKE, MARK, PLAY, ListenerState, anonymous
from segue.settings.tree import State

NOW = 1_700_000_000 * SECOND
"""Tuesday 2023-11-14 22:13:20 UTC."""
T, A = 8, 3
CATALOGUE = Catalogue(
    np.arange(T, dtype=np.int64) * 10,
    np.array([0, 0, 1, 1, 2, 2, -1, -1], np.int32),
    np.array([100, 200, 300], np.int64),
    np.array([0, 1, 0, 1, 2, -1, 2, -1], np.int16),
)
TRACK_NAMES = [f.name for f in FEATURES.values() if f.entity is Track]
ARTIST_NAMES = [f.name for f in FEATURES.values() if f.entity is Artist]
TRACK_VALUES = np.arange(T * len(TRACK_NAMES), dtype=np.float32).reshape(T, -1)
ARTIST_VALUES = -np.arange(A * len(ARTIST_NAMES), dtype=np.float32).reshape(A, -1)
EVERY = np.arange(T, dtype=np.int32)


def online(names: list[str]) -> OnlineFeatures:
    return OnlineFeatures(
        names, CATALOGUE, Daily(TRACK_NAMES, TRACK_VALUES), Daily(ARTIST_NAMES, ARTIST_VALUES)
    )


def state(plays: list[tuple[Any, ...]], marks: list[tuple[Any, ...]] = (), **profile: Any) -> ListenerState:  # type: ignore[assignment]
    """Plays as (seconds ago, track index, listened, ms) and marks as (kind, target, seconds ago, on)."""
    artists = np.where(CATALOGUE.artist < 0, -1, CATALOGUE.artist_id[CATALOGUE.artist])
    rows = np.zeros(len(plays), PLAY)
    for row, (ago, track, listened, ms) in zip(rows, plays, strict=True):
        row["ts"], row["track_id"], row["artist_id"] = NOW - ago * SECOND, track * 10, artists[track]
        row["ms_played"], row["listened"], row["skipped"] = ms, listened, not listened
    said = np.zeros(len(marks), MARK)
    for row, (kind, target, ago, on) in zip(said, marks, strict=True):
        row["kind"], row["target_id"], row["ts"], row["on"] = kind, target, NOW - ago * SECOND, on
    zeros = np.zeros(len(rows), np.int64), np.zeros(len(said), np.int64)
    base = ListenerState(0, **profile)
    return apply(base, Changes(zeros[0], rows, zeros[1], said), State())


def values(given: ListenerState, names: list[str], track: int = 0, now: int = NOW) -> dict[str, float]:
    got = online(names).assemble(given, Moment(now, "home"), np.array([track], np.int32))
    return dict(zip(names, got[0].tolist(), strict=True))


def test_a_listener_worked_out_by_hand() -> None:
    given = state(
        [
            (40 * 86_400, 0, True, 40_000),
            (3 * 86_400, 1, False, 10_000),
            (3_000, 4, True, 50_000),
            (1_500, 0, True, 60_000),
            (600, 2, False, 5_000),
            (120, 0, False, -1),
        ],
        [(LIKE, 0, 100, True), (LIKE, 10, 50, False), (FOLLOW, 100, 40 * 86_400, True), (HIDE, 30, 5, True)],
        joined_at=NOW - 5 * DAY,
    )
    want = {
        "listener_plays_1h": 4,
        "listener_plays_7d": 5,
        "listener_plays_90d": 6,
        "listener_skip_rate_28d": 3 / 5,
        "listener_mean_seconds_28d": 25.0,
        "listener_active_days_28d": 2,
        "listener_artists_28d": 3,
        "listener_genres_28d": 3,
        "listener_repeat_rate_28d": 1 - 4 / 5,
        "listener_minutes_since_play_90d": 2,
        "listener_last_skipped_90d": 1,
        "listener_session_plays_1d": 4,
        "listener_session_skips_1d": 2,
        "listener_session_artists_1d": 3,
        "listener_session_minutes_1d": 50,
        "listener_likes": 1,
        "listener_follows": 1,
        "listener_age_days": 5,
        "listener_track_plays_90d": 3,
        "listener_track_plays_7d": 2,
        "listener_track_skip_rate_90d": 1 / 3,
        "listener_track_completion_90d": 100 / 3,
        "listener_track_minutes_since_play_90d": 2,
        "listener_track_plays_ago_90d": 1,
        "listener_track_session_plays_1d": 2,
        "listener_track_liked": 1,
        "listener_track_added": 0,
        "listener_artist_plays_90d": 4,
        "listener_artist_tracks_90d": 2,
        "listener_artist_last_was_90d": 1,
        "listener_artist_followed": 1,
        "listener_genre_plays_90d": 4,
        "listener_genre_affinity_90d": 2 ** (-40 / 7) + 2 ** (-1_500 / 86_400 / 7),
        "context_hour": 22,
        "context_weekday": 1,
        "context_weekend": 0,
        "context_surface": list(Surface).index(Surface.HOME),
    }
    got = values(given, list(want))
    assert got == pytest.approx(want, rel=1e-6)


def test_unknown_artists_and_genres_get_the_default_and_known_ones_without_plays_nothing() -> None:
    given = state([(60, 6, True, 1), (30, 7, True, 1)])
    names = ["listener_artist_plays_90d", "listener_genre_plays_90d", "listener_artist_plays_ago_90d"]
    assert values(given, names, track=6)["listener_artist_plays_90d"] == 0, "its play is of no known artist"
    assert values(given, names, track=6)["listener_genre_plays_90d"] == 1
    assert values(given, names, track=7)["listener_genre_plays_90d"] == 0
    assert values(given, names, track=0)["listener_artist_plays_90d"] == 0
    assert isnan(values(given, names, track=7)["listener_artist_plays_ago_90d"])


@pytest.mark.parametrize(("silence", "plays"), [(SESSION_GAP - 1, 1), (SESSION_GAP, 0)])
def test_thirty_minutes_of_silence_end_the_current_session(silence: int, plays: int) -> None:
    given = state([(0, 0, True, 1)])
    assert values(given, ["listener_session_plays_1d"], now=NOW + silence) == {
        "listener_session_plays_1d": plays
    }


def test_an_unknown_artist_is_another_case_than_one_never_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition, "FEATURES", dict(FEATURES))

    @feature(entity=ListenerArtist, window=days(7), default=nan, owner="me")
    def told_apart(plays: Rows) -> Value:
        """Plays, and NaN where the artist is unknown."""
        return plays.count()

    got = [values(state([(60, 0, True, 1)]), ["listener_artist_told_apart_7d"], track) for track in (0, 2, 6)]
    assert [v for row in got for v in row.values()] == pytest.approx([1.0, 0.0, nan], nan_ok=True)


def test_daily_rows_land_in_the_rankers_order() -> None:
    names = [TRACK_NAMES[3], ARTIST_NAMES[1], "context_hour", TRACK_NAMES[0], ARTIST_NAMES[0]]
    got = online(names).assemble(anonymous(), Moment(NOW), np.array([5, 7], np.int32))
    assert got[:, 0].tolist() == TRACK_VALUES[[5, 7], 3].tolist()
    assert got[:, 3].tolist() == TRACK_VALUES[[5, 7], 0].tolist()
    assert got[0, [1, 4]].tolist() == ARTIST_VALUES[2, [1, 0]].tolist()
    assert got[1, [1, 4]].tolist() == pytest.approx(
        [FEATURES[names[1]].default, FEATURES[names[4]].default], nan_ok=True
    )


def test_candidate_columns_are_taken_by_name_and_default_otherwise() -> None:
    names = ["sources", "best_rank", "context_hour"]
    known = Known(("similarity_last", "best_rank"), np.column_stack([-EVERY, EVERY]).astype(np.float32))
    got = online(names).assemble(anonymous(), Moment(NOW), EVERY, known)
    assert got[:, 0].tolist() == [0.0] * T
    assert got[:, 1].tolist() == EVERY.tolist()


def test_every_column_that_a_feature_may_read_is_written() -> None:
    assert set(_PLAY_COLUMNS) == {"age", *PLAYS}
    assert set(_MARK_COLUMNS) == {"age", *MARKS}


def test_no_candidates_make_an_empty_matrix() -> None:
    got = online(list(FEATURES)).assemble(anonymous(), Moment(NOW), EVERY[:0])
    assert got.shape == (0, len(FEATURES))


def test_an_unknown_surface_and_listener_are_missing() -> None:
    got = online(["context_surface", "listener_age_days"]).assemble(anonymous(), Moment(NOW), EVERY[:1])
    assert np.isnan(got).all()


def test_what_does_not_fit_is_refused_when_the_bundle_opens() -> None:
    with pytest.raises(NotFound, match="no feature is named nope"):
        online(["nope"])
    with pytest.raises(InvalidInput, match="the daily snapshot lacks track_plays_1d"):
        OnlineFeatures(["track_plays_1d"], CATALOGUE, Daily([], TRACK_VALUES), Daily([], ARTIST_VALUES))
    with pytest.raises(InvalidInput, match="float32 and row-major"):
        OnlineFeatures(
            ["track_plays_1d"],
            CATALOGUE,
            Daily(TRACK_NAMES, np.asfortranarray(TRACK_VALUES)),
            Daily(ARTIST_NAMES, ARTIST_VALUES),
        )


# --- the language's rules in plain Python, a row at a time


def plain_column(column: Column, row: dict[str, Any]) -> Any:
    if column.op == "column":
        return row[str(column.args[0])]
    args = [plain_column(a, row) if isinstance(a, Column) else a for a in column.args]
    operations = {
        "le": lambda a, b: a <= b,
        "ge": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "gt": lambda a, b: a > b,
        "and": lambda a, b: a and b,
        "or": lambda a, b: a or b,
        "not": lambda a: not a,
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
    }
    return operations[column.op](*args)


def plain_aggregate(leaf: Aggregate, rows: list[dict[str, Any]]) -> float:
    kept = [r for r in rows if leaf.within is None or r["age"] <= leaf.within]
    kept = [r for r in kept if leaf.where is None or plain_column(leaf.where, r)]
    got = [1.0 if leaf.column is None else plain_column(leaf.column, r) for r in kept]
    if leaf.op == "nunique":
        return float(len({x for x in got if x != -1}))
    if leaf.op in ("min", "max"):
        return float((min if leaf.op == "min" else max)(got)) if got else nan
    weights = [exp(-log(2) * r["age"] / leaf.half_life) if leaf.half_life else 1.0 for r in kept]
    return sum(float(x) * w for x, w in zip(got, weights, strict=True))


def missing(operation: Any) -> Any:
    return lambda a, b: nan if isnan(a) or isnan(b) else operation(a, b)


PLAIN = {
    "add": missing(lambda a, b: a + b),
    "sub": missing(lambda a, b: a - b),
    "mul": missing(lambda a, b: a * b),
    "div": missing(lambda a, b: nan if b == 0 else a / b),
    "le": missing(lambda a, b: float(a <= b)),
    "ge": missing(lambda a, b: float(a >= b)),
    "at_least": missing(max),
}


def plain_rows(given: ListenerState, now: int) -> list[dict[str, Any]]:
    plays = [p for p in given.plays if now - 90 * DAY <= p["ts"] < now]
    rows: list[dict[str, Any]] = []
    for n, p in enumerate(plays):
        ts, track = int(p["ts"]), int(p["track_id"]) // 10
        rows.append(
            {
                "age": now - ts,
                "minutes_ago": (now - ts) / MINUTE,
                "recency": len(plays) - n,
                "track_id": track * 10,
                "artist_id": int(p["artist_id"]),
                "genre": int(CATALOGUE.genre[track]),
                "day": ts // DAY,
                "ms_played": max(int(p["ms_played"]), 0),
                "listened": bool(p["listened"]),
                "skipped": bool(p["skipped"]),
            }
        )
    going_on = True
    for row, after in zip(reversed(rows), [0, *(r["age"] for r in reversed(rows))], strict=False):
        going_on = going_on and row["age"] - after < SESSION_GAP
        row["in_session"] = going_on
    return rows


plays_of_a_few = st.lists(
    st.tuples(
        st.one_of(st.integers(-3_600, 7_200), st.integers(0, 100 * 86_400)),
        st.integers(0, T - 1),
        st.booleans(),
        st.integers(-1, 90_000),
    ),
    max_size=25,
    unique_by=lambda p: p[:2],
)
FOLDED = [
    f.name
    for f in FEATURES.values()
    if f.value is not None
    and not f.entity.daily
    and f.relation == "plays"
    and f.relation not in facts(f.entity)
]


@given(plays_of_a_few, st.sampled_from([0, 1, -1, HOUR, -90 * DAY]))
def test_equals_the_language_in_plain_python(plays: list[tuple[Any, ...]], shift: int) -> None:
    given_state, now = state(plays), NOW + shift
    got = online(FOLDED).assemble(given_state, Moment(now), EVERY)
    rows = plain_rows(given_state, now)
    keys = {ListenerTrack: "track_id", ListenerArtist: "artist_id", ListenerGenre: "genre"}
    artists = np.where(CATALOGUE.artist < 0, -1, CATALOGUE.artist_id[CATALOGUE.artist])
    of = {"track_id": CATALOGUE.track_id, "artist_id": artists, "genre": CATALOGUE.genre}
    for column, name in enumerate(FOLDED):
        f = FEATURES[name]
        for i in range(T):
            key = keys.get(f.entity)
            mine = rows if key is None else [r for r in rows if r[key] == of[key][i]]

            def leaf(node: Aggregate | Attribute, mine: list[dict[str, Any]] = mine) -> float:
                assert isinstance(node, Aggregate)
                return plain_aggregate(node, mine)

            assert f.value is not None
            value = evaluate(f.value, leaf, float, PLAIN)
            if isnan(value) or (key is not None and of[key][i] < 0):
                value = f.default
            assert got[i, column] == pytest.approx(value, rel=1e-6, nan_ok=True), (name, i)


@given(plays_of_a_few)
def test_the_future_is_never_seen(plays: list[tuple[Any, ...]]) -> None:
    past = [p for p in plays if p[0] > 0]
    got: list[npt.NDArray[np.float32]] = [
        online(list(FEATURES)).assemble(state(some), Moment(NOW, "home"), EVERY) for some in (plays, past)
    ]
    np.testing.assert_array_equal(got[0], got[1])


def test_values_of_nothing() -> None:
    want = {"listener_plays_7d": 0.0, "listener_repeat_rate_28d": nan, "listener_artist_last_was_90d": 0.0}
    for name, value in want.items():
        f = FEATURES[name]
        assert f.value is not None
        assert of_nothing(f.value, f.default) == pytest.approx(value, nan_ok=True)


def test_every_feature_online_is_covered_by_these_tests() -> None:
    rest = {f.name for f in FEATURES.values() if f.entity not in (Track, Artist, Candidate)} - set(FOLDED)
    assert {FEATURES[name].relation for name in rest} <= {
        "likes",
        "adds",
        "reposts",
        "follows",
        "listener",
        "request",
    }
