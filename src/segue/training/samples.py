"""Ranker samples: earlier moments, the candidates the sources would have proposed then, and what the listener did next.

The retrieval models are fitted on what lay before `cut`; the moments lie between `cut` and `now`; so no score among the
features has seen the play it is to predict. A home sample is the beginning of a session, with everything heard until
the window's end as positives; a next-up sample is a place inside a session, with the next track as the positive.
The negatives are the sources' own candidates: those that were started and given up, or shown and not played (impressions),
are kept always, the others at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from segue.listener.state import LIKE
from segue.recommend.api import Request
from segue.recommend.features import candidate_columns
from segue.recommend.pipeline import Recommender
from segue.training.history import Plays
from segue.training.replay import Replay

I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SESSION_LENGTH = 50
"""Latest tracks of a session that a replayed request sends."""


@dataclass(frozen=True)
class Moments:
    """Requests to replay. Request i of user_id[i] at ts[i] (microseconds) continues `session[i]` (track ids, oldest first)
    and is followed, before until[i], by `heard[i]` and `skipped[i]` (track ids).
    """

    surface: str
    user_id: I64
    ts: I64
    until: I64
    session: list[I64]
    heard: list[I64]
    skipped: list[I64]

    def __len__(self) -> int:
        return len(self.user_id)


@dataclass(frozen=True)
class Samples:
    """Rows of all replayed requests, request by request.

    request int32[n] ascending; user_id, ts, track_id int64[n]; played, skipped, liked bool[n]; columns float32[n, c], the
    candidate features called `names`.
    """

    surface: str
    request: npt.NDArray[np.int32]
    user_id: I64
    ts: I64
    track_id: I64
    played: Flags
    skipped: Flags
    liked: Flags
    columns: npt.NDArray[np.float32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.request)


def home_moments(plays: Plays, track_id: I64, cut: int, most: int, rng: np.random.Generator) -> Moments:
    """Beginnings of sessions from `cut` on; what is heard from then to the end of `plays` is the target."""
    window = plays.where(plays.session_start >= cut)
    starts = _begins(window)
    starts = starts[_some(len(starts), most, rng)]
    stops = np.searchsorted(window.user_id, window.user_id[starts], "right")
    ids = track_id[window.track]
    heard, skipped = [], []
    for start, stop in zip(starts, stops, strict=True):
        listened = window.listened[start:stop]
        heard.append(np.unique(ids[start:stop][listened]))
        skipped.append(np.setdiff1d(ids[start:stop][~listened], heard[-1]))
    nothing = np.empty(0, np.int64)
    until = np.full(len(starts), window.ts.max(initial=0) + 1)
    return Moments(
        "home", window.user_id[starts], window.ts[starts], until, [nothing] * len(starts), heard, skipped
    )


def next_moments(plays: Plays, track_id: I64, cut: int, most: int, rng: np.random.Generator) -> Moments:
    """Places inside sessions from `cut` on whose next track was listened to: it is the target.

    Where it was given up there is nothing to learn from, and replaying the request costs as much.
    """
    same = (plays.user_id[1:] == plays.user_id[:-1]) & (plays.session_start[1:] == plays.session_start[:-1])
    same &= plays.ts[1:] > plays.ts[:-1]  # of two plays at one moment neither comes before the other
    same &= plays.listened[1:]
    places = np.flatnonzero(same & (plays.session_start[1:] >= cut)) + 1
    places = places[_some(len(places), most, rng)]
    ids = track_id[plays.track]
    session = []
    for place in places:
        start = int(np.searchsorted(plays.user_id, plays.user_id[place], "left"))
        inside = plays.session_start[start:place] == plays.session_start[place]
        session.append(ids[start:place][inside][-SESSION_LENGTH:])
    return Moments(
        "next-up",
        plays.user_id[places],
        plays.ts[places - 1] + 1,
        plays.ts[places] + 1,
        session,
        [ids[place : place + 1] for place in places],
        [np.empty(0, np.int64)] * len(places),
    )


def draw(
    recommender: Recommender,
    replay: Replay,
    moments: Moments,
    negatives: int,
    rng: np.random.Generator,
) -> Samples | None:
    """Replay the moments through the request pipeline and keep the rows to learn from; None if nothing was played of it."""
    rows: list[tuple[npt.NDArray[Any], ...]] = []
    blocks: list[npt.NDArray[np.float32]] = []
    names: tuple[str, ...] = ()
    for number in range(len(moments)):
        user, ts = int(moments.user_id[number]), int(moments.ts[number])
        request = Request(
            surface=moments.surface,
            user_id=user,
            session=tuple(moments.session[number].tolist()) if moments.surface == "next-up" else None,
            k=1,
            now=ts,
        )
        query, candidates = recommender.gather(request, replay.state(user, ts))
        ids = recommender.artifacts.catalogue.track_id[candidates.tracks]
        played, skipped = np.isin(ids, moments.heard[number]), np.isin(ids, moments.skipped[number])
        shown = np.isin(ids, replay.shown(user, ts, int(moments.until[number])))
        liked = played & np.isin(ids, replay.marked(user, LIKE, ts))
        kept = np.flatnonzero(played | skipped | shown | _negatives(len(ids), negatives, rng))
        if not played.any():
            continue
        known = candidate_columns(query, recommender.artifacts, candidates)
        names = known.names
        blocks.append(known.values[kept])
        rows.append(
            (np.full(len(kept), number, np.int32), ids[kept], played[kept], skipped[kept], liked[kept])
        )
    if not rows:
        return None
    request_number, track, played_all, skipped_all, liked_all = (
        np.concatenate(part) for part in zip(*rows, strict=True)
    )
    return Samples(
        moments.surface,
        request_number,
        moments.user_id[request_number],
        moments.ts[request_number],
        track,
        played_all,
        skipped_all,
        liked_all,
        np.concatenate(blocks).astype(np.float32),
        names,
    )


def together(parts: list[Samples]) -> Samples:
    """Samples of several windows as one; requests are numbered on."""
    offsets = np.cumsum([0, *(int(part.request[-1]) + 1 for part in parts)])
    requests = [part.request + offset for part, offset in zip(parts, offsets, strict=False)]
    return replace(
        parts[0],
        request=np.concatenate(requests).astype(np.int32),
        user_id=np.concatenate([part.user_id for part in parts]),
        ts=np.concatenate([part.ts for part in parts]),
        track_id=np.concatenate([part.track_id for part in parts]),
        played=np.concatenate([part.played for part in parts]),
        skipped=np.concatenate([part.skipped for part in parts]),
        liked=np.concatenate([part.liked for part in parts]),
        columns=np.concatenate([part.columns for part in parts]),
    )


def _begins(plays: Plays) -> npt.NDArray[np.intp]:
    """The first play of each session. `plays` are sorted by listener and time."""
    first = np.ones(len(plays), np.bool_)
    first[1:] = (plays.user_id[1:] != plays.user_id[:-1]) | (
        plays.session_start[1:] != plays.session_start[:-1]
    )
    return np.flatnonzero(first)


def _some(n: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    if n <= most:
        return np.arange(n)
    return np.sort(rng.choice(n, most, replace=False))


def _negatives(n: int, wanted: int, rng: np.random.Generator) -> Flags:
    """Which of n candidates are kept as negatives: each alike, so that the trees' probabilities keep their order."""
    return rng.random(n) < wanted / max(n, 1)
