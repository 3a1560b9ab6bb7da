"""A listener's state is a fold over their events that does not care how the events arrive.

Plays and marks are each a set with a key; two rows of one key join to one row by a rule that is commutative,
associative and idempotent (a join-semilattice, as in Shapiro et al., "Conflict-free Replicated Data Types", 2011),
and the bound keeps the largest rows by a total order on what never changes downwards. So any order, any repetition and
any grouping of the same events gives the same state: a late event, a redelivered batch and a rebuild from the
warehouse need no special case.

- A play is keyed by (ts, track). Joined: listened if any says so, skipped if all say so, the largest ms_played and artist.
  The latest `max_plays` by (ts, track) stay.
- A mark is keyed by (kind, target). The latest by (ts, on) wins. `max_marks` stay: hides and blocks before others, then
  the latest by (ts, kind, target). A withdrawal is a row like any other, or a late `like` would undo an `unlike`.
- `session_start` is not folded: it is cut anew from the plays that stayed.

One vectorized reduction serves both `add_rows` (one listener, a few events) and `fold_table` (all listeners, from the
warehouse), so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidData
from segue.contracts.vocabulary import END_MS, LISTEN_MS, SESSION_GAP, EventType
from segue.events.records import Event
from segue.listener.codec import encode
from segue.listener.state import (
    ADD,
    BLOCK,
    FOLLOW,
    HIDE,
    LIKE,
    MARK,
    PLAY,
    REPOST,
    ListenerState,
    anonymous,
)
from segue.settings.tree import State

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

PLAYED: Final = (EventType.PLAY, EventType.SKIP)
MARKED: Final[dict[EventType, tuple[int, bool]]] = {
    EventType.LIKE: (LIKE, True),
    EventType.UNLIKE: (LIKE, False),
    EventType.REPOST: (REPOST, True),
    EventType.UNREPOST: (REPOST, False),
    EventType.FOLLOW: (FOLLOW, True),
    EventType.UNFOLLOW: (FOLLOW, False),
    EventType.PLAYLIST_ADD: (ADD, True),
    EventType.HIDE: (HIDE, True),
    EventType.BLOCK_ARTIST: (BLOCK, True),
}
"""Which mark an event makes, and whether it sets or withdraws it."""
OF_ARTIST: Final = (FOLLOW, BLOCK)
"""Kinds of mark whose target is an artist; the others' is a track."""
GUARANTEES: Final = (HIDE, BLOCK)
"""Kinds of mark that are evicted last."""
_KINDS: Final = (*PLAYED, *MARKED)
_CODE: Final = {kind.value: code for code, kind in enumerate(_KINDS)}
_MARK: Final = np.array([*(255 for _ in PLAYED), *(what for what, _ in MARKED.values())], np.uint8)
_ON: Final = np.array([*(False for _ in PLAYED), *(sets for _, sets in MARKED.values())])
_OF_ARTIST: Final = np.isin(_MARK, OF_ARTIST)
"""By position in _KINDS."""


class KnowsTracks(Protocol):
    """What judging a play needs to know of tracks."""

    def facts_of(self, track_ids: Ints, /) -> tuple[Ints, npt.NDArray[np.int32]]:
        """Artist's id int64[n] and duration in ms int32[n] of each track; -1 where unknown."""


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """Tracks by id: `track_id` int64[n] ascending, `artist_id` int64[n] (-1 unknown), `duration_ms` int32[n] (-1 unknown)."""

    track_id: Ints
    artist_id: Ints
    duration_ms: npt.NDArray[np.int32]

    @classmethod
    def from_table(cls, tracks: pa.Table) -> TrackFacts:
        """From a table with the columns of TRACKS."""
        ids = _ints(tracks["track_id"], -1)
        order = np.argsort(ids, kind="stable")
        return cls(
            ids[order],
            _ints(tracks["artist_id"], -1)[order],
            _ints(tracks["duration_ms"], -1)[order].astype(np.int32),
        )

    def facts_of(self, track_ids: Ints, /) -> tuple[Ints, npt.NDArray[np.int32]]:
        """Artist and duration of each track; -1 where unknown."""
        if not len(self.track_id):
            return np.full(len(track_ids), -1, np.int64), np.full(len(track_ids), -1, np.int32)
        at = np.minimum(np.searchsorted(self.track_id, track_ids), len(self.track_id) - 1)
        hit = self.track_id[at] == track_ids
        return np.where(hit, self.artist_id[at], -1), np.where(hit, self.duration_ms[at], np.int32(-1))


