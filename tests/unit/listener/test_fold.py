"""The listener's fold, against a plain dictionary that reads events one by one, and against every order of the same events."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData
from segue.contracts.tables import LISTENERS
from segue.contracts.vocabulary import MINUTE, SECOND, EventType
from segue.listener.codec import decode, encode
from segue.listener.fold import Profiles, TrackFacts, apply, fold_table, merge, read_events
from segue.listener.state import BLOCK, FOLLOW, HIDE, LIKE, ListenerState, anonymous
from segue.settings.tree import State

T0 = 1_700_000_000 * SECOND
SMALL = State(max_plays=10, max_marks=10)
Event = dict[str, object]
SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()),
        ("ts", pa.int64()),
        ("type", pa.string()),
        ("track_id", pa.int64()),
        ("artist_id", pa.int64()),
        ("ms_played", pa.int32()),
    ]
)
TRACKS = TrackFacts(
    np.array([1, 2, 3], np.int64), np.array([10, -1, 30], np.int64), np.array([20_000, -1, 200_000], np.int32)
)


def event(type_: str, minute: float = 0.0, user: int = 7, **other: object) -> Event:
    return {"user_id": user, "ts": T0 + int(minute * MINUTE), "type": type_, **other}


def table(events: list[Event]) -> pa.Table:
    return pa.Table.from_pylist(events, schema=SCHEMA)


def fold(events: list[Event], limits: State = SMALL, user: int = 7) -> ListenerState:
    return apply(anonymous(user), read_events(table(events), TRACKS), limits)


def plain(
    events: list[Event], limits: State, user: int
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Plays and marks by the rules as the module's docstring says them, one event at a time."""
    plays: dict[tuple[int, int], list[object]] = {}
    marks: dict[tuple[int, int], tuple[int, bool]] = {}
    artists, durations = {1: 10, 3: 30}, {1: 20_000, 3: 200_000}
    kinds = {
        "like": (LIKE, True),
        "unlike": (LIKE, False),
        "follow": (FOLLOW, True),
        "unfollow": (FOLLOW, False),
    }
    kinds |= {"hide": (HIDE, True), "block_artist": (BLOCK, True)}
    for e in events:
        ts, track, artist = int(str(e["ts"])), e.get("track_id"), e.get("artist_id")
        if e["user_id"] != user:
            continue
        if e["type"] in ("play", "skip") and isinstance(track, int):
            ms = e.get("ms_played")
            known = ms if isinstance(ms, int) else -1
            listened = e["type"] == "play" and (
                known < 0 or known >= 30_000 or (track in durations and known >= durations[track] - 2_000)
            )
            who = artist if isinstance(artist, int) else artists.get(track, -1)
            row = plays.setdefault((ts, track), [-1, -1, False, True])
            row[:] = [max(row[0], who), max(row[1], known), row[2] or listened, row[3] and not listened]  # type: ignore[type-var]
        elif e["type"] in kinds:
            kind, on = kinds[str(e["type"])]
            target = artist if kind in (FOLLOW, BLOCK) else track
            if isinstance(target, int):
                marks[kind, target] = max(marks.get((kind, target), (0, False)), (ts, on))
    kept = sorted(plays)[-limits.max_plays :]
    rows, start, before = [], 0, -(10**18)
    for ts, track in kept:
        start = ts if ts - before >= 30 * MINUTE else start
        before = ts
        who, ms, listened, skipped = plays[ts, track]
        rows.append((ts, track, who, start, ms, listened, skipped))
    ranked = sorted(marks, key=lambda k: (k[0] in (HIDE, BLOCK), marks[k][0], k))[-limits.max_marks :]
    return rows, [(kind, marks[kind, t][1], t, marks[kind, t][0]) for kind, t in sorted(ranked)]


events_of_a_few = st.lists(
    st.builds(
        lambda user, minute, type_, track, artist, ms: event(
            type_, minute, user, track_id=track, artist_id=artist, ms_played=ms
        ),
        st.integers(1, 3),
        st.integers(0, 200).map(lambda m: m / 2),
        st.sampled_from(
            ["play", "play", "skip", "like", "unlike", "follow", "unfollow", "hide", "block_artist", "search"]
        ),
        st.one_of(st.none(), st.integers(1, 5)),
        st.one_of(st.none(), st.integers(10, 14)),
        st.sampled_from([None, 0, 10_000, 18_000, 29_999, 30_000]),
    ),
    max_size=60,
)


@settings(deadline=None)  # the first table that is made loads libraries
@given(events_of_a_few, st.integers(1, 3))
def test_equals_the_rules_applied_one_event_at_a_time(events: list[Event], user: int) -> None:
    state = fold(events, user=user)
    plays, marks = plain(events, SMALL, user)
    assert state.plays.tolist() == plays
    assert state.marks.tolist() == marks


