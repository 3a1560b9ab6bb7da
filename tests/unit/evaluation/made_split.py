"""A small made split with everything the reports need: artists, titles, upload times, countries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from segue.bundle.catalogue import Catalogue, build
from segue.evaluation.beyond import Items
from segue.evaluation.protocols import Plays, Split, temporal_split
from segue.evaluation.segments import Countries
from segue.models.sessions import DAY_US

AT, UNTIL = 60 * DAY_US, 75 * DAY_US
TRACKS = 60
HOSTILE = "<script>alert('\"&amp;')</script>"


def made_plays(seed: int = 0, n: int = 3_000) -> Plays:
    """Plays of 40 listeners over 75 days; the popular tracks have small ids, the last ones come late."""
    rng = np.random.default_rng(seed)
    session = rng.integers(0, 600, size=n)
    user = session % 40
    ts = session * (UNTIL // 600) + rng.integers(0, DAY_US // 24, size=n)
    latest = np.clip(2 + ts * TRACKS // UNTIL, 5, TRACKS)
    track = np.minimum((rng.random(n) ** 2 * latest).astype(np.int64), latest - 1)
    return Plays(user * 10, track * 7, ts, session)


def made_catalogue(*, artists: bool = True) -> Catalogue:
    """Tracks of every other id are uploaded shortly before the split; the first title is hostile."""
    ids = np.arange(TRACKS) * 7
    titles = [HOSTILE, *(f"Track {i}" for i in range(1, TRACKS))]
    table = pa.table(
        {
            "track_id": ids,
            "artist_id": pa.array([i % 9 if artists else None for i in range(TRACKS)], pa.int64()),
            "title": titles,
            "genre": pa.array([None] * TRACKS, pa.string()),
            "duration_ms": pa.array([None] * TRACKS, pa.int32()),
            "uploaded_at": pa.array(
                [AT - 5 * DAY_US if i % 11 == 0 else None for i in range(TRACKS)], pa.int64()
            ),
            "explicit": [False] * TRACKS,
            "public": [True] * TRACKS,
            "blocked_countries": pa.array([None] * TRACKS, pa.list_(pa.string())),
        }
    )
    people = pa.table({"artist_id": np.arange(9), "name": [f"Artist {i} & <b>" for i in range(9)]})
    return build(table, people, ["DE", "SE"])


def made_split(seed: int = 0) -> tuple[Split, Items, Countries]:
    """The split of the made plays, its items, and countries with unknown ones among them."""
    split = temporal_split(made_plays(seed), AT, UNTIL)
    vectors = np.random.default_rng(seed).normal(size=(TRACKS, 4)).astype(np.float32)
    users = np.arange(0, 30) * 10
    names = ("SE", "DE", "FR", "GB", "US", "MX", "<b>")
    countries = Countries(users, (np.arange(30) ** 2 % 9 - 1).clip(-1, 6).astype(np.int32), names)
    return split, Items.of(split, made_catalogue(), vectors), countries
