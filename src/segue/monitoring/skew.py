"""The skew report: what the ranker was shown while serving, held against the same features recomputed from the warehouse.

Every vector of the exposure log is recomputed by the training join as of its request. A value that differs is tried again
under what serving may have known instead: the bundle's daily snapshot is of another day, an event arrived after the request,
the catalogue or the listener's profile changed since. The first of these under which the value comes out as logged is
its cause; a value that none of them explains is a fault. Nothing is explained away by a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Final

import ibis
import ibis.expr.types as ir
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.bundle import Bundle, BundleStore
from segue.bundle import catalogue as catalogues
from segue.bundle.catalogue import EXPLICIT
from segue.contracts.errors import BundleCorrupt, NotFound
from segue.contracts.ids import format_id
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import CANDIDATES, EVENTS, EXPOSURES
from segue.contracts.vocabulary import DAY, SECOND
from segue.features import FEATURES
from segue.features.offline import Tables, matrix, training_join
from segue.features.relations import Candidate
from segue.recommend.ranker import Ranker
from segue.settings.tree import Settings
from segue.training.features import feature_tables
from segue.warehouse.daily import daily_artists, daily_tracks

Floats = npt.NDArray[np.float32]

TOLERANCE: Final = 1e-6
"""Relative difference up to which two values are equal: sums are made in another order, and end as float32."""
ON_ITS_WAY: Final = SECOND
"""How long an event may take from its arrival until requests know it."""
_DAILY_WINDOW: Final = 28
"""Whole days that features of tracks and artists look back."""
UNEXPLAINED: Final = "unexplained"


class Example(msgspec.Struct, frozen=True):
    """One value that differs, the most of its kind."""

    request_id: str
    ts: int
    user_id: int | None
    surface: str
    bundle: str
    track_id: int
    logged: float
    recomputed: float
    cause: str


class FeatureSkew(msgspec.Struct, frozen=True):
    """One feature: values compared, those that differ and why, and the largest difference (NaN: missing on one side)."""

    feature: str
    compared: int
    unequal: int
    unexplained: int
    causes: dict[str, int]
    largest: float
    example: Example | None


class SkewReport(msgspec.Struct, frozen=True):
    """Features with the most unexplained values first. `left_out` counts the vectors that were not compared, by reason."""

    first: date
    last: date
    requests: int
    vectors: int
    left_out: dict[str, int]
    not_compared: tuple[str, ...]
    features: tuple[FeatureSkew, ...]

    @property
    def worst(self) -> float:
        """The largest share of a feature's values that nothing explains."""
        return max((f.unexplained / f.compared for f in self.features if f.compared), default=0.0)


@dataclass(frozen=True)
class Assumption:
    """What serving may have known instead of what the training join says, for daily features or for the others.

    snapshot: tracks and artists as of the day of the bundle's snapshot; arrived: only events that had come in (daily: when the
    bundle was made; else `lag` microseconds before the request); catalogue: the bundle's; profile: None is known.
    """

    cause: str
    daily: bool
    snapshot: bool = False
    arrived: bool = False
    lag: int = 0
    catalogue: bool = False
    profile: bool = True


AS_TRAINED: Final = Assumption("", daily=False)
ASSUMPTIONS: Final = (
    Assumption("snapshot", daily=True, snapshot=True),
    Assumption("late", daily=True, snapshot=True, arrived=True),
    Assumption("catalogue", daily=True, snapshot=True, arrived=True, catalogue=True),
    Assumption("late", daily=False, arrived=True),
    Assumption("on its way", daily=False, arrived=True, lag=ON_ITS_WAY),
    Assumption("catalogue", daily=False, arrived=True, catalogue=True),
    Assumption("profile", daily=False, arrived=True, profile=False),
)
CAUSES: Final = {
    "snapshot": "the bundle's daily snapshot is of another day than the request",
    "late": "events came in after the request (of tracks and artists: after the bundle was made)",
    "on its way": "events came in within the second before the request",
    "catalogue": "the track, or a track played, was changed since the bundle was made",
    "profile": "the listener's profile was not known yet",
    UNEXPLAINED: "serving and training disagree",
}


