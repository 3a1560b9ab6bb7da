"""Definitions compiled for NumPy: what `online` runs for a request.

Two steps, each a list of instructions made once per process and run by a compiled function. `RowProgram` computes, for all
aggregations over one relation, the value each row contributes (its column where the row counts, the operation's neutral element
where not), sharing whatever two aggregations have in common. `fold` then folds the rows of each group, and `finish` runs each
feature's arithmetic on the folds of each group as a small stack machine.
"""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.vocabulary import MINUTE
from segue.features.expression import Aggregate, Attribute, Column, Combined, Value, leaves

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SUM, MIN, MAX, NUNIQUE = range(4)
_FOLDS: Final = {"count": SUM, "sum": SUM, "min": MIN, "max": MAX, "nunique": NUNIQUE}
_NEUTRAL: Final = {SUM: 0.0, MIN: np.inf, MAX: -np.inf, NUNIQUE: -1.0}
_LEAF, _CONSTANT, _ADD, _SUB, _MUL, _DIV, _LE, _GE, _AT_LEAST = range(9)
_CODES: Final = {
    "add": _ADD,
    "sub": _SUB,
    "mul": _MUL,
    "div": _DIV,
    "le": _LE,
    "ge": _GE,
    "at_least": _AT_LEAST,
}
_BASE, _RADD, _RSUB, _RMUL, _LT, _RLE, _GT, _RGE, _AND, _OR, _NOT, _ALWAYS, _DECAY, _WHERE = range(14)
_ROW_CODES: Final[Mapping[str, int]] = {
    "add": _RADD,
    "sub": _RSUB,
    "mul": _RMUL,
    "lt": _LT,
    "le": _RLE,
    "gt": _GT,
    "ge": _RGE,
    "and": _AND,
    "or": _OR,
    "not": _NOT,
}
STACK: Final = 16
"""Operands that a feature's arithmetic may hold at once."""

Leaf = Aggregate | Attribute


@dataclass
class RowProgram:
    """What each row of a relation contributes to each of its aggregations.

    `columns` are those it starts from; "age" is microseconds before the moment, and the columns that nunique reads are dense
    numbers, -1 where unknown. `folds` says how the values of each row of what `run` returns fold. Truths are 0 and 1.
    """

    columns: list[str] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    _steps: list[tuple[int, int, int, float]] = field(default_factory=list)
    """Operation, its one or two operands (earlier steps; of _BASE, the column), and a constant: of _WHERE what stands in, else
    the second operand where that is negative."""
    _known: dict[object, int] = field(default_factory=dict)

    def add(self, aggregate: Aggregate) -> int:
        """Have the aggregation computed; its row in what `run` returns."""
        fold_by = _FOLDS[aggregate.op]
        slot = self._contribution(aggregate, _NEUTRAL[fold_by])
        self.folds[slot] = fold_by
        return slot

    def run(self, given: Floats) -> Floats:
        """What each row comes to at each step, given the columns float64[len(columns), rows]: float64[steps, rows]."""
        out = np.empty((len(self._steps), given.shape[1]))
        if out.size:
            _run_rows(given, *self._instructions, out)
        return out

    @cached_property
    def _instructions(self) -> tuple[Ints, Floats]:
        codes = np.array([step[:3] for step in self._steps], np.int64).reshape(-1, 3)
        return codes, np.array([step[3] for step in self._steps])

    def _contribution(self, aggregate: Aggregate, neutral: float) -> int:
        counts = self._counts(aggregate)
        value = None if aggregate.column is None else self._column(aggregate.column)
        if aggregate.half_life is not None:
            rate = -log(2) * MINUTE / aggregate.half_life
            decay = self._step(_DECAY, self._base("minutes_ago"), constant=rate)
            value = decay if value is None else self._step(_RMUL, value, decay)
        return counts if value is None else self._step(_WHERE, counts, value, neutral)

    def _counts(self, aggregate: Aggregate) -> int:
        """Slot of the condition under which a row counts."""
        span = aggregate.within
        age = self._base("age")
        counts = self._step(_ALWAYS, age) if span is None else self._step(_RLE, age, constant=span)
        if aggregate.where is None:
            return counts
        return self._step(_AND, counts, self._column(aggregate.where))

    def _column(self, column: Column) -> int:
        if column.op == "column":
            return self._base(str(column.args[0]))
        slots = tuple(self._column(arg) for arg in column.args if isinstance(arg, Column))
        constants = [arg for arg in column.args if not isinstance(arg, Column)]
        first, second = (*slots, -1)[:2]
        return self._step(_ROW_CODES[column.op], first, second, float(constants[0]) if constants else 0.0)

    def _base(self, name: str) -> int:
        if name not in self.columns:
            self.columns.append(name)
        return self._step(_BASE, self.columns.index(name))

    def _step(self, code: int, first: int, second: int = -1, constant: float = 0.0) -> int:
        step = (code, first, second, constant)
        if step not in self._known:
            self._known[step] = len(self._steps)
            self._steps.append(step)
            self.folds.append(SUM)
        return self._known[step]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Features as instructions for the stack machine: `codes` int64[m, 2] (operation, operand), those of feature f
    from `starts`[f] to `starts`[f + 1]; `constants` float64; `defaults` float64[f] for what is missing."""

    codes: Ints
    starts: Ints
    constants: Floats
    defaults: Floats


def of_nothing(value: Value | float, default: float) -> float:
    """A feature's value where its relation has no rows."""
    read = list(dict.fromkeys(leaves(value)))
    program = RowProgram()
    which = np.array([program.add(leaf) for leaf in read if isinstance(leaf, Aggregate)], np.int64)
    none = np.empty(0, np.int64)
    folded = fold(none, 0, np.empty((len(program.folds), 0)), which, np.array(program.folds, np.int64))
    how = arithmetic([value], [default], read)
    return float(finish(folded, how.codes, how.starts, how.constants, how.defaults)[0, 0])