@given(events_of_a_few, st.data())
def test_any_order_repetition_and_grouping_gives_the_same_bytes(
    events: list[Event], data: st.DataObject
) -> None:
    state = anonymous(2)
    shuffled = data.draw(st.permutations(events + events[: len(events) // 2]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))
    for start, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True):
        state = apply(state, read_events(table(shuffled[start:end]), TRACKS), SMALL)
    assert encode(state) == encode(fold(events, user=2))


plays_of_one = st.lists(st.tuples(st.integers(0, 40).map(lambda m: 10 * m), st.integers(1, 3)), max_size=40)
"""(minute, track): gaps on both sides of thirty minutes and at it, and the same play again."""


@given(plays_of_one, st.integers(1, 4), st.integers(1, 20), st.booleans())
def test_plays_that_come_one_by_one_push_out_the_oldest_as_if_all_had_come_at_once(
    plays: list[tuple[int, int]], at_once: int, keep: int, in_order: bool
) -> None:
    limits = State(max_plays=keep)
    events = [
        event("play", minute, track_id=track) for minute, track in (sorted(plays) if in_order else plays)
    ]
    state = anonymous(7)
    for start in range(0, len(events), at_once):
        state = apply(state, read_events(table(events[start : start + at_once]), TRACKS), limits)
    assert state.plays.tolist() == plain(events, limits, 7)[0]


@given(events_of_a_few, st.integers(0, 60))
def test_merging_two_parts_equals_folding_the_whole(events: list[Event], cut: int) -> None:
    left, right = fold(events[:cut], user=1), fold(events[cut:], user=1)
    assert encode(merge(left, right, SMALL)) == encode(fold(events, user=1))


@given(events_of_a_few, st.integers(1, 20))
def test_bulk_equals_one_by_one_at_any_batch_size(events: list[Event], batch: int) -> None:
    ordered = table(events).sort_by([("user_id", "ascending"), ("ts", "ascending")])
    bulk = dict(fold_table(ordered.to_batches(max_chunksize=batch), SMALL, tracks=TRACKS))
    changes = read_events(table(events), TRACKS)
    assert list(bulk) == changes.users.tolist()
    for user, record in bulk.items():
        assert record == encode(apply(anonymous(user), changes, SMALL))


def test_bulk_gives_every_profile_a_record_and_keeps_its_consent() -> None:
    profile = {"explicit_ok": False, "personalization_consent": True, "joined_at": T0}
    listeners = pa.Table.from_pylist(
        [
            {"user_id": 9, **profile, "personalization_consent": False},
            {"user_id": 3, **profile, "country": "DE", "plan": "premium"},
        ],
        schema=LISTENERS.arrow,
    )
    events = table([event("play", user=3, track_id=1), event("play", user=4, track_id=1)])
    states = {u: decode(r) for u, r in fold_table(events.to_batches(), SMALL, profiles=Profiles(listeners))}
    assert sorted(states) == [3, 4, 9]
    assert (states[3].country, states[3].plan, states[3].joined_at, len(states[3].plays)) == (
        "DE",
        "premium",
        T0,
        1,
    )
    assert not states[9].consent
    assert not states[3].explicit_ok
    assert (states[4].consent, states[4].known, states[4].joined_at) == (True, True, None)


def test_bulk_refuses_unsorted_events() -> None:
    events = table([event("play", user=3, track_id=1), event("play", user=2, track_id=1)])
    with pytest.raises(InvalidData, match="sorted by user_id"):
        list(fold_table(events.to_batches(), SMALL))
    with pytest.raises(InvalidData, match="sorted by user_id"):
        list(fold_table(events.to_batches(max_chunksize=1), SMALL))


def test_hides_and_blocks_outlive_newer_likes() -> None:
    marks = [event("hide", 0, track_id=1), event("block_artist", 1, artist_id=2)]
    marks += [event("like", 2 + n, track_id=100 + n) for n in range(30)]
    state = fold(marks)
    assert state.marked(HIDE).tolist() == [1]
    assert state.marked(BLOCK).tolist() == [2]
    assert state.marked(LIKE).tolist() == list(range(129, 121, -1))


def test_a_late_like_does_not_undo_an_unlike() -> None:
    state = fold([event("unlike", 5, track_id=1)])
    state = apply(state, read_events(table([event("like", 4, track_id=1)])), SMALL)
    assert state.marked(LIKE).tolist() == []


@pytest.mark.parametrize(
    ("gap", "sessions"), [(30 * MINUTE - 1, 1), (30 * MINUTE, 2)], ids=["a microsecond short", "30 minutes"]
)
def test_thirty_minutes_of_silence_end_a_session(gap: int, sessions: int) -> None:
    events = [event("play", track_id=1), event("play", track_id=2) | {"ts": T0 + gap}]
    assert len(np.unique(fold(events).plays["session_start"])) == sessions


def test_flags_of_clean_events_are_taken_as_they_are() -> None:
    clean = table([event("play", track_id=1, ms_played=1)])
    clean = clean.append_column("listened", pa.array([True])).append_column("skipped", pa.array([False]))
    assert read_events(clean, TRACKS).plays["listened"].tolist() == [True]


def test_nothing_said_leaves_the_very_state() -> None:
    state = anonymous(7)
    assert apply(state, read_events(table([event("search")]), TRACKS), SMALL) is state
    assert apply(state, read_events(table([event("play", user=8, track_id=1)])), SMALL) is state


def test_every_event_type_is_either_folded_or_left_out_on_purpose() -> None:
    left_out = {EventType.IMPRESSION, EventType.SEARCH, EventType.CLICK, EventType.SHARE}
    for kind in EventType:
        changes = read_events(table([event(kind, track_id=1, artist_id=2)]))
        assert (len(changes.plays) + len(changes.marks) == 0) == (kind in left_out), kind
