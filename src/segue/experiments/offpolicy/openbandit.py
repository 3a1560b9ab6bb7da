"""Two logs of one A/B test, in the columns of the Open Bandit Dataset: each policy judged from the other's log.

What a policy earned in its own log is the truth that the estimates are held against (itself a sample: its interval is told).

**The judged policy's chances** must be known for what the *other* log shows. A policy whose propensities are all one over the
number of items is uniform, which is exact. Any other policy, which must know nothing of who asks, is described by how often it
showed each item at each position in its own log: an unbiased estimate of its chances averaged over the period, from its choices
alone, never its clicks. Two other ways are worse. The mean of an item's logged propensities counts the moments when it was likely
too often, as those are when it was shown (over the items of a position such means sum to 2 to 4, not to 1). Drawing Thompson
sampling anew from its prior (as obp does) describes it before the log began; it learnt in between.

**The log's propensities.** A policy that learns is many policies, one after another, and where one of them gave an item next to
no chance a single row weighs hundreds. Averaged over the period the weights are mild: the balance heuristic (Agarwal, Basu,
Schnabel & Joachims, KDD 2017). It is counted as well, of a uniform policy too: by the shares that were really shown each item's
own click rate at a position is what counts, whichever was shown more often than due (direct standardisation; Hirano, Imbens &
Ridder, Econometrica 2003, on why it scatters less than by the true chances, in the limit). Both averages assume that what an item
earns at a position does not move within the period as its chances do. With `averaged` off the rows' own propensities are taken,
which assume nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import chi2_contingency

from segue.contracts.errors import InvalidData, InvalidInput, NotFound
from segue.experiments.offpolicy.estimate import Estimate, estimate
from segue.experiments.offpolicy.interval import rate_interval
from segue.experiments.offpolicy.logged import Floats, Logged, Longs, logged, propensities
from segue.experiments.offpolicy.overlap import MISSING, Overlap, overlap, refuse_without
from segue.experiments.offpolicy.reward import cross_fit, parts_of

ITEM, POSITION, CLICK, PROPENSITY = COLUMNS = ("item_id", "position", "click", "propensity_score")
UNIFORM: Final = 1e-9
TORN: Final = 1e-3
"""A difference between the logs with a smaller p is no accident."""
MOST: Final = 20_000_000
"""Numbers in the model's design, a row for each item at each position: 160 MB."""


class PolicyReport(msgspec.Struct, frozen=True):
    """One policy: what it earned per row of its own log, and what the other log says it would.

    truth, truth_ci95, clicks, rows: of its own log; from_log: the policy whose log the estimates come from, with its clicks.
    """

    truth: float
    truth_ci95: tuple[float, float]
    clicks: int
    rows: int
    from_log: str
    from_clicks: int
    overlap: Overlap
    estimates: dict[str, Estimate]


class LogReport(msgspec.Struct, frozen=True):
    """Both policies by name."""

    policies: dict[str, PolicyReport]


@dataclass(frozen=True)
class BanditLog:
    """One policy's log: item, position int64[n] codes shared by both logs; click, propensity float64[n]."""

    name: str
    item: Longs
    position: Longs
    click: Floats
    propensity: Floats

    def chances(self, positions: int, items: int) -> Floats:
        """The chance of each item at each position, adding up to 1 where the log has rows. float64[positions, items]."""
        if np.abs(self.propensity * items - 1.0).max() < UNIFORM * items:
            return np.full((positions, items), 1.0 / items)
        return self.shares(positions, items)

    def shares(self, positions: int, items: int) -> Floats:
        """How often each item was shown, of all at a position. float64[positions, items]."""
        counted = np.zeros((positions, items))
        np.add.at(counted, (self.position, self.item), 1.0)
        shares: Floats = counted / np.maximum(counted.sum(axis=1, keepdims=True), 1.0)
        return shares


def compare(folder: Path, *, averaged: bool = True) -> LogReport:
    """Each of the two policies of a folder from the other's log. Raises NotFound, InvalidData."""
    logs = read(folder)
    positions, items = (1 + max(int(column.max()) for column in pair) for pair in _codes(logs))
    _refuse_other_positions(logs, positions)
    policies = {}
    for judged, log in (logs, logs[::-1]):
        seen, unseen = against(log, judged.chances(positions, items), averaged=averaged)
        found = overlap(seen.weight, seen.unit, unseen)
        refuse_without(found, judged.name)
        clicks, rows = float(judged.click.sum()), len(judged.click)
        policies[judged.name] = PolicyReport(
            truth=clicks / rows,
            truth_ci95=rate_interval(clicks / rows, clicks / rows**2, 1.0 / rows),
            clicks=int(clicks),
            rows=rows,
            from_log=log.name,
            from_clicks=int(log.click.sum()),
            overlap=found,
            estimates=estimate(seen),
        )
    return LogReport(policies)


def against(log: BanditLog, chances: Floats, *, averaged: bool = True) -> tuple[Logged, float]:
    """A log's rows with a judged policy's chances float64[positions, items] and a cross-fitted model of the click; and the
    share of the judged policy's choices that the log never shows at their position.
    """
    positions, items = chances.shape
    part = parts_of(np.arange(len(log.click)))
    cell = log.position * items + log.item
    # Rows of one item, position and part are alike to the model: it is fitted on their counts.
    key, place, count = np.unique(part * (positions * items) + cell, return_inverse=True, return_counts=True)
    mean = np.bincount(place, log.click) / count
    design = _design(positions, items)
    fitted = cross_fit(
        design[key % (positions * items)], mean, key // (positions * items), count.astype(np.float64), top=1.0
    )
    clicks = np.stack([model.predict(design) for model in fitted.models])  # [parts, cells]
    by_position = (clicks.reshape(len(clicks), positions, items) * chances).sum(axis=2)
    row_values = by_position[:, log.position]  # [parts, n]
    shown = np.zeros((positions, items), np.bool_)
    shown[log.position, log.item] = True
    at = np.bincount(log.position, minlength=positions) / len(log.click)
    rows = np.arange(len(part))
    seen = logged(
        log.click,
        log.shares(positions, items)[log.position, log.item] if averaged else log.propensity,
        chances[log.position, log.item],
        modelled=clicks[part, cell],
        expected=row_values[part, rows],
    )
    return seen, float(at @ np.where(shown, 0.0, chances).sum(axis=1))


