"""Effects by segment: shrunk, corrected, and with a warning, for somebody who looks at many will find one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.errors import InvalidInput
from segue.experiments.comparing import pair_of
from segue.experiments.metric import Metric
from segue.experiments.outcome import Segment, Segmented
from segue.experiments.statistics.compare import Difference, difference
from segue.experiments.statistics.multiple import benjamini_hochberg
from segue.experiments.statistics.shrinkage import shrunk
from segue.experiments.units import Ints, Measured, Units, codes_of

__all__ = ["REST", "labels", "segmented"]

MOST = 20
"""Segments that are shown of a column; smaller ones are put together."""
FEWEST = 50
"""Units a segment needs; smaller ones are put together."""
REST = "(rest)"
UNKNOWN = "(unknown)"


def labels(units: Units, column: str) -> tuple[list[str], Ints]:
    """The segments by name, and that of each row of the table. Raises `InvalidInput` for a column that is not there."""
    if column not in units.table.column_names:
        known = ", ".join(units.table.column_names[:20])
        raise InvalidInput(
            f"there is no column {column!r} to look at segments of; there are {known}", field=column
        )
    values, codes = codes_of(units.table[column].cast(pa.string()).fill_null(UNKNOWN))
    names, place = np.unique(values.to_numpy(zero_copy_only=False), return_inverse=True)
    return [str(name) for name in names], place[codes]


def segmented(units: Units, metric: Metric, values: Measured, column: str) -> list[Segmented]:
    """The effect of each variant by the values of a column, of which there must be two or more with enough units."""
    names, every = labels(units, column)
    codes = every[values.rows]
    counts = np.bincount(codes, minlength=len(names))
    largest = np.argsort(-counts, kind="stable")
    own = [n for n in largest[: MOST - 1] if counts[n] >= FEWEST]
    place = np.full(len(names), len(own))
    place[own] = np.arange(len(own))
    titles = [names[n] for n in own] + ([REST] if len(own) < len(names) else [])
    found = [
        _of_variant(metric, values, place[codes], titles, column, units.variants[n], n)
        for n in range(1, len(units.variants))
    ]
    return [one for one in found if one is not None]


def _of_variant(
    metric: Metric,
    values: Measured,
    codes: npt.NDArray[np.int64],
    titles: list[str],
    column: str,
    variant: str,
    treatment: int,
) -> Segmented | None:
    gaps: dict[str, tuple[int, Difference]] = {}
    for n, title in enumerate(titles):
        among = codes == n
        found = pair_of(metric, values, treatment, None, among)
        gap = None if found is None else difference(found.control, found.treatment)
        if found is not None and gap is not None:
            gaps[title] = (found.control.n + found.treatment.n, gap)
    if len(gaps) < 2:
        return None
    effects = np.array([gap.value for _, gap in gaps.values()])
    pulled = shrunk(effects, np.array([gap.error for _, gap in gaps.values()]))
    adjusted = benjamini_hochberg([gap.p for _, gap in gaps.values()])
    segments = [
        Segment(
            title,
            n,
            gap.value,
            gap.interval,
            adjusted[at],
            float(pulled.effects[at]),
            (float(pulled.low[at]), float(pulled.high[at])),
        )
        for at, (title, (n, gap)) in enumerate(gaps.items())
    ]
    return Segmented(column, variant, segments, pulled.same_p, _warning(len(gaps), pulled.same_p))


def _warning(count: int, same_p: float) -> str:
    chance = 1 - 0.95**count
    if same_p >= 0.05:
        return (
            f"nothing shows that the effect differs between these {count} segments (p {same_p:.2g}). Looking for one that won "
            f"is fishing: with no effect anywhere, one of {count} is 'significant' with a chance of {chance:.0%}"
        )
    return (
        f"the effect seems to differ between these {count} segments (p {same_p:.2g}). Unless the segment was named before the "
        "start, take it as an idea for the next experiment, and read the shrunken effects"
    )
