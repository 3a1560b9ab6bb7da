"""HetRec 2011 Last.fm-2k: who plays which artist how often, tags with their dates, and friendships.

Cantador, Brusilovsky, Kuflik, 2nd HetRec workshop, RecSys 2011. Artists are the items: each becomes an artist and one track,
"All of NAME", under the same number. The source has totals, not plays with a time, so this is what a (listener, artist,
total) row becomes, and what it cannot be used for:

* one `play`, on the last day the listener tagged that artist, else the last day they tagged any, else 2011-05-09 (the last
  day in the data); tag days before 2005 are errors of the source and ignored;
* `ms_played` keeps the total as listening time: 3 minutes a play, capped at a day (480 plays; 31% of the rows have more);
* each is a session of its own, because no order among them is known: nothing should be learned from sequences,
  co-listens within sessions, hours or recency here. Listener-item models (iALS, EASE, graph filters) are what it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidData, NotFound
from segue.contracts.tables import ARTISTS, FRIENDSHIPS, MAX_TAGS, MAX_TEXT, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import DAY, SECOND, EventType
from segue.events.columns import clip, coerce, loose, single
from segue.events.importers.base import Part, Piece
from segue.events.importers.readers import csv_header, csv_pieces, did_you_mean
from segue.events.rejects import Rejects
from segue.events.validation import ROW

FILES: Final = {
    "artists.dat": ("id", "name"),
    "tags.dat": ("tagID", "tagValue"),
    "user_artists.dat": ("userID", "artistID", "weight"),
    "user_taggedartists.dat": ("userID", "artistID", "tagID", "day", "month", "year"),
    "user_friends.dat": ("userID", "friendID"),
}
MS_A_PLAY: Final = 180_000
MS_A_DAY: Final = 86_400_000
FIRST_TAG_DAY: Final = np.datetime64("2005-01-01")
LAST_DAY: Final = np.datetime64(date(2011, 5, 9))
ARTIST_BITS: Final = 32
"""A play's session is named by listener * 2**32 + artist."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LastFm2k:
    """`segue import lastfm-2k DIRECTORY`"""

    name: str = "lastfm-2k"
    identity: str = "lastfm-2k/1"
    source: str = "lastfm-2k"

    def parts(self, path: Path) -> list[Part]:
        """The five files belong together."""
        if not path.is_dir():
            raise InvalidData(
                f"{path}: name the directory that holds {', '.join(FILES)}", field="path", limit="a directory"
            )
        return [Part(path.name, tuple(_find(path, name) for name in FILES))]

    def read(self, part: Part, batch_rows: int) -> Iterator[Piece]:
        """Artists (and a track each, with its tags), friendships both ways, then plays."""
        artists, tags, user_artists, tagged, friends = part.files
        marks = _Tagged.read(tagged)
        names = marks.names(tags)
        for rows, broken in _rows(artists):
            yield Piece(ARTISTS, _artists(rows), broken)
            yield Piece(TRACKS, _tracks(rows, names), counted=False)
        for rows, broken in _rows(friends):
            yield Piece(FRIENDSHIPS, _friends(rows, "userID", "friendID"), broken)
            yield Piece(FRIENDSHIPS, _friends(rows, "friendID", "userID"), counted=False)
        for rows, broken in _rows(user_artists):
            yield Piece(RAW_EVENTS, _plays(rows, marks), broken)


