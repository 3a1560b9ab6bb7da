"""Changes of an open bundle's catalogue, in effect at once: an edit is written in place, a new track takes a blank row.

The columns are memory-mapped so that what is written is this process's own. One thread writes while others answer, so a row
that must not be shown is closed before anything else is written, and one that may be shown is opened last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from segue.bundle.catalogue import EXPLICIT, MAX_COUNTRIES, PUBLIC
from segue.contracts.vocabulary import DAY
from segue.features.online import from_facts
from segue.features.relations import Track
from segue.models.content import Kinds, Tokens
from segue.models.tokens import KINDS, tokens_of
from segue.recommend.artifacts import Artifacts
from segue.recommend.indexes import UPLOADS

MAX_GENRES: Final = 32_767
_log = logging.getLogger("segue.live")


class Live:
    """The one writer of an open bundle. What it is told is checked already; the latest word wins."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._catalogue = artifacts.catalogue
        self._content = artifacts.retrieval.content
        self._indexes = artifacts.indexes
        self._snapshots = artifacts.snapshots
        self._tokens: dict[int, tuple[Tokens, Kinds]] = {}
        self.lacks: str | None = None
        """What there is no room for, once there is none."""

    def put(self, track_id: int, said: Mapping[str, Any], received_at: int) -> bool:
        """What is so of a track: the columns of TRACKS of which something is said. False if there is no room for a new one."""
        tracks, flags = self._catalogue.tracks, self._catalogue.flags
        row = int(tracks.find([track_id])[0])
        new = row < 0
        if new:
            row = tracks.blank()
            if row < 0:
                self._say_full()
                return False
            said = {"public": True, "uploaded_at": received_at, **said}
        before = int(flags[row])
        public = said.get("public", bool(before & PUBLIC))
        explicit = said.get("explicit", bool(before & EXPLICIT))
        # Whatever is written meanwhile, nobody is shown what they must not be shown before or after.
        _set(flags, row, (before & PUBLIC if public else 0) | (EXPLICIT if explicit else before & EXPLICIT))
        fits = self._write(row, said)
        if new or not said.keys().isdisjoint(("explicit", "duration_ms", "uploaded_at")):
            self._note_facts(row, explicit, received_at)
        if new:
            tracks.add(track_id)
        _set(flags, row, (PUBLIC if public and fits else 0) | (EXPLICIT if explicit else 0))
        return True

    def name(self, artist_id: int, name: str) -> None:
        """What an artist is called."""
        catalogue, later = self._catalogue, self._indexes.later
        artist = self._artist(artist_id)
        if artist < 0 or catalogue.artist_names[artist] == (name or None):
            return
        catalogue.artist_names.changed[artist] = name
        for row in self._indexes.tracks_of(artist, len(catalogue)).tolist():
            later.names[row] = self._named(row)

    def _write(self, row: int, said: Mapping[str, Any]) -> bool:
        """Write all of a row but its flags. Returns whether it can be kept where it is blocked."""
        catalogue, later = self._catalogue, self._indexes.later
        fits = "blocked_countries" not in said or self._block(row, said["blocked_countries"])
        if "duration_ms" in said:
            _set(catalogue.duration_ms, row, said["duration_ms"])
        if "genre" in said:
            _set(catalogue.genre, row, self._genre(said["genre"]))
        moved = "artist_id" in said and self._move(row, self._artist(said["artist_id"]))
        titled = "title" in said and catalogue.titles[row] != (said["title"] or None)
        if titled:
            catalogue.titles.changed[row] = said["title"]
        if moved or titled:
            later.names[row] = self._named(row)
        if "uploaded_at" in said and _set(catalogue.uploaded_at, row, said["uploaded_at"]):
            later.uploaded(row)
        self._embed(row, {kind: said[kind] for kind in KINDS if kind in said})
        return fits

    def _note_facts(self, row: int, explicit: bool, now: int) -> None:
        """Write the daily features that follow from what is said of the track; the others wait for the days to come."""
        if self._snapshots is None:
            return
        length, uploaded = int(self._catalogue.duration_ms[row]), int(self._catalogue.uploaded_at[row])
        known = {
            "age_days": now // DAY - uploaded // DAY if uploaded >= 0 else np.nan,
            "duration_s": length / 1000 if length >= 0 else np.nan,
            "explicit": float(explicit),
        }
        daily = self._snapshots.tracks
        values = daily.values[row].copy()
        for name, value in from_facts(Track, known).items():
            if name in daily.names:
                values[daily.names.index(name)] = value
        if not np.array_equal(values, daily.values[row], equal_nan=True):
            daily.values[row] = values

    def _embed(self, row: int, said: dict[str, Any]) -> None:
        """Make the content vector anew of what is said and of what is kept."""
        if not said:
            return
        tokens, kinds = self._tokens.get(row) or self._content.tokens_of(row)
        kept = ~np.isin(kinds, [KINDS.index(kind) for kind in said])
        new_tokens, new_kinds = tokens_of(said)
        tokens, kinds = np.concatenate([tokens[kept], new_tokens]), np.concatenate([kinds[kept], new_kinds])
        vector = self._content.embed(tokens, kinds)
        if not np.allclose(vector, self._content.vectors[row], atol=1e-5):
            self._tokens[row] = tokens, kinds
            self._content.vectors[row] = vector
            if row in self._indexes.newest[:UPLOADS]:
                self._indexes.later.uploaded(row)

    def _move(self, row: int, artist: int) -> bool:
        """Whether the track was another artist's before."""
        before = int(self._catalogue.artist[row])
        if artist < 0 or not _set(self._catalogue.artist, row, artist):
            return False
        self._indexes.later.moved(row, before, artist)
        return True

    def _artist(self, artist_id: int) -> int:
        """The artist's row, a blank one if they are new; -1 if there is none left."""
        artists = self._catalogue.artists
        row = int(artists.find([artist_id])[0])
        if row >= 0:
            return row
        row = artists.blank()
        if row < 0:
            self._say_full()
        else:
            artists.add(artist_id)
        return row

    def _genre(self, genre: str) -> int:
        genres = self._catalogue.genres
        if genre and genre not in genres and len(genres) < MAX_GENRES:
            genres.append(genre)
        return genres.index(genre) if genre in genres else -1

    def _block(self, row: int, countries: list[str]) -> bool:
        """Close the row where it is blocked. False if a country finds no place, and the track must not be shown at all."""
        known = self._catalogue.countries
        for code in countries:
            if code not in known and len(known) < MAX_COUNTRIES:
                known.append(code)
        mask = np.zeros(MAX_COUNTRIES // 64, np.uint64)
        for at in (known.index(code) for code in countries if code in known):
            mask[at // 64] |= np.uint64(1) << np.uint64(at % 64)
        if not np.array_equal(self._catalogue.blocked[row], mask):
            self._catalogue.blocked[row] = mask
        return all(code in known for code in countries)

    def _named(self, row: int) -> str:
        catalogue = self._catalogue
        artist = int(catalogue.artist[row])
        name = catalogue.artist_names[artist] if artist >= 0 else None
        return f"{catalogue.titles[row] or ''}\n{name or ''}".lower()

    def _say_full(self) -> None:
        if self.lacks is None:
            room = len(self._catalogue) - self._catalogue.tracks.known
            self.lacks = (
                f"the bundle's room for {room} new tracks is used up: those that come now are shown with the next bundle; "
                "run `segue run`, and raise bundles.spare"
            )
            _log.warning("%s", self.lacks)


def _set(column: npt.NDArray[Any], row: int, value: int) -> bool:
    """Whether the value is another than before. To write the same would cost a page of memory all the same."""
    if column[row] == value:
        return False
    column[row] = value
    return True