def skew(engine: Engine, bundles: BundleStore, settings: Settings, days: Days) -> SkewReport:
    """Compare the vectors logged on those days. Reads the tables as the last `segue run` left them, changes nothing.

    Raises NotFound where no vector is logged. At most some ten thousand vectors are in memory at once.
    """
    tallies: dict[str, _Tally] = {}
    left_out: dict[str, int] = {}
    requests = vectors = 0
    opened: dict[str, _Served | str] = {}
    not_compared: set[str] = set()
    for day in days:
        found = _vectors(engine, Days(day, day))
        requests += int(engine.collect(found.aggregate(n=found.request_id.nunique()))["n"][0].as_py())
        for rows in _parts(engine, found):
            vectors += rows.num_rows
            version, surface = rows["bundle"][0].as_py(), rows["surface"][0].as_py()
            if version not in opened:
                opened[version] = _open(bundles, version)
            served = opened[version]
            part = served if isinstance(served, str) else _part(rows, served, settings, surface)
            if isinstance(part, str):
                left_out[part] = left_out.get(part, 0) + rows.num_rows
                continue
            not_compared |= set(part.left)
            _compare(part, _Recompute(engine, settings, part), tallies)
    if not vectors:
        raise NotFound(
            f"no feature vectors are logged from {days.first} to {days.last}: answer requests with "
            "serving.log_sample_share above 0, then `segue run`",
            field="serving.log_sample_share",
        )
    return SkewReport(
        days.first,
        days.last,
        requests,
        vectors,
        left_out,
        tuple(name for name in FEATURES if name in not_compared),
        tuple(sorted((t.skew(name) for name, t in tallies.items()), key=_badness)),
    )


def _badness(found: FeatureSkew) -> tuple[float, float]:
    compared = max(found.compared, 1)
    return -found.unexplained / compared, -found.unequal / compared


# --- what was logged


def _vectors(engine: Engine, day: Days) -> ir.Table:
    """A row per vector of the day: what was shown, and the candidates that lost, by the bundle of their response."""
    names = ["request_id", "ts", "user_id", "surface", "bundle", "track_id", "features"]
    shown = engine.read(EXPOSURES, day)
    bundle_of = shown.select("request_id", "bundle").distinct()
    lost = engine.read(CANDIDATES, day).join(bundle_of, "request_id")
    rows = shown.select(*names).union(lost.select(*names))
    return rows.filter(rows.features.notnull() & rows.bundle.notnull())


def _parts(engine: Engine, found: ir.Table) -> Iterator[pa.Table]:
    """The vectors batch by batch, apart by bundle and surface."""
    keys = ["bundle", "surface"]
    for batch in engine.stream(found.order_by([*keys, "ts", "request_id", "track_id"])):
        rows = pa.table(batch)
        for key in rows.group_by(keys).aggregate([]).to_pylist():
            chosen = pc.and_(*(pc.equal(rows[name], key[name]) for name in keys))
            yield rows.filter(chosen)