@dataclass(frozen=True, slots=True)
class Changes:
    """What events say of listeners. `plays` PLAY[p] belong to `play_user` int64[p]; `marks` MARK[m] to `mark_user` int64[m]."""

    play_user: Ints
    plays: Rows
    mark_user: Ints
    marks: Rows

    @property
    def users(self) -> Ints:
        """The listeners something is said of, ascending. int64[u]."""
        return np.union1d(self.play_user, self.mark_user)

    def of(self, user_id: int) -> Changes:
        """The part about one listener."""
        return self._where(self.play_user == user_id, self.mark_user == user_id)

    def _where(self, play: Bools, mark: Bools) -> Changes:
        return Changes(
            self.play_user[play],
            self.plays[play],
            self.mark_user[mark],
            self.marks[mark],
        )


_NO_TRACKS: Final = TrackFacts(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))


def read_events(events: pa.Table | pa.RecordBatch, tracks: KnowsTracks | None = None) -> Changes:
    """Changes in a batch of events, in any order.

    `events` has the columns user_id, ts, type, track_id, artist_id and ms_played of RAW_EVENTS, and may have `listened`
    and `skipped` of EVENTS, which are then taken as they are. Otherwise plays are judged here by the warehouse's rule (a
    play of 30 s or more, of unknown length, or to the track's end is listened to; any other play and every skip
    is skipped), with durations and missing artists taken from `tracks`.
    """
    kind = _ints(pc.index_in(events["type"], value_set=pa.array(_KINDS, pa.string())), -1)
    user, ts = _ints(events["user_id"], -1), _ints(events["ts"], 0)
    track, artist = _ints(events["track_id"], -1), _ints(events["artist_id"], -1)
    ms = _ints(events["ms_played"], -1)
    judged = None
    if "listened" in events.schema.names:
        judged = _bools(events["listened"]), _bools(events["skipped"])
    return _changes_in(kind, user, ts, track, artist, ms, judged, tracks or _NO_TRACKS)


def read_records(events: Sequence[Event], tracks: KnowsTracks | None = None) -> Changes:
    """Changes in events as they came in, by the same rules. Without Arrow, whose first use of a list loads pandas."""
    kind = np.array([_CODE.get(event.type, -1) for event in events], np.int64)
    user = np.array([event.user_id for event in events], np.int64)
    ts = np.array([event.ts for event in events], np.int64)
    track, artist, ms = (
        np.array([-1 if value is None else value for value in column], np.int64)
        for column in (
            [event.track_id for event in events],
            [event.artist_id for event in events],
            [event.ms_played for event in events],
        )
    )
    return _changes_in(kind, user, ts, track, artist, ms, None, tracks or _NO_TRACKS)


def _changes_in(
    kind: Ints,
    user: Ints,
    ts: Ints,
    track: Ints,
    artist: Ints,
    ms: Ints,
    judged: tuple[Bools, Bools] | None,
    tracks: KnowsTracks,
) -> Changes:
    """Changes in events as columns; `kind` is a position in _KINDS or -1, ids and lengths are -1 where unknown."""
    play = (kind >= 0) & (kind < len(PLAYED)) & (track >= 0)
    plays = _plays(play, kind, ts, track, artist, ms, judged, tracks)

    target = np.where(_OF_ARTIST[kind], artist, track)
    chosen = (kind >= len(PLAYED)) & (target >= 0)
    marks = np.zeros(int(chosen.sum()), MARK)
    marks["kind"], marks["on"] = _MARK[kind[chosen]], _ON[kind[chosen]]
    marks["target_id"], marks["ts"] = target[chosen], ts[chosen]
    return Changes(user[play], plays, user[chosen], marks)


