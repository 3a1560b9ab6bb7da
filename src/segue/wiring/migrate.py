"""A table of a home brought into its contract's schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from segue.contracts.errors import InvalidInput
from segue.contracts.schema import Table
from segue.flows.lock import exclusive
from segue.wiring.home import Home

IN_FILES = ("duckdb", "spark")
"""Engines whose tables are Delta tables below the home."""


def migrate_table(
    home: Home, table: Table, renamed: Mapping[str, str], dropped: Collection[str]
) -> dict[date, int] | None:
    """Rows per day, or None where there was nothing to do. Raises as `adapters.engines.migration.migrate`, and Conflict."""
    from segue.adapters.engines.migration import migrate

    engine = home.settings.warehouse.engine
    if engine not in IN_FILES:
        raise InvalidInput(
            f"tables on {engine} are changed by its own statements (ALTER TABLE ... RENAME COLUMN, SET DATA TYPE, DROP COLUMN)",
            field="warehouse.engine",
            limit=", ".join(IN_FILES),
        )
    with exclusive(home.root, f"segue migrate {table.name}"):
        return migrate(home.warehouse, table, renamed, dropped)
