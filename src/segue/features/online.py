"""The features of one request: a matrix of candidates x features, straight from the listener's state.

What depends on the listener alone is aggregated once over their plays and marks, giving a small table per key (none,
track, artist, genre); what depends on tracks and artists is a row of the bundle's daily matrices. A candidate's row is
gathered from those. Nothing is done per candidate in Python, and values stay float64 until the last store, as in
the warehouse.
"""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidInput
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SESSION_GAP, Surface
from segue.features.definition import FEATURES, Feature, select
from segue.features.expression import Aggregate, Attribute, leaves
from segue.features.program import Arithmetic, RowProgram, arithmetic, finish, fold
from segue.features.relations import MARK_KINDS, MAX_AGE, Artist, Candidate, Entity, Track, facts
from segue.listener.state import ListenerState
from segue.models.order import numbered, slot_of

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]

_SURFACES: Final = {surface.value: float(n) for n, surface in enumerate(Surface)}
_MARK_COLUMNS: Final = ("age", "minutes_ago")
_KEYS: Final = ("track_id", "artist_id", "genre")
_PLAY_COLUMNS: Final = (
    *_MARK_COLUMNS,
    "recency",
    "in_session",
    "listened",
    "skipped",
    "ms_played",
    "day",
    *_KEYS,
)
"""In the order that `_columns_of_plays` writes them."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where a request is made. `now` is UTC microseconds: only what is strictly earlier counts."""

    now: int
    surface: str | None = None


@dataclass(frozen=True, slots=True)
class Daily:
    """A daily snapshot as the bundle holds it: float32[n, len(names)], row-major, a row per track or artist index."""

    names: Sequence[str]
    values: Float32s


@dataclass(frozen=True, slots=True)
class Known:
    """Candidate features that the pipeline knows: float32[n, len(names)], row-major, a row per candidate."""

    names: tuple[str, ...]
    values: Float32s