def apply(state: ListenerState, changes: Changes, limits: State) -> ListenerState:
    """The state with the changes about its listener folded in; changes about others are ignored."""
    mine = changes.of(state.user_id)
    return add_rows(state, mine.plays, mine.marks, limits)


def add_rows(state: ListenerState, plays: Rows, marks: Rows, limits: State) -> ListenerState:
    """The state with plays PLAY[p] and marks MARK[m] of its listener folded in, in any order."""
    if not len(plays) and not len(marks):
        return state
    kept_plays, kept_marks = state.plays, state.marks
    if len(plays):
        kept_plays = _insert_plays(kept_plays, plays, limits.max_plays)
    if len(marks):
        _, kept_marks = _reduce_marks(*_same_user(_join(kept_marks, marks)), limits.max_marks)
    return replace(state, plays=kept_plays, marks=kept_marks, known=True)


def by_listener(changes: Changes) -> Iterator[tuple[int, Rows, Rows]]:
    """The changes apart: (listener, plays, marks), listeners ascending."""
    play_order = np.argsort(changes.play_user, kind="stable")
    mark_order = np.argsort(changes.mark_user, kind="stable")
    plays, marks = _take(changes.plays, play_order), _take(changes.marks, mark_order)
    users = changes.users
    play_at = np.append(np.searchsorted(changes.play_user[play_order], users), len(plays)).tolist()
    mark_at = np.append(np.searchsorted(changes.mark_user[mark_order], users), len(marks)).tolist()
    for i, user in enumerate(users.tolist()):
        yield user, plays[play_at[i] : play_at[i + 1]], marks[mark_at[i] : mark_at[i + 1]]


def merge(state: ListenerState, other: ListenerState, limits: State) -> ListenerState:
    """The state of one listener from two partial ones: `state`'s profile, the plays and marks of both.

    A rebuild from the warehouse is merged, not stored over, so that what happened meanwhile stays.
    """
    return add_rows(state, other.plays, other.marks, limits)


class Profiles:
    """Profiles of listeners by id, from a table with the columns of LISTENERS: one shard's worth, held in memory."""

    def __init__(self, listeners: pa.Table) -> None:
        table = listeners.sort_by("user_id")
        self.user_id = _ints(table["user_id"], -1)
        self._columns = [
            table[name].to_pylist()
            for name in (
                "country",
                "plan",
                "joined_at",
                "personalization_consent",
                "explicit_ok",
            )
        ]

    def find(self, user_id: int) -> ListenerState | None:
        """The listener's profile as a state without plays and marks, or None."""
        at = int(np.searchsorted(self.user_id, user_id))
        if at == len(self.user_id) or self.user_id[at] != user_id:
            return None
        country, plan, joined_at, consent, explicit_ok = (column[at] for column in self._columns)
        return ListenerState(user_id, country, plan, joined_at, bool(consent), bool(explicit_ok))


