"""Query hydration: what is asked, who asks, and their history as positions in the catalogue."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.bundle.catalogue import Catalogue
from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.vocabulary import DAY, SESSION_GAP
from segue.listener.state import BLOCK, FOLLOW, HIDE, LIKE, PLAY, ListenerState
from segue.models.order import rising
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.settings.surfaces import Surface

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

HISTORY_HALF_LIFE_DAYS = 40.0
"""A listen says half as much of a listener's taste after this long."""
_HALF_LIFE = HISTORY_HALF_LIFE_DAYS * DAY
AT_HAND = 50
"""Latest tracks that say what the listener is after now."""
ARTIST_ANCHORS = 10
"""Tracks that stand for an artist."""


@dataclass(frozen=True)
class History:
    """A listener's distinct tracks: tracks int32[n] ascending, listens and decayed float32[n], last int64[n] (µs)."""

    tracks: Ids
    listens: Floats
    decayed: Floats
    last: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Weighted:
    """Distinct tracks int32[n] ascending with weights float32[n]."""

    tracks: Ids
    weights: Floats


@dataclass(frozen=True)
class Query:
    """One request, hydrated. `state` holds only what may be used: without consent it has no plays and no likes.

    seeds int32[s]: tracks asked about; seed_artist: position or -1; anchors int32[a]: the seeds, or the best known tracks
    of the seed artist; session int32[t]: current session, oldest first, -1 for tracks that are gone.
    """

    request: Request
    recipe: Surface
    catalogue: Catalogue
    state: ListenerState
    now: int
    country: int
    personal: bool
    seeds: Ids
    seed_artist: int
    anchors: Ids
    session: Ids

    @cached_property
    def _found(self) -> tuple[Ids, dict[int, Ids]]:
        """Where the plays are in the catalogue, and by kind what is marked: looked up together, as each waits for memory."""
        plays, (kinds, ids) = self.state.plays["track_id"], self.state.standing
        artists = (kinds == FOLLOW) | (kinds == BLOCK)
        tracks = self.catalogue.positions(np.concatenate([plays, ids[~artists]]))
        at = np.empty(len(ids), np.int32)
        at[artists], at[~artists] = self.catalogue.artist_positions(ids[artists]), tracks[len(plays) :]
        known = at >= 0
        kinds, at = kinds[known], at[known]
        return tracks[: len(plays)], {kind: at[kinds == kind] for kind in (LIKE, FOLLOW, HIDE, BLOCK)}

    @property
    def played(self) -> Ids:
        """Catalogue positions of `state.plays`, -1 where the track is gone. int32[n], oldest first."""
        return self._found[0]

    @cached_property
    def history(self) -> History:
        """The listener's distinct listened or liked tracks that the catalogue still has."""
        plays = self.state.plays
        # Copies, as columns of one row are contiguous as they lie and may not be written to: another type to a compiler.
        heard, ts = plays["listened"].copy(), plays["ts"].copy()
        return History(*_history(self.played, heard, ts, self.marked(LIKE), self.now, _HALF_LIFE))

    @cached_property
    def taste(self) -> Weighted:
        """What describes the listener as a whole: the root of how often and how lately each track was heard."""
        return Weighted(self.history.tracks, np.sqrt(self.history.decayed))

    @cached_property
    def now_or_taste(self) -> Weighted:
        """What the request is about where it is about something (a seed, a session), else the listener's taste."""
        if len(self.anchors) == 0 and not (self.session >= 0).any():
            return self.taste
        return Weighted(*_added_up(*self.at_hand))

    @cached_property
    def at_hand(self) -> tuple[Ids, Floats]:
        """What the request is about, newest weighing most: its anchors, else the session, else the latest listens."""
        if len(self.anchors):
            return self.anchors, np.ones(len(self.anchors), np.float32)
        recent = self.session[self.session >= 0]
        if len(recent) == 0:
            recent = self.played[(self.played >= 0) & self.state.plays["listened"]]
        recent = np.ascontiguousarray(recent[::-1][:AT_HAND])
        return recent, (1.0 / np.sqrt(np.arange(1, len(recent) + 1))).astype(np.float32)

    @cached_property
    def prefix(self) -> Ids:
        """What a sequence model continues: the session, else the anchors. int32[t], oldest first."""
        return self.session if len(self.session) else self.anchors

    @cached_property
    def past(self) -> tuple[Ids, npt.NDArray[np.int64]]:
        """The plays before the current session: tracks int32[n] and times int64[n], oldest first."""
        plays = self.state.plays
        if len(plays) == 0 or len(self.session) == 0 or self.session[-1] != self.played[-1]:
            return self.played, plays["ts"].astype(np.int64)
        before = plays["session_start"] != plays["session_start"][-1]
        return self.played[before], plays["ts"][before].astype(np.int64)

    def marked(self, kind: int) -> Ids:
        """Catalogue positions of the tracks (or, for FOLLOW and BLOCK, artists) with that mark, newest first."""
        return self._found[1][kind]