class Tracks(Protocol):
    """What assembling asks of a catalogue: the columns of `Catalogue`, and where tracks are."""

    @property
    def track_id(self) -> Ints: ...
    @property
    def artist(self) -> Places: ...
    @property
    def artist_id(self) -> Ints: ...
    @property
    def genre(self) -> npt.NDArray[np.int16]: ...

    def positions(self, track_ids: Ints, /) -> Places:
        """Index of each track, -1 where the catalogue has none. int32[n]."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the bundle says of tracks, by track index.

    `track_id` int64[n] ascending; `artist` int32[n], indices into `artist_id` int64[a], -1 unknown; `genre` int16[n], any
    numbering, -1 unknown.
    """

    track_id: Ints
    artist: Places
    artist_id: Ints
    genre: npt.NDArray[np.int16]

    def positions(self, track_ids: Ints, /) -> Places:
        """Index of each track, -1 where the catalogue has none. int32[n]."""
        if not len(self.track_id):
            return np.full(len(track_ids), -1, np.int32)
        at = np.minimum(np.searchsorted(self.track_id, track_ids), len(self.track_id) - 1)
        return np.where(self.track_id[at] == track_ids, at, -1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A daily snapshot: columns `take` of it go to the places `columns` of a row."""

    columns: Places
    take: Places
    values: Float32s
    defaults: Float32s


@dataclass(frozen=True, slots=True)
class _Block:
    """Features of one entity over one relation: one key, hence one table. `columns` are their places in a row.

    `which` int64[a] are the aggregations it folds, by their row in the relation's program; `leaves` the facts it reads.
    """

    entity: Entity
    relation: str
    columns: Places
    which: Ints
    leaves: tuple[Aggregate | Attribute, ...]
    arithmetic: Arithmetic


class OnlineFeatures:
    """Assembles the matrix that a ranker scores.

    `names` are the ranker's features in its order, `tracks` and `artists` the daily snapshots. Raises NotFound for a
    name without a definition, InvalidInput if a snapshot lacks one of its features or is not row-major float32.
    """

    def __init__(self, names: Sequence[str], catalogue: Tracks, tracks: Daily, artists: Daily) -> None:
        self.names = tuple(names)
        self._catalogue = catalogue
        chosen = list(enumerate(select(names)))
        self._track = _snapshot(tracks, [(n, f) for n, f in chosen if f.entity is Track])
        self._artist = _snapshot(artists, [(n, f) for n, f in chosen if f.entity is Artist])
        self._candidate = [f for _, f in chosen if f.entity is Candidate]
        self._candidate_columns = np.array([n for n, f in chosen if f.entity is Candidate], np.int32)
        self._candidate_defaults = np.array([f.default for f in self._candidate], np.float32)
        self._known: dict[tuple[str, ...], Places] = {}
        """Where each candidate feature is among known ones of these names, -1 where it is not."""
        self._programs: dict[str, RowProgram] = {}
        self._folds: dict[str, Ints] = {}
        groups: dict[tuple[str, str], list[tuple[int, Feature]]] = {}
        for n, f in chosen:
            if f.value is not None and not f.entity.daily:
                groups.setdefault((f.entity.name, f.relation), []).append((n, f))
        self._blocks = [self._block(some) for some in groups.values()]
        self._folds = {name: np.array(program.folds, np.int64) for name, program in self._programs.items()}

    def assemble(
        self,
        state: ListenerState,
        moment: Moment,
        candidates: Places,
        known: Known | None = None,
        played: Places | None = None,
    ) -> Float32s:
        """The matrix of a request: float32[len(candidates), len(names)], NaN where the model takes care of missing.

        `candidates` int32[n] are track indices; candidate features that are not `known` take their default. `played` int32[m]
        are the indices of the state's plays, if they are known.
        """
        candidates = np.ascontiguousarray(candidates, np.int32)
        out = np.empty((len(candidates), len(self.names)), np.float32)
        artist = self._catalogue.artist[candidates]
        _copy_rows(
            out, self._track.columns, self._track.take, self._track.values, self._track.defaults, candidates
        )
        _copy_rows(
            out, self._artist.columns, self._artist.take, self._artist.values, self._artist.defaults, artist
        )
        keys = {
            "track_id": self._catalogue.track_id[candidates],
            "artist_id": _artist_ids(self._catalogue.artist_id, artist),
            "genre": self._catalogue.genre[candidates].astype(np.int64),
        }
        history = _History(state, moment, self._catalogue, played)
        rows = {name: program.run(history.columns(name)) for name, program in self._programs.items()}
        for block in self._blocks:
            self._write(out, block, history, rows, keys)
        names, values = (
            (known.names, known.values) if known else ((), np.empty((len(candidates), 0), np.float32))
        )
        if names not in self._known:
            self._known[names] = np.array(
                [names.index(f.name) if f.name in names else -1 for f in self._candidate], np.int32
            )
        _copy_known(out, self._candidate_columns, self._known[names], values, self._candidate_defaults)
        return out

    def _block(self, some: list[tuple[int, Feature]]) -> _Block:
        _, first = some[0]
        values = [f.value for _, f in some if f.value is not None]
        read = tuple(dict.fromkeys(leaf for value in values for leaf in leaves(value)))
        which = []
        if first.relation not in facts(first.entity):
            columns = _PLAY_COLUMNS if first.relation == "plays" else _MARK_COLUMNS
            program = self._programs.setdefault(first.relation, RowProgram(list(columns)))
            which = [program.add(leaf) for leaf in read if isinstance(leaf, Aggregate)]
        return _Block(
            first.entity,
            first.relation,
            np.array([n for n, _ in some], np.int32),
            np.array(which, np.int64),
            read,
            arithmetic(values, [f.default for _, f in some], read),
        )

    def _write(
        self, out: Float32s, block: _Block, history: _History, rows: dict[str, Floats], keys: dict[str, Ints]
    ) -> None:
        how = block.arithmetic
        if block.relation not in rows:
            read = [
                history.fact(leaf.relation, leaf.name) for leaf in block.leaves if isinstance(leaf, Attribute)
            ]
            table = finish(
                np.array(read, np.float64)[:, None], how.codes, how.starts, how.constants, how.defaults
            )
            _fill(out, block.columns, table[0])
            return
        key = block.entity.key
        known, group, slots = history.groups(block.relation, key)
        _write_folds(
            out,
            block.columns,
            known,
            slots,
            group,
            rows[block.relation],
            block.which,
            self._folds[block.relation],
            how.codes,
            how.starts,
            how.constants,
            how.defaults,
            keys[key] if key else known,
            bool(key),
        )


class _History:
    """The listener's plays and marks strictly before the moment, and what is known of the request, as columns."""

    def __init__(
        self, state: ListenerState, moment: Moment, catalogue: Tracks, played: Places | None
    ) -> None:
        self._now = moment.now
        self._state = state
        self._moment = moment
        self._catalogue = catalogue
        plays = state.plays
        ts = plays["ts"]
        first, end = np.searchsorted(ts, (moment.now - MAX_AGE, moment.now))
        self._plays = plays[first:end]
        self._played = None if played is None else played[first:end]
        self._by_relation: dict[str, npt.NDArray[np.void]] = {}

    def fact(self, relation: str, name: str) -> float:
        """A fact of the listener or of the request; NaN where unknown."""
        if relation == "listener":
            joined = self._state.joined_at
            return float("nan") if joined is None else (self._now - joined) / DAY
        if name == "surface":
            return _SURFACES.get(self._moment.surface or "", float("nan"))
        return float(self._now // HOUR % 24 if name == "hour" else (self._now // DAY + 3) % 7)

    def groups(self, relation: str, key: str) -> tuple[Ints, Ints, Places]:
        """The relation's keys int64[g], each row's place among them (-1 for an unknown key), and a table to find keys by."""
        if not key:
            rows = len(self._plays if relation == "plays" else self._marks(relation))
            return np.zeros(1, np.int64), np.zeros(rows, np.int64), np.zeros(1, np.int32)
        if relation == "plays":
            return self._of_plays[1][_KEYS.index(key)]
        found: tuple[Ints, Ints, Places] = numbered(self._marks(relation)["target_id"].copy())
        return found

    def columns(self, relation: str) -> Floats:
        """The columns that the relation's program starts from. float64[columns, rows]."""
        if relation == "plays":
            return self._of_plays[0]
        marks = self._marks(relation)
        out = np.empty((len(_MARK_COLUMNS), len(marks)))
        out[0] = self._now - marks["ts"]
        out[1] = out[0] / MINUTE
        return out

    @cached_property
    def _of_plays(self) -> tuple[Floats, tuple[tuple[Ints, Ints, Places], ...]]:
        """The columns of plays, and what `groups` gives for each of _KEYS."""
        at = self._catalogue.positions(self._plays["track_id"]) if self._played is None else self._played
        # What may be written to and what may not are two types to a compiler: it should meet one.
        plays = self._plays.view()
        plays.flags.writeable = False
        found: tuple[Floats, tuple[tuple[Ints, Ints, Places], ...]] = _columns_of_plays(
            plays, at, self._catalogue.genre, self._now
        )
        return found

    def _marks(self, relation: str) -> npt.NDArray[np.void]:
        if relation not in self._by_relation:
            marks, kinds = self._standing
            self._by_relation[relation] = marks[kinds == MARK_KINDS[relation]]
        return self._by_relation[relation]

    @cached_property
    def _standing(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint8]]:
        """All marks that stand, and their kinds."""
        marks = self._state.marks
        standing = marks[marks["on"] & (marks["ts"] < self._now)]
        return standing, standing["kind"].copy()


def from_facts(entity: Entity, known: Mapping[str, float]) -> dict[str, float]:
    """The daily features that an entity's facts alone decide, by name: of a track that no day has seen.

    `known` has each of its facts (see relations.FACTS), NaN where it is unknown.
    """
    names, read, how = _of_facts(entity)
    column = np.array([known[name] for name in read], np.float64)
    row = finish(column[:, None], how.codes, how.starts, how.constants, how.defaults)[0]
    return dict(zip(names, row.tolist(), strict=True))


@cache
def _of_facts(entity: Entity) -> tuple[list[str], list[str], Arithmetic]:
    """Which features those are, which facts they read, and how they follow."""
    chosen = [f for f in FEATURES.values() if f.entity is entity and f.relation in facts(entity)]
    values = [f.value for f in chosen if f.value is not None]
    read = tuple(dict.fromkeys(leaf for value in values for leaf in leaves(value)))
    how = arithmetic(values, [f.default for f in chosen], read)
    return [f.name for f in chosen], [leaf.name for leaf in read if isinstance(leaf, Attribute)], how


def _snapshot(daily: Daily, chosen: list[tuple[int, Feature]]) -> _Snapshot:
    place = {name: n for n, name in enumerate(daily.names)}
    missing = [f.name for _, f in chosen if f.name not in place]
    if missing:
        raise InvalidInput(
            f"the daily snapshot lacks {', '.join(missing[:5])}; build the bundle anew with the present definitions",
            field=missing[0],
        )
    if daily.values.dtype != np.float32 or not daily.values.flags.c_contiguous:
        raise InvalidInput(
            "the daily snapshot must be float32 and row-major", field="values", limit="float32, C order"
        )
    return _Snapshot(
        np.array([n for n, _ in chosen], np.int32),
        np.array([place[f.name] for _, f in chosen], np.int32),
        daily.values,
        np.array([f.default for _, f in chosen], np.float32),
    )


@njit(cache=True, nogil=True)
def _copy_rows(
    out: Float32s, columns: Places, take: Places, values: Float32s, defaults: Float32s, index: Places
) -> None:
    for i in range(len(index)):
        row = index[i]
        for j in range(len(columns)):
            out[i, columns[j]] = values[row, take[j]] if row >= 0 else defaults[j]


@njit(cache=True, nogil=True)
def _copy_known(out: Float32s, columns: Places, take: Places, values: Float32s, defaults: Float32s) -> None:
    for i in range(len(out)):
        for j in range(len(columns)):
            out[i, columns[j]] = values[i, take[j]] if take[j] >= 0 else defaults[j]


@njit(cache=True, nogil=True)
def _write_folds(
    out: Float32s,
    columns: Places,
    known: Ints,
    slots: Places,
    group: Ints,
    rows: Floats,
    which: Ints,
    folds: Ints,
    codes: Ints,
    starts: Ints,
    constants: Floats,
    defaults: Floats,
    keys: Ints,
    by_key: bool,
) -> None:
    """A block's columns: of each candidate the row of its key, or the only row."""
    table = finish(fold(group, len(known), rows, which, folds), codes, starts, constants, defaults)
    if by_key:
        _gather(out, columns, known, slots, table, keys)
    else:
        _fill(out, columns, table[0])


@njit(cache=True, nogil=True)
def _fill(out: Float32s, columns: Places, values: Floats) -> None:
    for i in range(len(out)):
        for j in range(len(columns)):
            out[i, columns[j]] = values[j]


@njit(cache=True, nogil=True)
def _gather(out: Float32s, columns: Places, known: Ints, slots: Places, table: Floats, keys: Ints) -> None:
    """Each candidate's row of the table: its key's, the one of a key without history, or that of an unknown key (-1)."""
    for i in range(len(keys)):
        at = len(known) + 1
        if keys[i] >= 0:
            at = slots[slot_of(slots, known, keys[i])]
            at = len(known) if at < 0 else at
        for j in range(len(columns)):
            out[i, columns[j]] = table[at, j]


@njit(cache=True, nogil=True)
def _columns_of_plays(
    plays: npt.NDArray[np.void], at: Places, genre: npt.NDArray[np.int16], now: int
) -> tuple[Floats, tuple[tuple[Ints, Ints, Places], ...]]:
    """_PLAY_COLUMNS float64[c, n] of plays before `now`, of tracks at some positions (-1: gone); and the keys numbered."""
    n = len(plays)
    out, ids = np.empty((len(_PLAY_COLUMNS), n)), np.empty((4, n), np.int64)
    going_on = n > 0 and now - plays[n - 1].ts < SESSION_GAP
    for i in range(n):
        play = plays[i]
        age = now - play.ts
        out[0, i], out[1, i], out[2, i] = age, age / MINUTE, n - i
        out[3, i] = going_on and play.session_start == plays[n - 1].session_start
        out[4, i], out[5, i], out[6, i] = play.listened, play.skipped, max(play.ms_played, 0)
        ids[0, i], ids[1, i], ids[2, i] = play.ts // DAY, play.track_id, play.artist_id
        ids[3, i] = genre[at[i]] if at[i] >= 0 else -1
    days, tracks, artists, genres = numbered(ids[0]), numbered(ids[1]), numbered(ids[2]), numbered(ids[3])
    out[7], out[8], out[9], out[10] = days[1], tracks[1], artists[1], genres[1]
    return out, (tracks, artists, genres)


@njit(cache=True, nogil=True)
def _artist_ids(artist_id: Ints, index: Places) -> Ints:
    out = np.full(len(index), -1, np.int64)
    for i in range(len(index)):
        if index[i] >= 0:
            out[i] = artist_id[index[i]]
    return out