def arithmetic(
    values: Sequence[Value | float], defaults: Sequence[float], read: Sequence[Leaf]
) -> Arithmetic:
    """Compile the features' trees; operand n of a leaf is its place in `read`."""
    place = {leaf: n for n, leaf in enumerate(read)}
    codes: list[tuple[int, int]] = []
    starts, constants = [0], [0.0]

    def emit(value: Value | float) -> None:
        if isinstance(value, Combined):
            for arg in value.args:
                emit(arg)
            codes.append((_CODES[value.op], 0))
        elif isinstance(value, Aggregate | Attribute):
            codes.append((_LEAF, place[value]))
        else:
            assert not isinstance(value, Value)
            codes.append((_CONSTANT, len(constants)))
            constants.append(float(value))

    for value in values:
        emit(value)
        starts.append(len(codes))
    return Arithmetic(
        np.array(codes, np.int64).reshape(-1, 2),
        np.array(starts, np.int64),
        np.array(constants, np.float64),
        np.array(defaults, np.float64),
    )


@njit(cache=True, nogil=True)
def _run_rows(given: Floats, codes: Ints, constants: Floats, out: Floats) -> None:
    """Fill `out` float64[steps, rows] from the columns float64[c, rows]."""
    n = out.shape[1]
    for step in range(len(codes)):
        code, first, second = codes[step]
        to, constant = out[step], constants[step]
        if code == _BASE:
            to[:] = given[first]
            continue
        a = out[first]
        if code == _WHERE:
            for i in range(n):
                to[i] = out[second, i] if a[i] != 0.0 else constant
        elif code == _DECAY:
            for i in range(n):
                to[i] = np.exp(a[i] * constant)
        else:
            for i in range(n):
                to[i] = _row_value(code, a[i], out[second, i] if second >= 0 else constant)


@njit(cache=True, nogil=True)
def _row_value(code: int, a: float, b: float) -> float:
    if code == _RADD:
        return a + b
    if code == _RSUB:
        return a - b
    if code == _RMUL:
        return a * b
    truth = True
    if code == _LT:
        truth = a < b
    elif code == _RLE:
        truth = a <= b
    elif code == _GT:
        truth = a > b
    elif code == _RGE:
        truth = a >= b
    elif code == _AND:
        truth = a != 0.0 and b != 0.0
    elif code == _OR:
        truth = a != 0.0 or b != 0.0
    elif code == _NOT:
        truth = a == 0.0
    return 1.0 if truth else 0.0


