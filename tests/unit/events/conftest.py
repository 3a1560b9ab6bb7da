from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

Rows = Callable[[Table], list[dict[str, Any]]]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBDelta]:
    """A real, empty warehouse."""
    made = DuckDBDelta(tmp_path / "warehouse", Warehouse(threads=1, memory_mb=512))
    yield made
    made.close()


@pytest.fixture
def rows(engine: DuckDBDelta) -> Rows:
    """The rows of a table, sorted by its key."""

    def read(table: Table) -> list[dict[str, Any]]:
        found = engine.collect(engine.read(table)).to_pylist()
        return sorted(found, key=lambda row: tuple(str(row[name]) for name in table.key))

    return read