def hydrate(request: Request, recipe: Surface, artifacts: Artifacts, state: ListenerState, now: int) -> Query:
    """The query of a request.

    Raises NotFound for a seed that is not in the catalogue and InvalidInput where a surface lacks its seed.
    """
    catalogue = artifacts.catalogue
    country = request.country or state.country
    personal = state.known and state.consent
    usable = state if personal else without_history(state)
    seeds, seed_artist = _seeds(request, catalogue), _seed_artist(request, catalogue)
    anchors = (
        artifacts.indexes.tracks_of(seed_artist, ARTIST_ANCHORS)
        if len(seeds) == 0 and seed_artist >= 0
        else seeds
    )
    return Query(
        request=request,
        recipe=recipe,
        catalogue=catalogue,
        state=usable,
        now=now,
        country=catalogue.country(country),
        personal=personal,
        seeds=seeds,
        seed_artist=seed_artist,
        anchors=anchors,
        session=_session(request, catalogue, usable, now),
    )


@njit(cache=True, nogil=True)
def _history(
    played: Ids,
    heard: npt.NDArray[np.bool_],
    played_at: npt.NDArray[np.int64],
    likes: Ids,
    now: int,
    half_life: float,
) -> tuple[Ids, Floats, Floats, npt.NDArray[np.int64]]:
    """The columns of a `History`. A like counts as a listen at the beginning of time."""
    n = 0
    track, ts = np.empty(len(played) + len(likes), np.int32), np.zeros(len(played) + len(likes), np.int64)
    for i in range(len(played)):
        if played[i] >= 0 and heard[i]:
            track[n], ts[n] = played[i], played_at[i]
            n += 1
    track[n : n + len(likes)] = likes
    track, ts = track[: n + len(likes)], ts[: n + len(likes)]
    n = 0
    distinct = np.empty(len(track), np.int32)
    count, total = np.zeros(len(track), np.float32), np.zeros(len(track))
    last = np.zeros(len(track), np.int64)
    for i in rising(track.astype(np.uint64)):
        if n == 0 or distinct[n - 1] != track[i]:
            distinct[n] = track[i]
            n += 1
        count[n - 1] += np.float32(1)
        total[n - 1] += np.exp2(-max(now - ts[i], 0) / half_life)
        last[n - 1] = max(last[n - 1], ts[i])
    return distinct[:n].copy(), count[:n].copy(), total[:n].astype(np.float32), last[:n].copy()


@njit(cache=True, nogil=True)
def _added_up(tracks: Ids, weights: Floats) -> tuple[Ids, Floats]:
    """Distinct tracks ascending, and the sum of each one's weights."""
    n = 0
    distinct, total = np.empty(len(tracks), np.int32), np.zeros(len(tracks))
    for i in rising(tracks.astype(np.uint64)):
        if n == 0 or distinct[n - 1] != tracks[i]:
            distinct[n] = tracks[i]
            n += 1
        total[n - 1] += weights[i]
    return distinct[:n].copy(), total[:n].astype(np.float32)


def without_history(state: ListenerState) -> ListenerState:
    """What remains when a listener has not consented: country, explicit choice, and what they said they never want."""
    keep = np.isin(state.marks["kind"], (HIDE, BLOCK))
    return replace(state, plays=np.empty(0, PLAY), marks=state.marks[keep])


def _seeds(request: Request, catalogue: Catalogue) -> Ids:
    if request.track_id is None:
        if request.surface == "related" or (request.surface == "station" and request.artist_id is None):
            wanted = "track_id" if request.surface == "related" else "track_id or artist_id"
            raise InvalidInput(f"{request.surface}: needs {wanted}", field="track_id", limit="required")
        return np.empty(0, np.int32)
    found = catalogue.positions([request.track_id])
    if found[0] < 0:
        raise NotFound(f"track_id: {request.track_id} is not in the catalogue", field="track_id")
    return found


def _seed_artist(request: Request, catalogue: Catalogue) -> int:
    if request.artist_id is None:
        return -1
    found = int(catalogue.artist_positions([request.artist_id])[0])
    if found < 0:
        raise NotFound(f"artist_id: {request.artist_id} is not in the catalogue", field="artist_id")
    return found


def _session(request: Request, catalogue: Catalogue, state: ListenerState, now: int) -> Ids:
    if request.session is not None:
        return catalogue.positions(list(request.session))
    plays = state.plays
    if len(plays) == 0 or now - int(plays["ts"][-1]) > SESSION_GAP:
        return np.empty(0, np.int32)
    current = plays["session_start"] == plays["session_start"][-1]
    return catalogue.positions(plays["track_id"][current])
