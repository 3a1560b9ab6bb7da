"""The catalogue inside a bundle: tracks and artists as columns, addressed by position (int32), found by id (binary search)."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from segue.bundle.bundle import Bundle
from segue.bundle.room import Rows, find, read_only
from segue.bundle.writer import BundleWriter
from segue.contracts.errors import InvalidData

EXPLICIT, PUBLIC = 1, 2
MAX_COUNTRIES = 256

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Texts:
    """n short texts as one byte array: offsets int64[n + 1], data uint8[...]; and those that have changed since, by position."""

    offsets: I64
    data: npt.NDArray[np.uint8]
    changed: dict[int, str] = field(default_factory=dict)

    def __getitem__(self, index: int) -> str | None:
        """The text at a position; None where it is empty."""
        if index in self.changed:
            return self.changed[index] or None
        raw = self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()
        return raw.decode("utf-8", "replace") or None

    def take(self, index: I32) -> list[str | None]:
        """The texts at some positions; None where empty."""
        # Decoded all at once, with a zero byte after each, unless one of them has such a byte itself.
        joined = _joined(*self._readable, index).tobytes().decode("utf-8", "replace").split("\0")
        if len(joined) == len(index) + 1:
            texts = [text or None for text in joined[:-1]]
        else:
            data: memoryview = self.data.data
            texts = [
                str(data[a:b], "utf-8", "replace") or None
                for a, b in zip(self.offsets[index], self.offsets[1:][index], strict=True)
            ]
        if self.changed:
            now = [self.changed.get(position) for position in index.tolist()]
            texts = [old if new is None else new or None for old, new in zip(texts, now, strict=True)]
        return texts

    @cached_property
    def _readable(self) -> tuple[I64, npt.NDArray[np.uint8]]:
        return read_only(self.offsets), read_only(self.data)

    @classmethod
    def of(cls, values: pa.Array | pa.ChunkedArray) -> Texts:
        """From an Arrow string column; null becomes empty."""
        filled = pc.fill_null(values.cast(pa.large_string()), "")
        if isinstance(filled, pa.ChunkedArray):
            filled = filled.combine_chunks()
        offsets = np.frombuffer(filled.buffers()[1], np.int64)[
            filled.offset : filled.offset + len(filled) + 1
        ]
        body = filled.buffers()[2]
        data = np.frombuffer(body, np.uint8) if body is not None else np.empty(0, np.uint8)
        return cls(offsets - offsets[0], data[offsets[0] : offsets[-1]].copy())


@njit(cache=True, nogil=True)
def _joined(offsets: I64, data: npt.NDArray[np.uint8], index: I32) -> npt.NDArray[np.uint8]:
    """Some texts one after another, a zero byte behind each."""
    size = len(index)
    for i in index:
        size += offsets[i + 1] - offsets[i]
    out = np.zeros(size, np.uint8)
    at = 0
    for i in index:
        for place in range(offsets[i], offsets[i + 1]):
            out[at] = data[place]
            at += 1
        at += 1
    return out


@dataclass(frozen=True)
class Catalogue:
    """Tracks sorted by id and artists sorted by id; in an opened bundle, blank rows behind them for those that come later.

    `as_of`: the moment of the latest change that is in it (see segue.events.changes), None where there was none.
    track_id int64[n]; artist int32[n] position in `artist_id` or -1; genre int16[n] position in `genres` or -1;
    duration_ms int32[n] or -1; uploaded_at int64[n] microseconds or -1; flags uint8[n] (EXPLICIT | PUBLIC);
    blocked uint64[n, 4], bit c set where `countries[c]` may not play it.
    """

    track_id: I64
    artist: I32
    genre: npt.NDArray[np.int16]
    duration_ms: I32
    uploaded_at: I64
    flags: npt.NDArray[np.uint8]
    blocked: npt.NDArray[np.uint64]
    titles: Texts
    artist_id: I64
    artist_names: Texts
    genres: list[str]
    countries: list[str]
    as_of: int | None = None
    known: tuple[int, int] | None = None
    """How many tracks and artists are not blank; None: all."""

    def __len__(self) -> int:
        return len(self.track_id)

    @cached_property
    def facts(self) -> tuple[npt.NDArray[np.uint8], I64, npt.NDArray[np.uint64], I32]:
        """Flags, uploaded_at, blocked and artist, as kernels read them."""
        return (
            read_only(self.flags),
            read_only(self.uploaded_at),
            read_only(self.blocked),
            read_only(self.artist),
        )

    @cached_property
    def tracks(self) -> Rows:
        """Rows of the tracks."""
        return Rows(self.track_id, self.known and self.known[0])

    @cached_property
    def artists(self) -> Rows:
        """Rows of the artists."""
        return Rows(self.artist_id, self.known and self.known[1])

    def positions(self, track_ids: I64 | Sequence[int]) -> I32:
        """Positions of tracks by id, -1 where unknown. int32[m]."""
        return self.tracks.find(track_ids)

    def artist_positions(self, artist_ids: I64 | Sequence[int]) -> I32:
        """Positions of artists by id, -1 where unknown. int32[m]."""
        return self.artists.find(artist_ids)

    def artists_of(self, tracks: I32) -> I64:
        """Ids of the artists of tracks by position, -1 where the track or its artist is unknown. int64[m]."""
        ids = np.full(len(tracks), -1, np.int64)
        known = np.flatnonzero(tracks >= 0)
        known = known[self.artist[tracks[known]] >= 0]
        ids[known] = self.artist_id[self.artist[tracks[known]]]
        return ids

    def facts_of(self, track_ids: I64) -> tuple[I64, I32]:
        """Artist's id and duration of tracks by id, -1 where unknown. int64[m], int32[m]."""
        at = self.positions(track_ids)
        return self.artists_of(at), np.where(at >= 0, self.duration_ms[at], np.int32(-1)).astype(np.int32)

    def country(self, code: str | None) -> int:
        """Position of a country, -1 where unknown."""
        return self.countries.index(code) if code in self.countries else -1