def _find(folder: Path, name: str) -> Path:
    for suffix in ("", ".gz", ".zst", ".bz2"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise NotFound(f"{folder}: no {name} (or {name}.gz) there", field=name)


def _rows(path: Path) -> Iterator[tuple[pa.Table, Rejects]]:
    """Tab-separated rows without quoting, values as bytes."""
    wanted = FILES[path.name.partition(".dat")[0] + ".dat"]
    header = csv_header(path, "\t")
    for name in wanted:
        if name not in header:
            raise InvalidData(f"{path}: has no column {name!r}; {did_you_mean(name, header)}", field=name)
    for piece in csv_pieces(path, wanted, "\t", quoted=False):
        yield piece.table.append_column(ROW, pa.array(piece.rows)), piece.broken


def _text(values: pa.ChunkedArray) -> pa.Array:
    """UTF-8, or for a value that is not, Latin-1, in which every byte is a character."""
    found = coerce(values, pa.string())
    if not found.not_utf8.any():
        return found.values
    raw = values.to_pylist()
    texts = found.values.to_pylist()
    for at in np.flatnonzero(found.not_utf8):
        texts[at] = raw[at].decode("latin-1")
    return pa.array(texts, pa.string())


def _artists(rows: pa.Table) -> pa.Table:
    return loose(
        {
            "artist_id": rows["id"],
            "name": clip(_text(rows["name"]), MAX_TEXT),
            "external_id": rows["id"],
            ROW: rows[ROW],
        }
    )


def _tracks(rows: pa.Table, tags: dict[int, list[str]]) -> pa.Table:
    ids = coerce(rows["id"], pa.int64()).values
    kept = rows.filter(pc.greater_equal(ids, 0))
    ids = ids.filter(pc.greater_equal(ids, 0))
    listed = [tags.get(artist) for artist in ids.to_pylist()]
    return loose(
        {
            "track_id": ids,
            "artist_id": ids,
            "title": clip(pc.binary_join_element_wise("All of", _text(kept["name"]), " "), MAX_TEXT),
            "genre": pa.array([found[0][:100] if found else None for found in listed], pa.string()),
            "tags": pa.array(listed, pa.list_(pa.string())),
            "external_id": kept["id"],
            ROW: kept[ROW],
        }
    )


def _friends(rows: pa.Table, user: str, friend: str) -> pa.Table:
    return loose({"user_id": rows[user], "friend_id": rows[friend], ROW: rows[ROW]})


def _plays(rows: pa.Table, marks: _Tagged) -> pa.Table:
    users, artists = (_ints(rows[name], -1) for name in ("userID", "artistID"))
    weight = coerce(rows["weight"], pa.int64())
    total = pc.min_element_wise(weight.values, MS_A_DAY // MS_A_PLAY)
    days = marks.last_days(users, artists)
    # Noon plus a second per row: distinct times without meaning.
    ts = (
        days.astype("datetime64[D]").astype(np.int64) * DAY
        + DAY // 2
        + (np.asarray(rows[ROW].to_numpy()) % 3_600) * SECOND
    )
    named = (users >= 0) & (artists >= 0) & (users < 2 ** (63 - ARTIST_BITS)) & (artists < 2**ARTIST_BITS)
    sessions = np.where(named, users * 2**ARTIST_BITS + artists, 0)
    return loose(
        {
            "ts": pa.array(ts),
            "user_id": rows["userID"],
            "session_id": pa.array(sessions, mask=~named),
            "type": pa.array([EventType.PLAY.value] * len(ts), pa.string()),
            "track_id": rows["artistID"],
            "artist_id": rows["artistID"],
            "ms_played": replace(weight, values=pc.multiply(total, MS_A_PLAY)),
            ROW: rows[ROW],
        }
    )


def _ints(values: pa.ChunkedArray, absent: int) -> Ints:
    found = coerce(values, pa.int64()).values.fill_null(absent)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


@dataclass(frozen=True)
class _Tagged:
    """Who tagged what with what, when: parallel arrays, rows with an impossible date or a broken number left out."""

    users: Ints
    artists: Ints
    tags: Ints
    days: npt.NDArray[np.datetime64]

    @staticmethod
    def read(path: Path) -> _Tagged:
        columns = [rows for rows, _ in _rows(path)]
        table = pa.concat_tables(columns) if columns else pa.table({})
        users, artists, tags, day, month, year = (
            _ints(table[name], -1) for name in FILES["user_taggedartists.dat"]
        )
        possible = (day >= 1) & (day <= 31) & (month >= 1) & (month <= 12) & (year >= 1) & (year < 10_000)
        months = (np.where(possible, (year - 1970) * 12 + month - 1, 0)).astype("datetime64[M]")
        days = months.astype("datetime64[D]") + (np.where(possible, day, 1) - 1).astype("timedelta64[D]")
        good = (
            possible
            & (days >= FIRST_TAG_DAY)
            & (days <= LAST_DAY)
            & (users >= 0)
            & (artists >= 0)
            & (tags >= 0)
        )
        return _Tagged(users[good], artists[good], tags[good], days[good])

    def last_days(self, users: Ints, artists: Ints) -> npt.NDArray[np.datetime64]:
        """The day each (user, artist) gets."""
        by_pair: dict[tuple[int, int], np.datetime64] = {}
        by_user: dict[int, np.datetime64] = {}
        for at in np.argsort(self.days, kind="stable"):
            user, artist, day = int(self.users[at]), int(self.artists[at]), self.days[at]
            by_pair[user, artist] = by_user[user] = day
        pairs = zip(users.tolist(), artists.tolist(), strict=True)
        return np.array([by_pair.get((u, a), by_user.get(u, LAST_DAY)) for u, a in pairs], "datetime64[D]")

    def names(self, path: Path) -> dict[int, list[str]]:
        """Each artist's tags, the most used first, at most 50, lower case."""
        words: dict[int, str] = {}
        for rows, _ in _rows(path):
            texts = pc.utf8_lower(pc.utf8_trim_whitespace(_text(rows["tagValue"])))
            words.update(
                zip(_ints(rows["tagID"], -1).tolist(), clip(single(texts), 100).to_pylist(), strict=True)
            )
        pairs, counts = np.unique(np.stack([self.artists, self.tags], axis=1), axis=0, return_counts=True)
        found: dict[int, list[str]] = {}
        for at in np.lexsort((pairs[:, 1], -counts, pairs[:, 0])):
            artist, tag = pairs[at].tolist()
            kept = found.setdefault(artist, [])
            if words.get(tag) and len(kept) < MAX_TAGS:
                kept.append(words[tag])
        return {artist: kept for artist, kept in found.items() if kept}
