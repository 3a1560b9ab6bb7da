"""Listener states over a store: folded at once, through tails or in bulk, they are the same; what cannot be read is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.state.lmdb import LMDBState
from segue.contracts.errors import Unavailable
from segue.contracts.ports import Change, Fold
from segue.contracts.vocabulary import MINUTE, EventType
from segue.events.records import Event
from segue.listener.codec import VERSION, decode_rows, encode
from segue.listener.fold import Changes, TrackFacts, apply, read_events, read_records
from segue.listener.state import HIDE, LIKE, MARK, PLAY, ListenerState, anonymous
from segue.listener.states import ListenerStates
from segue.settings.tree import State

LIMITS = State(map_size_mb=16, max_plays=10, max_marks=10)
T0 = 1_700_000_000_000_000


class TailedMemory:
    """The StateStore port in a dictionary, with tails: folded only when somebody says `fold_all`."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[bytes | None, bytes]] = {}
        self._fold: Fold | None = None

    def get(self, user_id: int) -> tuple[bytes | None, bytes]:
        return self.kept.get(user_id, (None, b""))

    def add(self, rows: Mapping[int, bytes], fold: Fold) -> None:
        self._fold = fold
        for user, some in rows.items():
            record, tail = self.get(user)
            self.kept[user] = (record, tail + some)

    def update(self, user_ids: Iterable[int], change: Change) -> None:
        for user in user_ids:
            after = change(user, *self.get(user))
            self.kept.pop(user, None)
            if after is not None:
                self.kept[user] = (after, b"")

    def fold_all(self) -> None:
        fold = self._fold
        if fold is not None:
            self.update(list(self.kept), lambda u, record, tail: fold(u, record, tail) if tail else record)

    def sample(self, limit: int) -> list[int]:
        return list(self.kept)[:limit]

    def create(self) -> None:
        pass

    def close(self) -> None:
        pass


def changes(rows: list[tuple[int, str, int, int]]) -> Changes:
    """From (listener, what, minute, target)."""
    plays = [row for row in rows if row[1] == "play"]
    marks = [row for row in rows if row[1] != "play"]
    play, mark = np.zeros(len(plays), PLAY), np.zeros(len(marks), MARK)
    play["ts"] = [T0 + row[2] * MINUTE for row in plays]
    play["track_id"] = [row[3] for row in plays]
    play["listened"] = True
    mark["kind"] = [LIKE if row[1] == "like" else HIDE for row in marks]
    mark["on"] = True
    mark["ts"] = [T0 + row[2] * MINUTE for row in marks]
    mark["target_id"] = [row[3] for row in marks]
    return Changes(
        np.array([row[0] for row in plays], np.int64),
        play,
        np.array([row[0] for row in marks], np.int64),
        mark,
    )


rows_of_a_few = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["play", "play", "like", "hide"]),
        st.integers(0, 200),
        st.integers(1, 5),
    ),
    max_size=40,
)


@given(rows_of_a_few, st.data())
def test_through_tails_in_any_order_and_twice_is_as_at_once(
    rows: list[tuple[int, str, int, int]], data: st.DataObject
) -> None:
    store = TailedMemory()
    states = ListenerStates(store, LIMITS)
    shuffled = data.draw(st.permutations(rows + rows[: len(rows) // 2]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))
    for start, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True):
        states.add(changes(shuffled[start:end]))
        if data.draw(st.booleans()):
            store.fold_all()
    for user in (1, 2, 3):
        mine = [row for row in rows if row[0] == user]
        found = states.read(user)
        if not mine:
            assert found is None
        else:
            assert found is not None
            assert encode(found) == encode(apply(anonymous(user), changes(mine), LIMITS))


@pytest.fixture
def states(tmp_path: Path) -> Iterator[ListenerStates]:
    opened = ListenerStates(LMDBState(tmp_path, LIMITS), LIMITS)
    yield opened
    opened.close()


def profile(user: int, country: str) -> bytes:
    return encode(ListenerState(user, country=country))


def test_filling_brings_the_profile_and_keeps_what_came_meanwhile(states: ListenerStates) -> None:
    states.add(changes([(1, "play", 0, 11), (1, "hide", 1, 12)]))
    assert states.fill([(1, profile(1, "DE")), (2, profile(2, "FR"))]) == 2
    one, two = states.read(1), states.read(2)
    assert one is not None
    assert two is not None
    assert (one.country, one.plays["track_id"].tolist(), one.marked(HIDE).tolist()) == ("DE", [11], [12])
    assert (two.country, len(two.plays)) == ("FR", 0)
    assert sorted(states.sample(10)) == [1, 2]


def test_filling_folds_a_tail_into_the_record() -> None:
    store = TailedMemory()
    states = ListenerStates(store, LIMITS)
    states.add(changes([(1, "play", 0, 11)]))
    states.fill([(1, profile(1, "DE"))])
    record, tail = store.get(1)
    assert record is not None
    assert tail == b""
    found = states.read(1)
    assert found is not None
    assert (found.country, found.plays["track_id"].tolist()) == ("DE", [11])


@pytest.mark.parametrize("what", ["record", "rows"])
def test_what_a_newer_program_wrote_is_unavailable_and_stays(what: str) -> None:
    store = TailedMemory()
    states = ListenerStates(store, LIMITS)
    states.add(changes([(1, "play", 0, 11)]))
    if what == "record":
        store.fold_all()
    record, tail = store.get(1)
    newer = bytes([VERSION + 1])
    store.kept[1] = (newer + record[1:], b"") if record else (None, newer + tail[1:])
    before = store.get(1)
    with pytest.raises(Unavailable, match=f"listener 1: .* layout version {VERSION + 1}.*; upgrade it"):
        states.read(1)
    states.add(changes([(1, "play", 1, 12)]))
    with pytest.raises(Unavailable):
        store.fold_all()
    kept_record, kept_tail = store.get(1)
    assert kept_record == before[0]
    assert kept_tail.startswith(before[1])
    assert decode_rows(kept_tail[len(before[1]) :])[0]["track_id"].tolist() == [12]


def test_events_as_they_came_in_and_as_a_table_say_the_same() -> None:
    rng = np.random.default_rng(3)
    events = [
        Event(
            bytes(16),
            int(rng.integers(1, 10**6)),
            0,
            int(rng.integers(0, 5)),
            str(rng.choice([kind.value for kind in EventType])),
            track_id=int(rng.integers(0, 9)) if rng.random() < 0.8 else None,
            artist_id=int(rng.integers(0, 9)) if rng.random() < 0.5 else None,
            ms_played=int(rng.integers(0, 60_000)) if rng.random() < 0.5 else None,
        )
        for _ in range(2_000)
    ]
    tracks = TrackFacts(np.arange(5), np.arange(5) + 100, np.arange(5, dtype=np.int32) * 10_000)
    names = ("user_id", "ts", "type", "track_id", "artist_id", "ms_played")
    table = pa.table({name: [getattr(event, name) for event in events] for name in names})
    for facts in (None, tracks):
        one, other = read_records(events, facts), read_events(table, facts)
        for name in ("play_user", "plays", "mark_user", "marks"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len(read_records([]).users) == 0
