"""A table with a row per unit (or many) becomes variants and arrays; what cannot be counted is left out and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import chi2

from segue.contracts.errors import InvalidData, InvalidInput
from segue.experiments.metric import Metric
from segue.experiments.statistics.moments import Floats, Moments, sums_by

__all__ = [
    "EXACT",
    "TWICE_LIMIT",
    "Ints",
    "Mask",
    "Measured",
    "Units",
    "codes_of",
    "measured",
    "numbers",
    "units_of",
]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
TWICE_LIMIT = 0.01
"""Where more of the units than this are in two variants, assignment is broken and nothing may be read."""
MOST_VARIANTS = 50
TORN = 0.001
"""Below this p a metric is missing more often in one variant than in another."""
LARGEST = 1e40
"""Of a metric's values: variances, and skewness with their third power, must stay numbers."""
EXACT = 2**53
"""The largest whole number up to which all are numbers of their own in float64."""
REFUSED = "each unit must have one variant: look at the assignment and at how the exposures were joined before anything else"


@dataclass(frozen=True)
class Units:
    """The rows that count: variant int64[rows], position in `variants` (the control is 0); unit int64[rows], from 0 without gaps.

    `twice` units were in more than one variant; their rows are gone. `many` says that units have several rows.
    """

    table: pa.Table
    variants: tuple[str, ...]
    variant: Ints
    unit: Ints
    of_unit: Ints
    """The variant of each unit."""
    ids: pa.Array
    """What the table calls each unit."""
    twice: int
    many: bool
    warnings: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Units of each variant."""
        found = np.bincount(self.of_unit, minlength=len(self.variants))
        return {name: int(n) for name, n in zip(self.variants, found, strict=True)}


def units_of(
    table: pa.Table, unit: str, variant: str, control: str | None, shares: Mapping[str, float] | None
) -> tuple[Units, dict[str, float]]:
    """The units, and the share that each variant should have (equal ones where none are given).

    Without a `control` it is the variant of that name, else the first by name. Raises `InvalidData` for a table without rows
    or with one variant, `InvalidInput` for a control or shares that do not fit it.
    """
    for name, what in ((unit, "unit"), (variant, "variant")):
        _known(table, name, what)
    table, warnings = _filled(table, unit, variant)
    listed, codes = codes_of(table[variant])
    names = [str(name) for name in listed.slice(0, MOST_VARIANTS + 1).to_pylist()]
    variants = _ordered(names, variant, control, shares)
    called, ids = codes_of(table[unit])
    place = np.array([variants.index(name) for name in names])
    table, codes, ids, twice = _in_one_variant(table, place[codes], ids)
    if len(ids) == 0:
        raise InvalidData(f"every unit is in more than one variant: {REFUSED}", field=variant)
    left, ids = np.unique(ids, return_inverse=True)
    of_unit = np.zeros(len(left), np.int64)
    of_unit[ids] = codes
    many = len(of_unit) < len(ids)
    if twice:
        share = twice / (twice + len(left))
        warnings.append(
            f"{twice:,} units ({share:.2%}) are in more than one variant and are left out: {REFUSED}"
        )
    if many:
        warnings.append(
            f"units have several rows ({len(ids):,} rows of {len(left):,} units): means are per row, their errors by unit"
        )
    found = Units(
        table,
        variants,
        codes,
        ids.astype(np.int64),
        of_unit,
        called.take(pa.array(left)),
        twice,
        many,
        tuple(warnings),
    )
    whole = sum(shares.values()) if shares else len(variants)
    return found, {name: (shares[name] if shares else 1.0) / whole for name in variants}


def _known(table: pa.Table, name: str, what: str) -> None:
    if name not in table.column_names:
        known = ", ".join(table.column_names[:20])
        raise InvalidInput(f"there is no column {name!r} to be the {what}; there are {known}", field=what)


def _filled(table: pa.Table, unit: str, variant: str) -> tuple[pa.Table, list[str]]:
    """The rows with a unit and a variant, and a warning where there are others."""
    filled = pc.and_(pc.is_valid(table[unit]), pc.is_valid(table[variant]))
    lost = table.num_rows - (pc.sum(filled).as_py() or 0)
    if lost == table.num_rows:
        raise InvalidData(f"there are no rows with a {unit} and a {variant}: nothing to analyse", field=unit)
    if not lost:
        return table, []
    return table.filter(filled), [f"{lost:,} rows without a {unit} or a {variant} are left out"]


def codes_of(column: pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    """The different values, and the place of each row's among them."""
    if pa.types.is_dictionary(column.type):  # which may list values that no row has
        column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary, np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def _ordered(
    names: Sequence[str], column: str, control: str | None, shares: Mapping[str, float] | None
) -> tuple[str, ...]:
    if len(names) > MOST_VARIANTS:
        raise InvalidInput(
            f"column {column} has more than {MOST_VARIANTS} different values, too many for variants; is it the right column?",
            field="variant",
            limit=f"2 to {MOST_VARIANTS} variants",
        )
    every = sorted(set(names) | set(shares or ()))
    if shares and (wrong := [name for name, share in shares.items() if not share > 0]):
        raise InvalidInput(f"--shares: the share of {wrong[0]} must be above 0", field="shares", limit="> 0")
    if strangers := [name for name in names if shares and name not in shares]:
        raise InvalidInput(
            f"--shares says nothing of the variants {', '.join(strangers)}: name every variant of {column}, or filter the table",
            field="shares",
        )
    if len(every) < 2:
        raise InvalidData(
            f"column {column} has one variant only ({every[0]}): a comparison needs two; is it the right column?",
            field="variant",
        )
    if control is None:
        control = next((name for name in every if name.lower() == "control"), every[0])
    if control not in every:
        raise InvalidInput(
            f"there is no variant {control!r} to be the control; there are {', '.join(every)}",
            field="control",
        )
    return (control, *(name for name in every if name != control))


