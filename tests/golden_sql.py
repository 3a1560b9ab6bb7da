"""What the flow asks of BigQuery for one day of each table, kept as files: a change of it is seen, and reviewed.

`make golden` accepts what it is now. `segue sql TABLE --engine bigquery --from 2026-11-02` prints the same.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from segue.contracts.ports import Days
from segue.flows.definitions import definition
from segue.flows.steps import BUILD
from segue.wiring.engines import printed

FOLDER = Path(__file__).parent / "golden" / "bigquery"
DAY = Days(date(2026, 11, 2), date(2026, 11, 2))
TABLES = [table for step in BUILD for table in step.writes]


def texts() -> dict[str, str]:
    """File name to content."""
    return {f"{t.name}.sql": printed("bigquery", definition(t.name, DAY)) + "\n" for t in TABLES}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.sql"):
        path.unlink()
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