class _Served:
    """A bundle that answered requests."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.made_at = bundle.manifest.created_at
        through = date.fromisoformat(bundle.manifest.data_through)
        self.snapshot_day = through + timedelta(days=1)
        """At whose start its features of tracks and artists stood."""

    @property
    def snapshot_ts(self) -> int:
        """The start of that day, UTC microseconds."""
        return (self.snapshot_day - date(1970, 1, 1)).days * DAY

    @cached_property
    def tracks(self) -> ir.Table:
        """Its catalogue, with the columns of TRACKS that features read."""
        known = catalogues.load(self.bundle)
        artist = (
            np.where(known.artist >= 0, known.artist_id[known.artist], -1)
            if len(known.artist_id)
            else known.artist
        )
        genre = pa.array(known.genres, pa.string()).take(_nulled(known.genre))
        columns = {
            "track_id": known.track_id,
            "artist_id": _nulled(artist),
            "genre": genre,
            "duration_ms": _nulled(known.duration_ms),
            "uploaded_at": _nulled(known.uploaded_at),
            "explicit": (known.flags & EXPLICIT) > 0,
        }
        return ibis.memtable(pa.table(columns))

    def names(self, ranker: str) -> tuple[str, ...] | None:
        """The features of one of its rankers, or None."""
        return (
            Ranker.load(self.bundle, ranker).spec.features if ranker in self.bundle.json("rankers") else None
        )


def _nulled(values: npt.NDArray[np.signedinteger]) -> pa.Array:
    return pa.array(values, mask=np.asarray(values) < 0)


def _open(bundles: BundleStore, version: str) -> _Served | str:
    try:
        return _Served(bundles.open(version))
    except NotFound:
        return f"bundle {version} was removed"
    except BundleCorrupt as error:
        return f"bundle {version} does not open: {error.message}"


@dataclass(frozen=True)
class _Part:
    """Vectors of one bundle and surface: `rows` without them, and `logged` float32[n, f] of the features `names`.

    `left` are the features that are not compared."""

    served: _Served
    rows: pa.Table
    logged: Floats
    names: tuple[str, ...]
    left: tuple[str, ...]


def _part(rows: pa.Table, served: _Served, settings: Settings, surface: str) -> _Part | str:
    recipe = settings.surfaces.get(surface)
    names = served.names(recipe.scorer.ranker) if recipe is not None else None
    length = pc.list_value_length(rows["features"])
    if names is None or not pc.all(pc.equal(length, len(names))).as_py():
        return f"bundle {served.bundle.version} has no ranker for {surface} with vectors of this length"
    vectors = pc.list_flatten(rows["features"]).to_numpy().reshape(-1, len(names))
    kept = [n for n, name in enumerate(names) if name in FEATURES and FEATURES[name].entity is not Candidate]
    left = tuple(name for n, name in enumerate(names) if n not in set(kept))
    return _Part(
        served, rows.drop_columns(["features"]), vectors[:, kept], tuple(names[n] for n in kept), left
    )


# --- what the warehouse says


class _Recompute:
    """The features of a part's rows, under an assumption."""

    def __init__(self, engine: Engine, settings: Settings, part: _Part) -> None:
        self._engine = engine
        self._limits = settings.state
        self._part = part
        moments = part.rows["ts"].to_numpy()
        first, last = int(moments.min()), int(moments.max())
        snapshot = part.served.snapshot_ts
        self._tables = feature_tables(engine, part.names, min(first, snapshot), max(last, snapshot))

    def __call__(self, at: npt.NDArray[np.int64], names: Sequence[str], how: Assumption) -> Floats:
        """float32[len(at), len(names)] of the rows at those places."""
        rows, served = self._part.rows.take(pa.array(at)), self._part.served
        tables = replace(self._tables, tracks=served.tracks) if how.catalogue else self._tables
        user, ts = rows["user_id"], rows["ts"].to_numpy()
        if how.snapshot:
            ts = np.full(len(at), served.snapshot_ts)
        if how.arrived and how.daily:
            tables = self._as_the_bundle_knew(tables, rows)
        elif how.arrived:
            user, tables = _as_each_request_knew(tables, user, ts, how.lag)
        if not how.profile:
            tables = replace(tables, listeners=tables.listeners.limit(0))
        samples = {
            "row": np.arange(len(at)),
            "user_id": user,
            "ts": ts,
            "track_id": rows["track_id"],
            "surface": rows["surface"],
        }
        joined = training_join(ibis.memtable(pa.table(samples)), tables, self._limits, names)
        return matrix(self._engine.collect(joined.order_by("row")), names)

    def _as_the_bundle_knew(self, tables: Tables, rows: pa.Table) -> Tables:
        """The daily counts of these tracks and their artists, of the events that had come in when the bundle was made."""
        served = self._part.served
        last = served.snapshot_day - timedelta(days=1)
        events = self._engine.read(EVENTS, Days(last - timedelta(days=_DAILY_WINDOW - 1), last))
        tracks = ibis.memtable(pa.table({"track_id": pc.unique(rows["track_id"])}))
        artists = ibis.union(
            *(
                t.semi_join(tracks, "track_id").select(artist_id=t.artist_id)
                for t in (tables.tracks, served.tracks)
            )
        )
        events = events.filter(events.received_at < served.made_at)
        return replace(
            tables,
            daily_tracks=daily_tracks(events.semi_join(tracks, "track_id")),
            daily_artists=daily_artists(events.semi_join(artists, "artist_id")),
        )


