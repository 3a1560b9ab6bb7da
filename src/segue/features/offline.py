"""Features in the warehouse: daily snapshots for serving, and the point-in-time join for training. Ibis in, Ibis out.

The join gives every sample its features as they stood strictly before the sample's moment, by the bounds the serving path
has: the listener's latest `state.max_plays` plays within 90 days and the standing marks among their `state.max_marks`;
of tracks and artists what was known at the start of the UTC day. Work is done at the coarsest level that knows the answer:
once per listener and moment, per that and artist, genre or track, per track and day; never per sample.

Portable by construction: integer times, no as-of join, no engine's own functions (see docs/concepts/features.md).
A missing value is NULL in tables and NaN in arrays (`matrix`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce
from math import isnan, log
from typing import Any, Final

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.ports import Days
from segue.contracts.schema import Column as TableColumn
from segue.contracts.schema import Table
from segue.contracts.tables import F32, I64
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SECOND, SESSION_GAP, Surface
from segue.features.definition import FEATURES, Feature, select
from segue.features.expression import Aggregate, Attribute, Column, evaluate, leaves
from segue.features.program import of_nothing
from segue.features.relations import (
    ARTIST_ROLLUPS,
    MARK_KINDS,
    MARKS_AGE,
    MAX_AGE,
    ROLLUPS,
    Artist,
    Candidate,
    Entity,
    Rollup,
    Track,
    facts,
)
from segue.listener.fold import GUARANTEES, MARKED, OF_ARTIST, PLAYED
from segue.settings.tree import State

_MOMENT: Final = ["user_id", "moment"]


def _of(entity: Entity) -> list[Feature]:
    return [f for f in FEATURES.values() if f.entity is entity]


def _table(entity: Entity, noun: str) -> Table:
    key = entity.key
    return Table(
        f"features_{entity.name}",
        f"Features of {noun} as of the start of the day: nothing of the day itself is in them.",
        (
            TableColumn("day", pa.date32(), "the UTC day at whose start the values stood; the partition"),
            TableColumn(key, I64, f"the {entity.name}", ge=0),
            *(TableColumn(f.name, F32, f.doc, nullable=isnan(f.default)) for f in _of(entity)),
        ),
        key=("day", key),
        sort=(key,),
    )


FEATURES_TRACK: Final = _table(Track, "each track")
FEATURES_ARTIST: Final = _table(Artist, "each artist")


@dataclass(frozen=True)
class Tables:
    """The warehouse tables features are made from, by their contracts.

    `plays` and `marks` (likes, follows, hides) are both `events`, each of its own days. Which days have to be there: `reach`.
    """

    plays: ir.Table
    marks: ir.Table
    tracks: ir.Table
    artists: ir.Table
    listeners: ir.Table
    daily_tracks: ir.Table
    daily_artists: ir.Table


@dataclass(frozen=True)
class Reach:
    """The days of each table that features of some moments are made from. One that is not needed has the moments' own."""

    plays: Days
    marks: Days
    daily_tracks: Days
    daily_artists: Days


def reach(names: Iterable[str], first: int, last: int) -> Reach:
    """What those features read, of moments from `first` to `last` (UTC microseconds): their largest window, and no more.

    Raises NotFound for a name without a definition.
    """
    chosen = select(names)
    longest: dict[Entity | None, int] = {}
    marked = False
    for f in chosen:
        for leaf in _aggregates([f]):
            of = f.entity if f.entity.daily else None
            marked |= of is None and leaf.relation in MARK_KINDS
            if leaf.relation == "plays" or of is not None:
                longest[of] = max(longest.get(of, 0), leaf.within or 0)
    starts = (first - longest.get(entity, 0) for entity in (Track, Artist))
    daily = (Days.holding(start, max(start, last - DAY)) for start in starts)
    return Reach(
        Days.holding(first - longest.get(None, 0), last),
        Days.holding(first - (MARKS_AGE if marked else 0), last),
        *daily,
    )


