"""An engine whose daily tables lack some days: for whatever learns from whole tables, while days are set aside."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any, cast

import ibis.expr.types as ir

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table


def without(engine: Engine, days: Collection[date]) -> Engine:
    """The engine as if its daily tables had no rows of those days. Writes and all else are the engine's own."""
    return cast(Engine, _Without(engine, days)) if days else engine


class _Without:
    def __init__(self, engine: Engine, days: Collection[date]) -> None:
        self._engine = engine
        self._days = sorted(days)

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        rows = self._engine.read(table, days)
        return rows.filter(~rows.day.isin(self._days)) if table.daily else rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
