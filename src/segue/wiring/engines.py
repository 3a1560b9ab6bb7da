"""Which engine the warehouse runs on. An engine's client is imported where the engine is chosen: some are extras."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from segue.contracts.errors import InvalidSettings
from segue.contracts.ports import Days, Engine, Factorizer
from segue.settings.tree import Settings, Warehouse

if TYPE_CHECKING:
    from types import ModuleType

    from segue.flows.definitions import Definition


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


def open_factorizer(root: Path, settings: Settings) -> Factorizer | None:
    """What `training.als` names; None for "numba", which needs nothing. Raises InvalidSettings as `open_engine`."""
    if settings.training.als == "numba":
        return None
    found: Factorizer = _adapter("spark_als", "spark", "training.als").SparkALS(root, settings.warehouse)
    return found


def printed(kind: str, made: Definition) -> str:
    """What an engine of that kind is asked to make some days of a table, as SQL. Raises InvalidSettings as `open_engine`."""
    if kind == "bigquery":
        steps = _adapter("bigquery_sql", kind).steps(made.table, made.rows, made.days)
    else:
        steps = [_adapter("sql", kind).select(kind, made.rows)]
    reads = ", ".join(f"{name} {_said(days)}" for name, days in made.reads.items())
    text = "\n\n".join(f"{step};" for step in steps)
    return f"-- {made.table.name} {_said(made.days)} on {kind}; reads {reads}\n{text}"


def _said(days: Days | None) -> str:
    return "whole" if days is None else f"{days.first}..{days.last}"


def _adapter(module: str, kind: str = "", setting: str = "warehouse.engine") -> ModuleType:
    kind = kind or module
    try:
        return import_module(f"segue.adapters.engines.{module}")
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"{setting}: {kind} needs the package {error.name}; install it with `pip install 'segue[{kind}]'`",
            field=setting,
        ) from error