def snapshot(entity: Entity, day: date, tables: Tables) -> ir.Table:
    """FEATURES_TRACK or FEATURES_ARTIST of one day: every track, or artist of a track or of `artists`, as of its start."""
    number = (day - date(1970, 1, 1)).days
    keys = tables.tracks.select("track_id")
    if entity is Artist:
        # Why: a track may name an artist of whom nothing else is known.
        named = tables.tracks.filter(tables.tracks.artist_id.notnull())
        # Why: a union wants equal types, and a key's type says that it is never null.
        known, also = (t.select(artist_id=t.artist_id.cast("int64")) for t in (tables.artists, named))
        keys = known.union(also)
    keys = keys.distinct().mutate(number=ibis.literal(number, "int64"))
    rows = _as_of(entity, keys, _of(entity), tables)
    columns = {f.name: rows[f.name].cast("float32") for f in _of(entity)}
    return rows.select(entity.key, **columns, day=ibis.literal(day, "date")).select(
        "day", entity.key, *columns
    )


def training_join(
    samples: ir.Table, tables: Tables, limits: State, names: Iterable[str] | None = None
) -> ir.Table:
    """The samples with their features, point in time.

    `samples` has the columns request_id, user_id, ts (the moment of the request, UTC microseconds), track_id and surface,
    and may have others; all are kept. `names` choose features (default: all); those of candidates, which only the pipeline
    knows, are left to the caller. Adds one float32 column per feature. Raises NotFound for a name without a definition.
    """
    chosen = [f for f in select(FEATURES if names is None else names) if f.entity is not Candidate]
    base = _base(samples, tables)
    rows = base
    blocks = list(_blocks(base, chosen, tables, limits))
    for n, block in enumerate(blocks):
        # Why: with names of their own for all columns, the joins are one flat chain in the SQL.
        renamed = {f"_{n}_{key}": key for key in block.keys} | {f"_{f.name}": f.name for f in block.features}
        on = [(mine, f"_{n}_{key}") for key, mine in block.keys.items()]
        rows = rows.left_join(block.rows.select(**renamed), on)
    values = _context(rows, chosen)
    for n, block in enumerate(blocks):
        present = rows[f"_{n}_{next(iter(block.keys))}"].notnull()
        values |= {f.name: block.value(f, rows, present) for f in block.features}
    columns = {f.name: values[f.name].cast("float32") for f in chosen}
    return rows.select(*samples.columns, **columns)


def matrix(rows: pa.Table, names: Iterable[str]) -> npt.NDArray[np.float32]:
    """Columns of a fetched table as float32[rows, names], row-major, with NaN where a value is missing."""
    chosen = list(names)
    out = np.empty((rows.num_rows, len(chosen)), np.float32)
    for n, name in enumerate(chosen):
        out[:, n] = rows[name].to_numpy()
    return out


@dataclass(frozen=True)
class _Block:
    """Features that share a key: `rows` with columns `keys` (their name in `rows`: their name among the samples)
    and one float64 column per feature. `key` is the candidate's among them, "" for none."""

    rows: ir.Table
    keys: dict[str, str]
    key: str
    features: list[Feature]

    def value(self, f: Feature, rows: ir.Table, present: ir.BooleanValue) -> ir.Value:
        """What a sample gets: the value found, the value of no rows at all, or for an unknown key the default."""
        nothing = f.default if f.entity.daily else _of_nothing(f)
        value = ibis.ifelse(present, rows[f"_{f.name}"], _literal(nothing))
        return ibis.ifelse(rows[self.key].isnull(), _literal(f.default), value) if self.key else value


def _base(samples: ir.Table, tables: Tables) -> ir.Table:
    """The samples with what keys are made of: artist, genre, day, the listener's start."""
    tracks = tables.tracks.select(
        _track="track_id", _artist_id="artist_id", _genre=_blank_is_null(tables.tracks.genre)
    )
    listeners = tables.listeners.select(_user="user_id", _joined_at="joined_at")
    rows = samples.left_join(tracks, samples.track_id == tracks._track)
    rows = rows.left_join(listeners, samples.user_id == listeners._user)
    rows = rows.drop("_track", "_user")
    return rows.mutate(_day=_day_number(rows.ts))


