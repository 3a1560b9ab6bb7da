"""Holds an Arrow table against its contract, rule by rule."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.schema import Table
from segue.simulation import SimulationConfig

CONFIG = SimulationConfig(tracks=4_000, artists=500, listeners=1_500, days=20, seed=7)
"""The service the tests of this folder look at."""


def check_contract(rows: pa.Table, table: Table) -> None:
    """Types, nulls, ranges, lengths, closed sets and the key, all as the contract says."""
    assert rows.schema.equals(table.arrow)
    for column in table.columns:
        values = rows.column(column.name)
        if not column.nullable:
            assert values.null_count == 0, column.name
        values = values.drop_null()
        if not len(values):
            continue
        if column.ge is not None:
            assert pc.min(values).as_py() >= column.ge, column.name
        if column.le is not None:
            assert pc.max(values).as_py() <= column.le, column.name
        if column.max_bytes is not None:
            assert pc.max(pc.binary_length(values)).as_py() <= column.max_bytes, column.name
        if column.one_of is not None:
            assert set(pc.unique(values).to_pylist()) <= set(column.one_of), column.name
    if table.key:
        assert rows.group_by(list(table.key)).aggregate([]).num_rows == rows.num_rows