def _in_one_variant(table: pa.Table, codes: Ints, ids: Ints) -> tuple[pa.Table, Ints, Ints, int]:
    low = np.full(int(ids.max()) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), -1)
    np.minimum.at(low, ids, codes)
    np.maximum.at(high, ids, codes)
    torn = high > low
    if not torn.any():
        return table, codes, ids, 0
    stays = ~torn[ids]
    return table.filter(pa.array(stays)), codes[stays], ids[stays], int(torn.sum())


@dataclass(frozen=True)
class Measured:
    """A metric's columns float64[rows] of the rows that have it: values (numerator), denominator of a ratio, and the
    pre-period's.
    """

    columns: tuple[Floats, ...]
    variant: Ints
    unit: Ints
    ratio: bool
    """Whether the level is the ratio of two sums: also of a mean whose units have several rows."""
    adjusted: bool
    """Whether there is a pre-period."""
    rows: Ints
    """The row of the table that each is from; of a unit with several, its last."""
    warnings: tuple[str, ...]
    torn: str | None = None
    """Why what is left cannot be compared: it is missing more often in one variant."""

    def moments(self, variant: int, among: Mask | None = None) -> Moments:
        """Of the units of that variant (and among those)."""
        here = self.variant == variant
        if among is not None:
            here &= among
        return Moments.of(*(column[here] for column in self.columns))


def measured(units: Units, metric: Metric) -> Measured:
    """The metric's columns, one row a unit unless it is a quantile. Raises `InvalidInput` or `InvalidData` for columns that
    are not there, not numbers, or infinite.
    """
    values = [numbers(units.table, name, metric) for name in metric.values]
    has = np.logical_and.reduce([~np.isnan(column) for column in values])
    warnings = []
    torn = None
    if not has.any():
        raise InvalidData(f"metric {metric.name} has no value in any row", field=metric.name)
    if not has.all():
        said, torn = _missing(units, has, metric)
        warnings.append(said)
    if metric.kind == "proportion" and not np.isin(values[0][has], (0.0, 1.0)).all():
        raise InvalidData(
            f"metric {metric.name} is a proportion but has values other than 0 and 1: use kind=mean",
            field=metric.name,
        )
    before = _before(units, metric, warnings)
    columns = [column[has] for column in (*values, *before)]
    found = Measured(
        tuple(columns),
        units.variant[has],
        units.unit[has],
        metric.kind == "ratio",
        bool(before),
        np.flatnonzero(has),
        tuple(warnings),
        torn,
    )
    return _by_unit(found) if units.many and metric.kind != "quantile" else found


def _by_unit(found: Measured) -> Measured:
    """Sums by unit. A mean of rows becomes the ratio of the units' sums to their numbers of rows."""
    ids, codes = np.unique(found.unit, return_inverse=True)
    sums = [sums_by(codes, column) for column in found.columns]
    if not found.ratio:
        rows = np.bincount(codes).astype(np.float64)
        sums = [sums[0], rows, *((sums[1], rows) if found.adjusted else ())]
    last = np.zeros(len(ids), np.int64)
    last[codes] = np.arange(len(codes))
    return replace(
        found,
        columns=tuple(sums),
        variant=found.variant[last],
        unit=ids,
        ratio=True,
        rows=found.rows[last],
    )