def _blocks(base: ir.Table, chosen: list[Feature], tables: Tables, limits: State) -> Iterator[_Block]:
    for entity, key in ((Track, "track_id"), (Artist, "_artist_id")):
        features = [f for f in chosen if f.entity is entity]
        if features:
            keys = base.filter(base[key].notnull()).select(**{entity.key: base[key]}, number=base._day)
            rows = _as_of(entity, keys.distinct(), features, tables)
            yield _Block(rows, {entity.key: key, "number": "_day"}, key, features)
    moments = base.select(user_id="user_id", moment="ts").distinct()
    plays, marks = _plays(moments, tables, limits.max_plays), _marks(moments, tables, limits.max_marks)
    groups: dict[tuple[Entity, str], list[Feature]] = {}
    for f in chosen:
        if not f.entity.daily and f.relation not in facts(f.entity):
            groups.setdefault((f.entity, f.relation), []).append(f)
    for (entity, relation), features in groups.items():
        if relation == "plays":
            yield _of_moments(entity, plays, entity.key, features)
        else:
            rows = marks.filter(marks.kind == MARK_KINDS[relation])
            yield _of_moments(entity, rows, "target_id" if entity.key else "", features)


# --- tracks and artists, as of a day's start


def _as_of(entity: Entity, keys: ir.Table, features: list[Feature], tables: Tables) -> ir.Table:
    """`keys` (the entity's key, day `number`) with the features as of the start of that day, as float64."""
    daily, rollups = (
        (tables.daily_tracks, ROLLUPS) if entity is Track else (tables.daily_artists, ARTIST_ROLLUPS)
    )
    read = _aggregates(features)
    key = entity.key
    rows = _facts_of(entity, keys, tables)
    if read:
        longest = max(span for leaf in read if (span := leaf.within) is not None) // DAY
        columns = dict.fromkeys(c for leaf in read for c in _summed(leaf, rollups))
        counts = daily.select(
            _k=daily[key],
            _n=_day_number(daily.day.cast("timestamp").epoch_seconds() * SECOND),
            **{c: c for c in columns},
        )
        joined = keys.join(
            counts,
            [keys[key] == counts._k, counts._n < keys.number, counts._n >= keys.number - longest],
        )
        sums = joined.group_by(key, "number").aggregate(
            **{f"_a{n}": _rolled_up(joined, leaf, rollups) for n, leaf in enumerate(read)}
        )
        sums = sums.rename(_k=key, _n="number")
        rows = rows.left_join(sums, [rows[key] == sums._k, rows.number == sums._n])
        rows = rows.mutate(**{f"_a{n}": rows[f"_a{n}"].fill_null(0.0) for n in range(len(read))})
    values = {f.name: _finished(f, rows, read) for f in features}
    return rows.select(key, "number", **values)


def _summed(leaf: Aggregate, rollups: Mapping[str, Rollup]) -> tuple[str, ...]:
    """The columns of daily counts that a leaf adds up."""
    rollup = rollups[leaf.relation]
    return rollup.count if leaf.column is None else (rollup.columns[str(leaf.column.args[0])],)


def _rolled_up(joined: ir.Table, leaf: Aggregate, rollups: Mapping[str, Rollup]) -> ir.FloatingScalar:
    value = reduce(operator.add, (joined[c] for c in _summed(leaf, rollups)))
    assert leaf.within is not None
    where = joined.number - joined._n <= leaf.within // DAY
    return value.cast("float64").sum(where=where).fill_null(0.0)


def _facts_of(entity: Entity, keys: ir.Table, tables: Tables) -> ir.Table:
    """`keys` with the facts of the track or artist."""
    start = keys.number * DAY
    if entity is Track:
        known = tables.tracks.select("uploaded_at", "duration_ms", "explicit", _k=tables.tracks[entity.key])
        rows = keys.left_join(known, keys[entity.key] == known._k)
        return rows.mutate(
            age_days=(start - rows.uploaded_at) / DAY,
            duration_s=rows.duration_ms / 1000,
            explicit=_number(rows.explicit),
        ).drop("uploaded_at", "duration_ms", "_k")
    known = tables.artists.select("joined_at", _k=tables.artists[entity.key])
    rows = keys.left_join(known, keys[entity.key] == known._k)
    return rows.mutate(age_days=(start - rows.joined_at) / DAY).drop("joined_at", "_k")


# --- listeners, as of a moment


def _of_moments(entity: Entity, source: ir.Table, key: str, features: list[Feature]) -> _Block:
    """Features of one entity over one relation: `source`'s rows aggregated by moment and `key`."""
    read = _aggregates(features)
    known = source.filter(source[key].notnull()) if key else source
    by = [*_MOMENT, key] if key else _MOMENT
    sums = known.group_by(by).aggregate(**{f"_a{n}": _aggregated(known, leaf) for n, leaf in enumerate(read)})
    rows = sums.select(*by, **{f.name: _finished(f, sums, read) for f in features})
    keys = {"user_id": "user_id", "moment": "ts"}
    if not key:
        return _Block(rows, keys, "", features)
    among = {"track_id": "track_id", "artist_id": "_artist_id", "genre": "_genre"}[entity.key]
    return _Block(rows, keys | {key: among}, among, features)