def read(folder: Path) -> tuple[BanditLog, BanditLog]:
    """The two logs of a folder, named by their files. Raises NotFound without two files, InvalidData for what is no log."""
    if not folder.is_dir():
        raise NotFound(
            f"--log: {folder} is no folder; give one with two Parquet files, a policy each", field="log"
        )
    files = sorted(folder.glob("*.parquet"))
    if len(files) != 2:
        raise NotFound(
            f"--log: {folder} has {len(files)} Parquet files; two are needed, each the log of one policy of the same test",
            field="log",
            limit="2 files",
        )
    tables = [_table(path) for path in files]
    items = np.unique(np.concatenate([table[ITEM] for table in tables]))
    positions = np.unique(np.concatenate([table[POSITION] for table in tables]))
    if len(items) * len(positions) * (len(items) + len(positions)) > MOST:
        raise InvalidData(
            f"{ITEM}: {len(items):,} items at {len(positions):,} positions are too many to describe a policy by how often it "
            "shows each at each; keep the items and positions that matter",
            field=ITEM,
            limit="items * positions * (items + positions) <= 20,000,000",
        )
    names = [path.stem for path in files]
    whose, _, endings = zip(*(name.rpartition("-") for name in names), strict=True)
    if all(whose) and len(set(endings)) == 1:  # random-all, bts-all: of one campaign
        names = list(whose)
    first, second = (
        BanditLog(
            name,
            np.searchsorted(items, table[ITEM]),
            np.searchsorted(positions, table[POSITION]),
            table[CLICK],
            table[PROPENSITY],
        )
        for name, table in zip(names, tables, strict=True)
    )
    return first, second


def _table(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    try:
        file = pq.ParquetFile(path)
        lacking = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if PROPENSITY in lacking:
            raise InvalidData(
                f"{path}: no column {PROPENSITY}: a log without propensities cannot be used, since estimates divide by them; log "
                "the chance of each choice when it is made",
                field=PROPENSITY,
            )
        if lacking:
            raise InvalidData(
                f"{path}: no column {', '.join(lacking)}; a log has {', '.join(COLUMNS)}", field=lacking[0]
            )
        if twice := [name for name in COLUMNS if file.schema_arrow.names.count(name) > 1]:
            raise InvalidData(
                f"{path}: several columns are called {twice[0]}: which is meant? Rename the others",
                field=twice[0],
            )
        table = file.read(columns=list(COLUMNS))
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidData(f"{path}: not a Parquet file: {error}", field="log") from error
    if len(table) == 0:
        raise InvalidData(f"{path}: has no rows", field="log")
    columns = {}
    for name in COLUMNS:
        try:
            columns[name] = table[name].cast(pa.float64()).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidData(
                f"{path}: {name} must be numbers (whole ones up to 2^53), got {table[name].type}", field=name
            ) from error
        lost = int((~np.isfinite(columns[name])).sum())
        if name != PROPENSITY and lost:
            raise InvalidData(
                f"{path}: {name} is missing or infinite in {lost:,} of {len(table):,} rows; give every row one",
                field=name,
            )
    if not np.isin(columns[CLICK], (0.0, 1.0)).all():
        raise InvalidData(f"{path}: {CLICK} must be 0 or 1", field=CLICK, limit="0 or 1")
    try:
        columns[PROPENSITY] = propensities(columns[PROPENSITY])
    except InvalidInput as error:
        raise InvalidData(f"{path}: {error.message}", field=PROPENSITY, limit="(0, 1]") from error
    return columns


def _refuse_other_positions(logs: tuple[BanditLog, BanditLog], positions: int) -> None:
    """A position earns what it earns whoever is judged: logs that show positions in other proportions differ by that alone."""
    counts = np.array([np.bincount(log.position, minlength=positions) for log in logs])
    shares = counts / counts.sum(axis=1, keepdims=True)
    if np.abs(shares[0] - shares[1]).sum() / 2 > MISSING and chi2_contingency(counts).pvalue < TORN:
        most = int(np.argmax(np.abs(shares[0] - shares[1])))
        raise InvalidData(
            f"{POSITION}: the logs show positions in other proportions ({logs[0].name} {shares[0, most]:.1%} of its rows at one, "
            f"{logs[1].name} {shares[1, most]:.1%}), so they would differ whatever is shown: keep rows that both have alike",
            field=POSITION,
        )


def _codes(logs: tuple[BanditLog, BanditLog]) -> tuple[tuple[Longs, Longs], tuple[Longs, Longs]]:
    return (logs[0].position, logs[1].position), (logs[0].item, logs[1].item)


def _design(positions: int, items: int) -> Floats:
    """Columns of each cell, position by position: its item and its position. float64[positions * items, items + positions]."""
    return np.column_stack(
        [np.tile(np.eye(items), (positions, 1)), np.repeat(np.eye(positions), items, axis=0)]
    )
