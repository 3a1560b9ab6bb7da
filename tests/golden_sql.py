"""What the flow asks of BigQuery for one day of each table, kept as files: a change of it is seen, and reviewed.

`make golden` accepts what it is now. `segue sql TABLE --engine bigquery --from 2026-11-02` prints the same.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import ibis.expr.types as ir

from segue.adapters.engines.sql import select
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EXPOSURES
from segue.contracts.vocabulary import DAY as A_DAY
from segue.features import FEATURES
from segue.features.offline import training_join
from segue.features.relations import Artist, Candidate, Entity, Track
from segue.flows.definitions import definition, unbound
from segue.flows.steps import BUILD
from segue.settings.tree import State
from segue.training.features import day_snapshot, feature_tables
from segue.wiring.engines import printed

FOLDER = Path(__file__).parent / "golden" / "bigquery"
DAY = Days(date(2026, 11, 2), date(2026, 11, 2))
TABLES = [table for step in BUILD for table in step.writes]
UNBOUND = cast(Engine, SimpleNamespace(read=unbound))
NOON = (DAY.first - date(1970, 1, 1)).days * A_DAY + A_DAY // 2
OF_FEATURES = ("features_training", "features_track", "features_artist")
"""The point-in-time join for samples of a day and the one after it, and the snapshots of that day."""


def texts() -> dict[str, str]:
    """File name to content."""
    found = {t.name: printed("bigquery", definition(t.name, DAY)) for t in TABLES}
    found |= {
        name: f"{select('bigquery', rows)};" for name, rows in zip(OF_FEATURES, features(), strict=True)
    }
    return {f"{name}.sql": text + "\n" for name, text in found.items()}


def features() -> tuple[ir.Table, ir.Table, ir.Table]:
    """Every feature as the training join and the snapshots make it, over tables that need not be there."""
    return joined([name for name, f in FEATURES.items() if f.entity is not Candidate]), *map(
        _day, (Track, Artist)
    )


def joined(names: list[str]) -> ir.Table:
    """The point-in-time join of samples (slots that were shown) of two days with those features."""
    samples = unbound(EXPOSURES, Days(DAY.first, DAY.last + timedelta(days=1)))
    tables = feature_tables(UNBOUND, names, NOON, NOON + A_DAY)
    return training_join(
        samples.select("request_id", "user_id", "ts", "track_id", "surface"), tables, State(), names
    )


def _day(entity: Entity) -> ir.Table:
    return day_snapshot(UNBOUND, entity, NOON)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.sql"):
        path.unlink()
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