def _plays(moments: ir.Table, tables: Tables, keep: int) -> ir.Table:
    """`plays` of each moment: what the listener's state would hold, with the columns of the relation."""
    events = tables.plays
    events = events.filter(events.type.isin([t.value for t in PLAYED]) & events.track_id.notnull()).semi_join(
        moments, "user_id"
    )
    once = events.group_by("user_id", "ts", "track_id").aggregate(
        listened=events.listened.any(),
        skipped=events.skipped.all(),
        ms_played=ibis.greatest(events.ms_played.fill_null(0).max(), 0),
        artist_id=events.artist_id.max(),
    )
    known = tables.tracks.select(_k="track_id", genre=_blank_is_null(tables.tracks.genre))
    once = once.left_join(known, once.track_id == known._k).drop("_k")
    order = [once.ts, once.track_id]
    silence = once.ts - once.ts.lag(1).over(group_by="user_id", order_by=order)
    once = once.mutate(fresh=ibis.ifelse(silence < SESSION_GAP, 0, 1))
    once = once.mutate(
        session=once.fresh.sum()
        .over(ibis.cumulative_window(group_by="user_id", order_by=order))
        .cast("int64")
    )
    once = once.rename(_u="user_id").drop("fresh")
    seen = moments.join(
        once,
        [moments.user_id == once._u, once.ts < moments.moment, once.ts >= moments.moment - MAX_AGE],
    ).drop("_u")
    latest = ibis.window(group_by=_MOMENT, order_by=[seen.ts.desc(), seen.track_id.desc()])
    seen = seen.mutate(
        recency=ibis.row_number().over(latest) + 1,
        last_ts=seen.ts.first().over(latest),
        last_session=seen.session.first().over(latest),
    )
    seen = seen.filter(seen.recency <= keep)
    age = seen.moment - seen.ts
    return seen.mutate(
        age=age,
        minutes_ago=age / MINUTE,
        in_session=(seen.session == seen.last_session) & (seen.moment - seen.last_ts < SESSION_GAP),
        day=seen.ts - seen.ts % DAY,
    ).drop("last_ts", "last_session", "session")


def _marks(moments: ir.Table, tables: Tables, keep: int) -> ir.Table:
    """Standing marks of each moment: user_id, moment, kind, target_id, age, minutes_ago."""
    events = tables.marks
    events = events.filter(events.type.isin([t.value for t in MARKED])).semi_join(moments, "user_id")
    kind = events.type.cases(*((t.value, kind) for t, (kind, _) in MARKED.items()), else_=None)
    said = events.select(
        "ts",
        _u="user_id",
        kind=kind.cast("int64"),
        target_id=kind.isin(list(OF_ARTIST)).ifelse(events.artist_id, events.track_id),
        on=events.type.isin([t.value for t, (_, on) in MARKED.items() if on]),
    )
    said = said.filter(said.target_id.notnull())
    said = said.group_by("_u", "kind", "target_id", "ts").aggregate(on=said.on.any())
    said = said.mutate(until=said.ts.lead(1).over(group_by=["_u", "kind", "target_id"], order_by="ts"))
    # Why: the interval [ts, until] in which a statement is the latest stands for an as-of join, which Spark lacks.
    seen = moments.join(
        said,
        [
            moments.user_id == said._u,
            said.ts < moments.moment,
            said.ts >= moments.moment - MARKS_AGE,
            said.until.isnull() | (said.until >= moments.moment),
        ],
    ).drop("_u", "until")
    worth = [
        seen.kind.isin(list(GUARANTEES)).ifelse(1, 0).desc(),
        seen.ts.desc(),
        seen.kind.desc(),
        seen.target_id.desc(),
    ]
    seen = seen.mutate(rank=ibis.row_number().over(group_by=_MOMENT, order_by=worth))
    seen = seen.filter((seen["rank"] < keep) & seen.on).drop("rank", "on")
    age = seen.moment - seen.ts
    return seen.mutate(age=age, minutes_ago=age / MINUTE)