def numbers(table: pa.Table, name: str, metric: Metric) -> Floats:
    """A column float64[rows], NaN where there is none. Raises `InvalidInput` or `InvalidData` for one that has other things."""
    if name not in table.column_names:
        known = ", ".join(table.column_names[:20])
        raise InvalidInput(
            f"metric {metric.name}: there is no column {name!r}; there are {known}", field=name
        )
    column = table[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type):
        low, high = pc.min_max(column).as_py().values()
        if high is not None and max(-low, high) > EXACT:
            raise InvalidData(
                f"metric {metric.name}: column {name!r} has whole numbers above {EXACT:,}, which lose digits: take another unit; "
                "or is it an id?",
                field=name,
                limit=f"{EXACT:,}",
            )
    try:
        found = column.cast(pa.float64(), safe=False).combine_chunks().to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidData(
            f"metric {metric.name}: column {name!r} is {column.type}, not numbers: {error}",
            field=name,
            limit="numbers",
        ) from error
    if np.isinf(found).any():
        raise InvalidData(
            f"metric {metric.name}: column {name!r} has infinite values: mend or leave out those rows",
            field=name,
        )
    sizes = np.abs(found[(found != 0.0) & ~np.isnan(found)])
    if len(sizes) and not 1 / LARGEST < sizes.max() < LARGEST:
        raise InvalidData(
            f"metric {metric.name}: the largest value of column {name!r} is {sizes.max():g}, whose powers no number holds: take "
            "another unit, or mend those rows",
            field=name,
            limit=f"{1 / LARGEST:g} < largest < {LARGEST:g}",
        )
    return np.asarray(found, np.float64)


def _missing(units: Units, has: Mask, metric: Metric) -> tuple[str, str | None]:
    """What is missing in words, and why that forbids a comparison where it differs between variants: who is left is then chosen
    by the treatment (below TORN).
    """
    rows = np.bincount(units.variant, minlength=len(units.variants))
    lost = np.bincount(units.variant[~has], minlength=len(units.variants))
    said = ", ".join(
        f"{name} {n:,} ({n / max(of, 1):.2%})" for name, n, of in zip(units.variants, lost, rows, strict=True)
    )
    told = f"{metric.name} is missing in {int(lost.sum()):,} rows, which are left out: {said}"
    p = _same_share(units, ~has)
    if p < TORN:
        return (
            told,
            f"{metric.name} cannot be compared: it is missing more often in one variant ({said}; p {p:.2g})",
        )
    return f"{told}. Is it missing because of the treatment, then what is left cannot be compared", None


def _same_share(units: Units, lost: Mask) -> float:
    """How likely the shares of rows that are lost are to differ so much between variants where the treatment does not matter.

    Pearson's chi-square test with the variance between units, as rows of one unit are lost together.
    """
    _, first, codes = np.unique(units.unit, return_index=True, return_inverse=True)
    variant = units.variant[first]
    excess = np.bincount(codes, lost) - lost.mean() * np.bincount(codes)
    count = np.bincount(variant, minlength=len(units.variants))
    here = count > 0
    by_variant = np.bincount(variant, excess, minlength=len(count))[here]
    spread = float((excess**2).mean())
    return float(chi2.sf((by_variant**2 / count[here]).sum() / spread, here.sum() - 1)) if spread > 0 else 1.0


def _before(units: Units, metric: Metric, warnings: list[str]) -> list[Floats]:
    """The pre-period's columns; what is missing gets everybody's mean, which adjusts nothing."""
    names = metric.before
    found = [name in units.table.column_names for name in names]
    if not any(found) or metric.kind == "quantile":
        return []
    columns = [numbers(units.table, name, metric) for name in names]
    lost = np.logical_or.reduce([np.isnan(column) for column in columns])
    if lost.all():
        warnings.append(f"{metric.name} has no pre-period in any row: it is not adjusted")
        return []
    if lost.any():
        warnings.append(
            f"{metric.name} has no pre-period in {int(lost.sum()):,} rows ({lost.mean():.1%}): these are not adjusted"
        )
        columns = [np.where(lost, np.nanmean(column[~lost]), column) for column in columns]
    return columns