def build(
    tracks: pa.Table, artists: pa.Table, countries: Sequence[str], as_of: int | None = None
) -> Catalogue:
    """The catalogue of the dimension tables (contracts TRACKS and ARTISTS).

    Raises InvalidData where there are more countries than a mask holds.
    """
    tracks, artists = tracks.sort_by("track_id"), artists.sort_by("artist_id")
    artist_id = _ints(artists["artist_id"], np.int64)
    genres = tuple(sorted(g for g in pc.unique(tracks["genre"]).to_pylist() if g))
    blocked, codes = _blocked(tracks["blocked_countries"], countries)
    explicit = tracks["explicit"].to_numpy(zero_copy_only=False).astype(np.uint8)
    public = tracks["public"].to_numpy(zero_copy_only=False).astype(np.uint8)
    return Catalogue(
        track_id=_ints(tracks["track_id"], np.int64),
        artist=find(artist_id, _ints(tracks["artist_id"], np.int64)),
        genre=_ints(pc.index_in(tracks["genre"], pa.array(genres, pa.string())), np.int16),
        duration_ms=_ints(tracks["duration_ms"], np.int32),
        uploaded_at=_ints(tracks["uploaded_at"], np.int64),
        flags=explicit * np.uint8(EXPLICIT) | public * np.uint8(PUBLIC),
        blocked=blocked,
        titles=Texts.of(tracks["title"]),
        artist_id=artist_id,
        artist_names=Texts.of(artists["name"]),
        genres=list(genres),
        countries=list(codes),
        as_of=as_of,
    )


def save(catalogue: Catalogue, writer: BundleWriter) -> None:
    """Write the catalogue into a bundle."""
    writer.arrays(
        "catalogue",
        {
            "track_id": catalogue.track_id,
            "artist": catalogue.artist,
            "genre": catalogue.genre,
            "duration_ms": catalogue.duration_ms,
            "uploaded_at": catalogue.uploaded_at,
            "flags": catalogue.flags,
            "blocked": catalogue.blocked,
            "title_offsets": catalogue.titles.offsets,
            "title_data": catalogue.titles.data,
            "artist_id": catalogue.artist_id,
            "artist_name_offsets": catalogue.artist_names.offsets,
            "artist_name_data": catalogue.artist_names.data,
        },
        blank={
            "track_id": -1,
            "artist": -1,
            "genre": -1,
            "duration_ms": -1,
            "uploaded_at": -1,
            "flags": 0,
            "blocked": 0,
            "title_offsets": catalogue.titles.offsets[-1],
            "artist_id": -1,
            "artist_name_offsets": catalogue.artist_names.offsets[-1],
        },
    )
    writer.json(
        "catalogue/about",
        {
            "genres": catalogue.genres,
            "countries": catalogue.countries,
            "as_of": catalogue.as_of,
            "known": (len(catalogue.track_id), len(catalogue.artist_id)),
        },
    )


def load(bundle: Bundle) -> Catalogue:
    """The catalogue of a bundle, to which changes may be made that only this process sees."""
    arrays = bundle.arrays("catalogue", own=True)
    about = bundle.json("catalogue/about")
    titles = Texts(arrays.pop("title_offsets"), arrays.pop("title_data"))
    artist_names = Texts(arrays.pop("artist_name_offsets"), arrays.pop("artist_name_data"))
    return Catalogue(
        **arrays,
        titles=titles,
        artist_names=artist_names,
        genres=about["genres"],
        countries=about["countries"],
        as_of=about["as_of"],
        known=tuple(about["known"]),
    )


def _ints(column: pa.Array | pa.ChunkedArray, dtype: type[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(pc.fill_null(column, -1).to_numpy().astype(dtype))


def _blocked(
    column: pa.ChunkedArray, countries: Sequence[str]
) -> tuple[npt.NDArray[np.uint64], tuple[str, ...]]:
    flat = pc.list_flatten(column)
    codes = tuple(sorted({*countries, *(c for c in pc.unique(flat).to_pylist() if c)}))
    if len(codes) > MAX_COUNTRIES:
        raise InvalidData(
            f"blocked_countries: {len(codes)} different codes, at most {MAX_COUNTRIES} are possible; use ISO 3166 codes",
            field="blocked_countries",
            limit=str(MAX_COUNTRIES),
        )
    mask = np.zeros((len(column), MAX_COUNTRIES // 64), np.uint64)
    rows = pc.list_parent_indices(column).to_numpy()
    code = pc.fill_null(pc.index_in(flat, pa.array(codes, pa.string())), 0).to_numpy().astype(np.uint64)
    np.bitwise_or.at(mask, (rows, (code // 64).astype(np.int64)), np.uint64(1) << (code % np.uint64(64)))
    return mask, codes
