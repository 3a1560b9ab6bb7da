"""From kernels' rows to the Arrow tables of the contracts, sorted by listener and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ids import uuid7_column
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.contracts.vocabulary import HOUR, SECOND
from segue.simulation.catalogue import Catalogue
from segue.simulation.policy import SOURCE_NAMES
from segue.simulation.session import (
    BLOCK_ARTIST,
    FOLLOW,
    PLAYLIST_ADD,
    SEARCHED,
    SURFACES,
    TEAMS,
    TYPES,
    UNFOLLOW,
    Requests,
    Rows,
    Sessions,
    Slates,
)
from segue.simulation.words import COUNTRIES, DEVICES
from segue.simulation.world import (
    ARTIST_BASE,
    F32,
    F64,
    FLAGS,
    I8,
    I16,
    I32,
    I64,
    TRACK_BASE,
    U8,
    U64,
    USER_BASE,
)

__all__ = ["Answerer", "EventColumns", "ExposureColumns", "Writer", "join", "pick"]

POLICY_VERSION = "logging-policy-1"
_LATE = 0.01
"""Share of events a client held back while it had no network."""


class EventColumns(NamedTuple):
    """Events, one entry each: event and request uint8[n, 16]; request counts where `asked`; the rest as in
    EVENT_ROW."""

    event: U8
    ts: I64
    received: I64
    user: I32
    session: I64
    type: U8
    track: I32
    ms: I32
    surface: I16
    position: I16
    request: U8
    asked: FLAGS
    extra: I16
    device: U8


class ExposureColumns(NamedTuple):
    """Filled slots, one entry each: request uint8[n, 16]; the rest as in Requests and Slates."""

    request: U8
    ts: I64
    user: I32
    surface: I32
    position: I16
    track: I32
    score: F32
    sources: U64
    propensity: F64
    team: I8
    by: I16


class Answerer(NamedTuple):
    """What the exposure log says of who answered: version of the models, hash of the recipe by surface, variants as JSON."""

    bundle: str
    config: Mapping[str, str] = {}
    variants: str | None = None


Columns = TypeVar("Columns", EventColumns, ExposureColumns)


def join(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, in order; there is one part at least."""
    return type(parts[0])(*(np.concatenate(c) for c in zip(*parts, strict=True)))


def pick(columns: Columns, rows: npt.NDArray[Any]) -> Columns:
    """Some rows, by index or mask."""
    return type(columns)(*(c[rows] for c in columns))


def event_columns(
    rows: Rows, sessions: Sessions, session_id: I64, requests: U8, rng: np.random.Generator
) -> EventColumns:
    """Rows with what their session and request say.

    session_id int64 per session, -1 for none; requests uint8[m, 16], the ids of the wave's requests.
    """
    n, s = len(rows), rows["session"]
    ts, ms = np.ascontiguousarray(rows["ts"]), np.ascontiguousarray(rows["ms"])
    asked = rows["request"] >= 0
    ids = requests[np.maximum(rows["request"], 0)] if len(requests) else np.zeros((n, 16), np.uint8)
    delay = rng.exponential(0.4 * SECOND, n)
    late = rng.random(n) < _LATE
    delay[late] = rng.exponential(2 * HOUR, int(late.sum()))
    return EventColumns(
        event=uuid7_column(ts, rng.integers(0, 2**64, (n, 2), np.uint64)),
        ts=ts,
        received=ts + np.maximum(ms, 0) * np.int64(1_000) + delay.astype(np.int64),
        user=sessions["user"][s],
        session=session_id[s],
        type=rows["type"].copy(),
        track=rows["track"].copy(),
        ms=ms,
        surface=rows["surface"].copy(),
        position=rows["position"].copy(),
        request=ids,
        asked=asked,
        extra=rows["extra"].copy(),
        device=sessions["device"][s],
    )


def exposure_columns(requests: Requests, slates: Slates, ids: U8) -> ExposureColumns:
    """The filled slots of all slates; ids uint8[n, 16] name the requests."""
    r, slot = np.nonzero(slates.track >= 0)
    return ExposureColumns(
        request=ids[r],
        ts=requests.ts[r],
        user=requests.user[r],
        surface=requests.surface[r],
        position=slot.astype(np.int16),
        track=slates.track[r, slot],
        score=slates.score[r, slot],
        sources=slates.sources[r, slot],
        propensity=slates.propensity[r, slot],
        team=slates.team[r, slot],
        by=slates.by[r],
    )


