"""Reports as tables for the terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.table import Table

from segue.evaluation.backtest import SEGUE, Report


def evaluation_tables(report: Report) -> list[Table]:
    """A table per task: models by their last metric, best first, ours marked."""
    tables = []
    for task, found in report.tasks.items():
        at = datetime.fromtimestamp(found.protocol.split / 1e6, UTC).date()
        until = datetime.fromtimestamp((found.protocol.until - 1) / 1e6, UTC).date()
        cases = found.protocol.cases[task]
        table = Table(
            title=f"{task}: fit before {at}, judged to {until}, {cases:,} cases", title_justify="left"
        )
        table.add_column("model")
        names = list(next(iter(found.models.values())))
        for name in names:
            table.add_column(name, justify="right")
        for model, metrics in sorted(found.models.items(), key=lambda item: -item[1][names[-1]].value):
            cells = [
                f"{metrics[n].value:.4f} [dim]\\[{metrics[n].ci95[0]:.3f}, {metrics[n].ci95[1]:.3f}][/]"
                for n in names
            ]
            table.add_row(f"[bold green]{model}[/]" if model == SEGUE else model, *cells)
        tables.append(table)
    return tables
