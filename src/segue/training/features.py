"""The features of samples, from the warehouse: the point-in-time join, and the daily snapshots a bundle carries."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.bundle.catalogue import Catalogue
from segue.bundle.room import find
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import (
    ARTISTS,
    DAILY_ARTISTS,
    DAILY_TRACKS,
    EVENTS,
    LISTENERS,
    TRACKS,
)
from segue.contracts.vocabulary import DAY
from segue.features import FEATURES
from segue.features.offline import Tables, matrix, reach, snapshot, training_join
from segue.features.online import Daily
from segue.features.relations import Artist, Candidate, Entity, Track
from segue.recommend.artifacts import Snapshots
from segue.settings.tree import State
from segue.training.samples import Samples

Floats = npt.NDArray[np.float32]


def ranker_features(candidate_names: tuple[str, ...]) -> tuple[str, ...]:
    """Features a ranker learns from: all that are defined, of candidates those the pipeline computes."""
    return tuple(
        name
        for name, feature in FEATURES.items()
        if feature.entity is not Candidate or name in candidate_names
    )


def join_features(engine: Engine, samples: Samples, names: tuple[str, ...], limits: State) -> Floats:
    """The ranker's input for samples: float32[n, len(names)], rows as in `samples`."""
    rows = pa.table(
        {
            "row": np.arange(len(samples), dtype=np.int64),
            "request_id": samples.request.astype(np.int64),
            "user_id": samples.user_id,
            "ts": samples.ts,
            "track_id": samples.track_id,
            "surface": pa.array([samples.surface]).take(pa.array(np.zeros(len(samples), np.int64))),
        }
    )
    offline = [name for name in names if FEATURES[name].entity is not Candidate]
    tables = feature_tables(engine, offline, int(samples.ts.min()), int(samples.ts.max()))
    joined = training_join(ibis.memtable(rows), tables, limits, offline)
    known = matrix(engine.collect(joined.order_by("row")), offline)
    x = np.empty((len(samples), len(names)), np.float32)
    place = {name: column for column, name in enumerate(samples.names)}
    for column, name in enumerate(names):
        x[:, column] = samples.columns[:, place[name]] if name in place else known[:, offline.index(name)]
    return x


def snapshots(engine: Engine, catalogue: Catalogue, until: int) -> Snapshots:
    """Track and artist features as of the day of `until` (microseconds), in catalogue order."""
    return Snapshots(
        _daily(engine, Track, catalogue.track_id, until), _daily(engine, Artist, catalogue.artist_id, until)
    )


def feature_tables(engine: Engine, names: Iterable[str], first: int, last: int) -> Tables:
    """The tables those features are made from, for moments from `first` to `last` (UTC microseconds).

    No more days of each than the largest window of the features asks for.
    """
    days = reach(names, first, last)
    return Tables(
        plays=engine.read(EVENTS, days.plays),
        marks=engine.read(EVENTS, days.marks),
        tracks=engine.read(TRACKS),
        artists=engine.read(ARTISTS),
        listeners=engine.read(LISTENERS),
        daily_tracks=engine.read(DAILY_TRACKS, days.daily_tracks),
        daily_artists=engine.read(DAILY_ARTISTS, days.daily_artists),
    )


def day_snapshot(engine: Engine, entity: Entity, until: int) -> ir.Table:
    """The features of tracks or artists as of the day of `until` (UTC microseconds), from the days that they ask for."""
    names = [name for name, feature in FEATURES.items() if feature.entity is entity]
    day = Days.holding(until, until).first
    start = (day - date(1970, 1, 1)).days * DAY
    return snapshot(entity, day, feature_tables(engine, names, start, start))


def _daily(engine: Engine, entity: Entity, ids: npt.NDArray[np.int64], until: int) -> Daily:
    names = [name for name, feature in FEATURES.items() if feature.entity is entity]
    rows = engine.collect(day_snapshot(engine, entity, until))
    values = np.array([[FEATURES[name].default for name in names]], np.float32).repeat(len(ids), axis=0)
    at = find(ids, rows[entity.key].to_numpy())
    values[at[at >= 0]] = matrix(rows, names)[at >= 0]
    return Daily(names, values)