class Writer:
    """Builds Arrow tables; holds the words that rows refer to by number."""

    def __init__(
        self, catalogue: Catalogue, arms: Sequence[Answerer] = (), sources: Sequence[str] = SOURCE_NAMES
    ) -> None:
        """`arms` are who may have answered besides the logging policy, `sources` the names of the bits of `sources`."""
        self._answerers = (Answerer(POLICY_VERSION), *arms)
        self._sources = tuple(sources)
        tracks = catalogue.tracks
        self._artist = np.ascontiguousarray(catalogue.music.track["artist"])
        self._country = catalogue.habits.country
        titles = pc.utf8_lower(tracks.column("title").combine_chunks())
        names = pc.utf8_lower(catalogue.artists.column("name").combine_chunks()).take(pa.array(self._artist))
        tags = pc.binary_join(tracks.column("tags").combine_chunks(), " ")
        # Why five: kinds 0 and 1 are whole titles, then artist names, tags, and the beginning of a title.
        self._queries = (titles, titles, names, tags, pc.utf8_slice_codeunits(titles, 0, 7))

    def events(self, columns: EventColumns, day: date) -> pa.Table:
        """RAW_EVENTS rows of one day, sorted by listener and time."""
        c = pick(columns, np.lexsort((columns.ts, columns.user)))
        n = len(c.ts)
        searched = c.type == SEARCHED
        about_artist = np.isin(c.type, (FOLLOW, UNFOLLOW, BLOCK_ARTIST))
        adds = c.type == PLAYLIST_ADD
        user = c.user.astype(np.int64) + USER_BASE
        return pa.Table.from_arrays(
            [
                _days(day, n),
                _binary(c.event, None),
                pa.array(c.ts),
                pa.array(c.received),
                pa.array(user),
                pa.array(c.session, mask=c.session < 0),
                _named(c.type, [str(t) for t in TYPES]),
                pa.array(c.track.astype(np.int64) + TRACK_BASE, mask=searched | about_artist),
                pa.array(self._artist[c.track].astype(np.int64) + ARTIST_BASE, mask=searched),
                pa.array(c.ms, mask=c.ms < 0),
                _named(c.surface, [str(s) for s in SURFACES]),
                pa.array(c.position, mask=c.position < 0),
                _binary(c.request, c.asked),
                pa.array(user * 4 + c.extra, mask=~adds),
                self._query_column(c, searched),
                _named(self._country[c.user], [x[0] for x in COUNTRIES]),
                _named(c.device, [x[0] for x in DEVICES]),
            ],
            schema=RAW_EVENTS.arrow,
        )

    def exposures(self, columns: ExposureColumns, day: date) -> pa.Table:
        """EXPOSURES rows of one day, sorted by listener, time and slot."""
        c = pick(columns, np.lexsort((columns.position, columns.ts, columns.user)))
        n = len(c.ts)
        return pa.Table.from_arrays(
            [
                _days(day, n),
                _binary(c.request, None),
                pa.array(c.ts),
                pa.array(c.user.astype(np.int64) + USER_BASE),
                _named(c.surface, [str(s) for s in SURFACES]),
                _named(c.by + 1, [a.bundle for a in self._answerers]),
                self._configs(c),
                pa.array([a.variants for a in self._answerers], pa.string()).take(pa.array(c.by + 1)),
                pa.nulls(n, pa.int32()),
                pa.nulls(n, pa.int16()),
                pa.array(c.position),
                pa.array(c.track.astype(np.int64) + TRACK_BASE),
                pa.array(c.score),
                _source_lists(c.sources, self._sources),
                pa.array(c.propensity, mask=np.isnan(c.propensity)),
                pa.array(TEAMS, pa.string()).take(pa.array(c.team)),
                pa.nulls(n, pa.list_(pa.float32())),
            ],
            schema=EXPOSURES.arrow,
        )

    def _configs(self, c: ExposureColumns) -> pa.Array:
        every = [a.config.get(surface) for a in self._answerers for surface in SURFACES]
        return pa.array(every, pa.string()).take(
            pa.array((c.by.astype(np.int64) + 1) * len(SURFACES) + c.surface)
        )

    def _query_column(self, c: EventColumns, searched: FLAGS) -> pa.Array:
        rows = np.flatnonzero(searched)
        track = pa.array(c.track[rows])
        words = pc.choose(pa.array(c.extra[rows].astype(np.int64)), *(q.take(track) for q in self._queries))
        place = np.zeros(len(c.ts), np.int64)
        place[rows] = np.arange(len(rows))
        return words.take(pa.array(place, mask=~searched))


def _days(day: date, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(day, pa.date32()), n)


def _named(code: npt.NDArray[Any], names: list[str]) -> pa.Array:
    """Text by number; a negative number is null."""
    index = pa.array(code, mask=code < 0) if code.dtype.kind == "i" else pa.array(code)
    return pa.array(names, pa.string()).take(index)


def _binary(raw: U8, valid: FLAGS | None) -> pa.Array:
    """16-byte values as a binary column; rows that are not `valid` are null."""
    n = len(raw)
    if valid is None:
        offsets, bitmap = np.arange(n + 1, dtype=np.int32) * 16, None
    else:
        offsets = np.concatenate([[0], np.cumsum(valid) * 16]).astype(np.int32)
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
        raw = raw[valid]
    data = pa.py_buffer(np.ascontiguousarray(raw))
    return pa.BinaryArray.from_buffers(pa.binary(), n, [bitmap, pa.py_buffer(offsets), data])


def _source_lists(mask: U64, names: Sequence[str]) -> pa.Array:
    """A list of source names for each bit mask."""
    masks, place = np.unique(mask, return_inverse=True)
    every = [[name for bit, name in enumerate(names) if m >> bit & 1] for m in masks.tolist()]
    return pa.array(every, pa.list_(pa.string())).take(pa.array(place))
