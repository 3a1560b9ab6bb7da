"""Which engine the warehouse runs on. An engine's client is imported where the engine is chosen: some are extras."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from segue.contracts.errors import InvalidSettings
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

if TYPE_CHECKING:
    from types import ModuleType

    import ibis.expr.types as ir


def open_engine(root: Path, settings: Warehouse) -> Engine:
    """The engine `warehouse.engine` names; tables in files live under `root`.

    Raises InvalidSettings where the engine's extra is not installed.
    """
    engine: Engine
    if settings.engine == "spark":
        engine = _adapter("spark").SparkDelta(root, settings)
    elif settings.engine == "bigquery":
        engine = _adapter("bigquery").BigQuery(settings)
    else:
        engine = _adapter("duckdb").DuckDBDelta(root, settings)
    return engine


def statements(kind: str, table: Table, rows: ir.Table, days: Days) -> list[str]:
    """What an engine of that kind is asked to make those days of a table, as SQL. Raises InvalidSettings as `open_engine`."""
    select = _adapter("sql", kind).select(kind, rows)
    if kind != "bigquery":
        return [select]
    bigquery = _adapter("bigquery_sql", kind)
    staged = f"{table.name}_staged"
    return [bigquery.create(table), bigquery.stage(staged, select), bigquery.replace(table, staged, days)]


def _adapter(module: str, kind: str = "") -> ModuleType:
    kind = kind or module
    try:
        return import_module(f"segue.adapters.engines.{module}")
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"warehouse.engine: {kind} needs the package {error.name}; install it with `pip install 'segue[{kind}]'`",
            field="warehouse.engine",
        ) from error