def fold_table(
    events: Iterable[pa.RecordBatch],
    limits: State,
    *,
    profiles: Profiles | None = None,
    tracks: KnowsTracks | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Records of all listeners from their events, to load a state store with.

    `events` are batches sorted by user_id (a listener may span batches), with the columns `read_events` takes; memory is
    bounded by a batch. Listeners with a profile and no events get a record too, last. Raises InvalidData if
    the batches are not sorted by user_id.
    """
    rest = Changes(
        np.empty(0, np.int64),
        np.empty(0, PLAY),
        np.empty(0, np.int64),
        np.empty(0, MARK),
    )
    seen: list[Ints] = []
    last = -1
    for batch in events:
        if not batch.num_rows:
            continue
        last = _check_sorted(_ints(batch["user_id"], -1), last)
        whole = _reduce(_concat(rest, read_events(batch, tracks)), limits)
        rest = whole.of(last)
        yield from _records(
            whole._where(whole.play_user != last, whole.mark_user != last),
            profiles,
            seen,
        )
    yield from _records(rest, profiles, seen)
    if profiles is not None:
        done = np.concatenate(seen) if seen else np.empty(0, np.int64)
        for user in profiles.user_id[~np.isin(profiles.user_id, done)].tolist():
            yield user, encode(_profile(profiles, user))


def _plays(
    play: Bools,
    kind: Ints,
    ts: Ints,
    track: Ints,
    artist: Ints,
    ms: Ints,
    judged: tuple[Bools, Bools] | None,
    tracks: KnowsTracks,
) -> Rows:
    ms = ms[play]
    facts_artist, duration = tracks.facts_of(track[play])
    rows = np.zeros(len(ms), PLAY)
    rows["ts"], rows["track_id"], rows["ms_played"] = ts[play], track[play], ms
    rows["artist_id"] = np.where(artist[play] >= 0, artist[play], facts_artist)
    if judged is not None:
        rows["listened"], rows["skipped"] = judged[0][play], judged[1][play]
    else:
        at_end = (duration > 0) & (ms >= duration - END_MS)
        listened = (kind[play] == 0) & ((ms < 0) | (ms >= LISTEN_MS) | at_end)
        rows["listened"], rows["skipped"] = listened, ~listened
    return rows


def _reduce(changes: Changes, limits: State) -> Changes:
    return Changes(
        *_reduce_plays(changes.play_user, changes.plays, limits.max_plays),
        *_reduce_marks(changes.mark_user, changes.marks, limits.max_marks),
    )


def _insert_plays(rows: Rows, new: Rows, keep: int) -> Rows:
    """The latest `keep` of reduced plays `rows` and further plays `new`, as `_reduce_plays` of both.

    Nothing changes before the session that the earliest new play falls into, so only what is behind that is reduced.
    """
    latest = _next_play(rows, new)
    at = len(rows)
    if latest is None:
        at = int(np.searchsorted(rows["ts"], new["ts"].min() - SESSION_GAP, side="right"))
        if at < len(rows):
            at = int(np.searchsorted(rows["session_start"], rows["session_start"][at]))
        _, latest = _reduce_plays(*_same_user(_join(rows[at:], new)), keep)
    first = max(at + len(latest) - keep, 0)
    if first == 0:
        return _join(rows[:at], latest)
    joined = _join(rows[min(first, at) : at], latest)
    cut = joined["session_start"] == joined["session_start"][0]
    joined["session_start"][cut] = joined["ts"][0]
    return joined


def _next_play(rows: Rows, new: Rows) -> Rows | None:
    """The ordinary case at half the price: one play, later than all before, with its session; else None."""
    if len(new) != 1 or not len(rows):
        return None
    (ts, track, *_), (last_ts, last_track, _, session, *_) = new[0].item(), rows[-1].item()
    if (ts, track) <= (last_ts, last_track):
        return None
    latest = new.copy()
    latest["session_start"] = session if ts - last_ts < SESSION_GAP else ts
    return latest


def _reduce_plays(user: Ints, rows: Rows, keep: int) -> tuple[Ints, Rows]:
    """Join rows of one key, keep each listener's latest, cut sessions. Sorted by (user, ts, track)."""
    order = np.lexsort((rows["track_id"], rows["ts"], user))
    user, rows = user[order], _take(rows, order)
    starts = np.flatnonzero(_changes(user, rows["ts"], rows["track_id"]))
    if len(starts) < len(rows):
        joined = rows[starts]
        for name in ("artist_id", "ms_played"):
            joined[name] = np.maximum.reduceat(rows[name], starts)
        joined["listened"] = np.logical_or.reduceat(rows["listened"], starts)
        joined["skipped"] = np.logical_and.reduceat(rows["skipped"], starts)
        user, rows = user[starts], joined
    kept = _last(user, keep)
    if not kept.all():
        user, rows = user[kept], _take(rows, kept)
    ts = rows["ts"]
    fresh = _changes(user)
    fresh[1:] |= np.diff(ts) >= SESSION_GAP
    first = (
        np.maximum.accumulate(np.where(fresh, np.arange(len(ts)), 0)) if len(ts) else np.empty(0, np.int64)
    )
    rows["session_start"] = ts[first]
    return user, rows


def _reduce_marks(user: Ints, rows: Rows, keep: int) -> tuple[Ints, Rows]:
    """Keep the latest row of each key, then each listener's most important. Sorted by (user, kind, target)."""
    order = np.lexsort((rows["on"], rows["ts"], rows["target_id"], rows["kind"], user))
    user, rows = user[order], _take(rows, order)
    latest = np.roll(_changes(user, rows["kind"], rows["target_id"]), -1)
    user, rows = user[latest], _take(rows, latest)
    if len(user) <= keep:
        return user, rows
    rank = np.lexsort(
        (
            rows["target_id"],
            rows["kind"],
            rows["ts"],
            np.isin(rows["kind"], GUARANTEES),
            user,
        )
    )
    chosen = np.sort(rank[_last(user[rank], keep)])
    return user[chosen], _take(rows, chosen)


def _changes(*keys: npt.NDArray[Any]) -> Bools:
    """Where a row's key differs from the row before it; True for the first."""
    fresh = np.zeros(len(keys[0]), np.bool_)
    fresh[:1] = True
    for key in keys:
        fresh[1:] |= key[1:] != key[:-1]
    return fresh


def _last(user: Ints, keep: int) -> Bools:
    """The last `keep` rows of each listener, in rows grouped by listener."""
    ends = np.append(np.flatnonzero(_changes(user))[1:], len(user))
    behind: Bools = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(user)) <= keep
    return behind