def _as_each_request_knew(
    tables: Tables, user: pa.ChunkedArray, ts: npt.NDArray[np.int64], lag: int
) -> tuple[npt.NDArray[np.int64], Tables]:
    """Every listener and moment as a listener of its own, who did only what had come in `lag` before the moment."""
    moments, number = np.unique(
        np.stack([pc.fill_null(user, -1).to_numpy(), ts]), axis=1, return_inverse=True
    )
    known = ibis.memtable(
        pa.table({"_one": np.arange(moments.shape[1]), "_user": moments[0], "_until": moments[1] - lag})
    )
    plays, marks = (
        t.join(known, [t.user_id == known._user, t.received_at <= known._until])
        for t in (tables.plays, tables.marks)
    )
    listeners = tables.listeners.join(known, tables.listeners.user_id == known._user)
    own = [t.drop("user_id", "_user", "_until").rename(user_id="_one") for t in (plays, marks, listeners)]
    return number.reshape(-1), replace(tables, plays=own[0], marks=own[1], listeners=own[2])


# --- the comparison


def _unequal(logged: Floats, recomputed: Floats) -> npt.NDArray[np.bool_]:
    return ~np.isclose(logged, recomputed, rtol=TOLERANCE, atol=0, equal_nan=True)


def _compare(part: _Part, recompute: _Recompute, tallies: dict[str, _Tally]) -> None:
    """Recompute, explain what differs, and count."""
    expected = recompute(np.arange(len(part.logged)), part.names, AS_TRAINED)
    unequal = _unequal(part.logged, expected)
    cause = np.where(unequal, len(ASSUMPTIONS), -1)
    for number, how in enumerate(ASSUMPTIONS):
        open_ = cause == len(ASSUMPTIONS)
        columns = [
            n
            for n, name in enumerate(part.names)
            if open_[:, n].any() and FEATURES[name].entity.daily == how.daily
        ]
        at = np.flatnonzero(open_[:, columns].any(axis=1))
        if len(at):
            again = recompute(at, [part.names[n] for n in columns], how)
            block = at[:, None], np.array(columns)
            cause[block] = np.where(open_[block] & ~_unequal(part.logged[block], again), number, cause[block])
    for n, name in enumerate(part.names):
        tallies.setdefault(name, _Tally()).add(part, n, expected[:, n], cause[:, n])


class _Tally:
    """What has been counted of one feature."""

    def __init__(self) -> None:
        self._compared = 0
        self._causes: dict[str, int] = {}
        self._example: Example | None = None

    def add(self, part: _Part, column: int, expected: Floats, cause: npt.NDArray[np.int64]) -> None:
        """Count one part's values; `cause` int64[n] is -1 where they are equal."""
        self._compared += len(cause)
        for number in np.unique(cause[cause >= 0]).tolist():
            rows = np.flatnonzero(cause == number)
            name = ASSUMPTIONS[number].cause if number < len(ASSUMPTIONS) else UNEXPLAINED
            self._causes[name] = self._causes.get(name, 0) + len(rows)
            logged = part.logged[:, column]
            worst = rows[np.argmax(_distance(logged[rows], expected[rows]))]
            found = part.rows.slice(worst, 1).to_pylist()[0]
            self._keep(
                Example(
                    format_id(found["request_id"]),
                    found["ts"],
                    found["user_id"],
                    found["surface"],
                    found["bundle"],
                    found["track_id"],
                    float(logged[worst]),
                    float(expected[worst]),
                    name,
                )
            )

    def skew(self, name: str) -> FeatureSkew:
        """The feature's line."""
        example = self._example
        return FeatureSkew(
            name,
            self._compared,
            sum(self._causes.values()),
            self._causes.get(UNEXPLAINED, 0),
            self._causes,
            0.0 if example is None else abs(example.logged - example.recomputed),
            example,
        )

    def _keep(self, new: Example) -> None:
        """The unexplained before the explained, then the larger difference."""
        if self._example is None or _rank(new) > _rank(self._example):
            self._example = new


def _distance(logged: Floats, recomputed: Floats) -> npt.NDArray[np.float64]:
    """How far apart; a value that is missing on one side is farther than any other."""
    return np.nan_to_num(np.abs(logged.astype(np.float64) - recomputed), nan=np.inf)


def _rank(example: Example) -> tuple[bool, float]:
    pair = np.array([[example.logged], [example.recomputed]], np.float32)
    return example.cause == UNEXPLAINED, float(_distance(*pair)[0])