def _context(rows: ir.Table, chosen: list[Feature]) -> dict[str, ir.Value]:
    """Features of the listener's and the request's facts, straight from the samples' columns."""
    surfaces = rows.surface.cases(*((s.value, float(n)) for n, s in enumerate(Surface)), else_=None)
    known: dict[tuple[str, str], ir.Value] = {
        ("listener", "age_days"): (rows.ts - rows._joined_at) / DAY,
        ("request", "hour"): (rows.ts % DAY - rows.ts % HOUR) / HOUR,
        ("request", "weekday"): (rows._day + 3) % 7,
        ("request", "surface"): surfaces,
    }

    def fact(leaf: Aggregate | Attribute) -> ir.Value:
        assert isinstance(leaf, Attribute)
        return known[leaf.relation, leaf.name].cast("float64")

    values = {}
    for f in chosen:
        if f.value is not None and not f.entity.daily and f.relation in facts(f.entity):
            value = evaluate(f.value, fact, _literal, _OPERATIONS)
            values[f.name] = ibis.coalesce(value, _literal(f.default))
    return values


# --- the language in Ibis


def _aggregates(features: list[Feature]) -> list[Aggregate]:
    read = (leaf for f in features if f.value is not None for leaf in leaves(f.value))
    return list(dict.fromkeys(leaf for leaf in read if isinstance(leaf, Aggregate)))


def _aggregated(rows: ir.Table, leaf: Aggregate) -> ir.FloatingScalar:
    where = None if leaf.within is None else rows.age <= leaf.within
    if leaf.where is not None:
        also = _row(rows, leaf.where)
        where = also if where is None else where & also
    if leaf.op == "nunique":
        assert leaf.column is not None
        return _row(rows, leaf.column).nunique(where=where).cast("float64")
    if leaf.op == "count" and leaf.half_life is None:
        return rows.count(where=where).cast("float64")
    value = ibis.literal(1.0) if leaf.column is None else _number(_row(rows, leaf.column))
    if leaf.half_life is not None:
        value = value * (rows.minutes_ago * (-log(2) * MINUTE / leaf.half_life)).exp()
    if leaf.op in ("min", "max"):
        extreme = value.min(where=where) if leaf.op == "min" else value.max(where=where)
        return extreme.cast("float64")
    return value.sum(where=where).fill_null(0.0)


def _row(rows: ir.Table, column: Column) -> Any:
    if column.op == "column":
        return rows[str(column.args[0])]
    args = [_row(rows, arg) if isinstance(arg, Column) else arg for arg in column.args]
    return _ROW_OPERATIONS[column.op](*args)


def _finished(f: Feature, rows: ir.Table, read: list[Aggregate]) -> ir.FloatingColumn:
    """A feature from the aggregations `read`, in columns _a0, _a1, ..., and from facts, by name; default where missing."""
    assert f.value is not None
    place: dict[Aggregate | Attribute, str] = {leaf: f"_a{n}" for n, leaf in enumerate(read)}

    def leaf_of(leaf: Aggregate | Attribute) -> ir.FloatingColumn:
        return rows[place[leaf] if isinstance(leaf, Aggregate) else leaf.name].cast("float64")

    value = evaluate(f.value, leaf_of, _literal, _OPERATIONS)
    return value if isnan(f.default) else ibis.coalesce(value, _literal(f.default))


def _of_nothing(f: Feature) -> float:
    assert f.value is not None
    return of_nothing(f.value, f.default)


def _literal(value: float) -> Any:
    return ibis.null("float64") if isnan(value) else ibis.literal(float(value), "float64")


def _number(value: Any) -> Any:
    # Why: BigQuery casts no boolean to a float.
    if value.type().is_boolean():
        return ibis.cases((value, 1.0), (~value, 0.0), else_=ibis.null("float64"))
    return value.cast("float64")


def _compare(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: _number(compare(a, b))


_ROW_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.invert,
}
_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": lambda a, b: a / b.nullif(0.0),
    "le": _compare(operator.le),
    "ge": _compare(operator.ge),
    "at_least": lambda a, b: (a < b).ifelse(b, a),
}


def _day_number(ts: ir.IntegerColumn) -> ir.IntegerColumn:
    """Days since 1970 of UTC microseconds. The division is exact because nothing is left over."""
    return ((ts - ts % DAY) / DAY).cast("int64")


def _blank_is_null(text: ir.StringColumn) -> ir.StringColumn:
    return text.nullif("")