@njit(cache=True, nogil=True)
def fold(groups: Ints, n_groups: int, rows: Floats, which: Ints, folds: Ints) -> Floats:
    """Fold each group's rows; the last group stays empty.

    `groups` int64[n] is each row's group, -1 for none; `rows` float64[k, n] what `RowProgram.run` made, of which `which`
    int64[a] are folded, as `folds` int64[k] says. Returns float64[a, n_groups + 1], NaN for a minimum or maximum
    of nothing.
    """
    out = np.zeros((len(which), n_groups + 1))
    order = np.empty(0, np.int64)
    for a in range(len(which)):
        how = folds[which[a]]
        if how == SUM:
            _sum(groups, rows[which[a]], out[a])
        elif how == NUNIQUE:
            if len(order) < len(groups):
                order = _by_group(groups, n_groups)
            _nunique(groups, order, rows[which[a]], out[a])
        else:
            _extreme(groups, rows[which[a]], 1.0 if how == MIN else -1.0, out[a])
    return out


@njit(cache=True, nogil=True)
def _sum(groups: Ints, row: Floats, out: Floats) -> None:
    if len(out) == 2:  # a single group: its sum stays in a register
        total = 0.0
        for i in range(len(groups)):
            if groups[i] >= 0:
                total += row[i]
        out[0] = total
        return
    for i in range(len(groups)):
        if groups[i] >= 0:
            out[groups[i]] += row[i]


@njit(cache=True, nogil=True)
def _extreme(groups: Ints, row: Floats, sign: float, out: Floats) -> None:
    out[:] = np.inf
    for i in range(len(groups)):
        if groups[i] >= 0 and sign * row[i] < out[groups[i]]:
            out[groups[i]] = sign * row[i]
    for g in range(len(out)):
        out[g] = sign * out[g] if np.isfinite(out[g]) else np.nan


@njit(cache=True, nogil=True)
def _nunique(groups: Ints, order: Ints, row: Floats, out: Floats) -> None:
    seen_in = np.full(len(groups), -1, np.int64)
    for i in order:
        code = int(row[i])
        if groups[i] >= 0 and code >= 0 and seen_in[code] != groups[i]:
            seen_in[code] = groups[i]
            out[groups[i]] += 1.0


@njit(cache=True, nogil=True)
def _by_group(groups: Ints, n_groups: int) -> Ints:
    """Rows ordered by group (a counting sort)."""
    next_at = np.zeros(n_groups + 2, np.int64)
    for i in range(len(groups)):
        next_at[groups[i] + 2] += 1
    for g in range(1, n_groups + 2):
        next_at[g] += next_at[g - 1]
    order = np.empty(len(groups), np.int64)
    for i in range(len(groups)):
        order[next_at[groups[i] + 1]] = i
        next_at[groups[i] + 1] += 1
    return order


@njit(cache=True, nogil=True)
def finish(folded: Floats, codes: Ints, starts: Ints, constants: Floats, defaults: Floats) -> Floats:
    """Each feature of each group, and a last row of defaults: float64[g + 1, f] from `folded` float64[a, g]."""
    n_groups, n_features = folded.shape[1], len(defaults)
    out = np.empty((n_groups + 1, n_features))
    out[n_groups] = defaults
    stack = np.empty(STACK)
    for g in range(n_groups):
        for f in range(n_features):
            top = -1
            for i in range(starts[f], starts[f + 1]):
                code, operand = codes[i, 0], codes[i, 1]
                if code == _LEAF:
                    top += 1
                    stack[top] = folded[operand, g]
                elif code == _CONSTANT:
                    top += 1
                    stack[top] = constants[operand]
                else:
                    top -= 1
                    stack[top] = _operate(code, stack[top], stack[top + 1])
            out[g, f] = defaults[f] if np.isnan(stack[0]) else stack[0]
    return out


@njit(cache=True, nogil=True)
def _operate(code: int, a: float, b: float) -> float:
    if np.isnan(a) or np.isnan(b):
        return np.nan
    if code == _ADD:
        return a + b
    if code == _SUB:
        return a - b
    if code == _MUL:
        return a * b
    if code == _DIV:
        return np.nan if b == 0.0 else a / b
    if code == _LE:
        return 1.0 if a <= b else 0.0
    if code == _GE:
        return 1.0 if a >= b else 0.0
    return max(a, b)