def _records(changes: Changes, profiles: Profiles | None, seen: list[Ints]) -> Iterator[tuple[int, bytes]]:
    """Records of reduced changes."""
    seen.append(changes.users)
    for user, plays, marks in by_listener(changes):
        yield (
            user,
            encode(replace(_profile(profiles, user), plays=plays, marks=marks, known=True)),
        )


def _profile(profiles: Profiles | None, user_id: int) -> ListenerState:
    found = profiles.find(user_id) if profiles is not None else None
    return anonymous(user_id) if found is None else found


def _concat(a: Changes, b: Changes) -> Changes:
    return Changes(
        np.concatenate([a.play_user, b.play_user]),
        _join(a.plays, b.plays),
        np.concatenate([a.mark_user, b.mark_user]),
        _join(a.marks, b.marks),
    )


def _join(a: Rows, b: Rows) -> Rows:
    """Both, as new rows."""
    return np.frombuffer(bytearray(b"".join((a.tobytes(), b.tobytes()))), a.dtype)


def _take(rows: Rows, chosen: npt.NDArray[Any]) -> Rows:
    """rows[chosen]; NumPy moves rows of plain bytes five times as fast as rows of fields."""
    taken: Rows = np.ascontiguousarray(rows).view(f"V{rows.dtype.itemsize}")[chosen].view(rows.dtype)
    return taken


def _check_sorted(user: Ints, last: int) -> int:
    if user[0] < last or (np.diff(user) < 0).any():
        raise InvalidData(
            "events must be sorted by user_id to be folded in bulk; sort them by (user_id, ts)",
            field="user_id",
            limit="ascending",
        )
    return int(user[-1])


def _same_user(rows: Rows) -> tuple[Ints, Rows]:
    return np.zeros(len(rows), np.int64), rows


def _ints(column: pa.Array | pa.ChunkedArray, unknown: int) -> Ints:
    return np.asarray(pc.fill_null(column, unknown).to_numpy(zero_copy_only=False)).astype(
        np.int64, copy=False
    )


def _bools(column: pa.Array | pa.ChunkedArray) -> Bools:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False))
