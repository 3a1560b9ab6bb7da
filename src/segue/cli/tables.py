"""Reports as tables for the terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table

from segue.evaluation.backtest import SEGUE, Report, TaskReport
from segue.evaluation.protocols import HEADLINE, Measured


def evaluation_tables(report: Report) -> list[Table]:
    """A table per task: models by their last headline metric, best first, ours marked."""
    tables = []
    for task, found in report.tasks.items():
        at = datetime.fromtimestamp(found.protocol.split / 1e6, UTC).date()
        until = datetime.fromtimestamp((found.protocol.until - 1) / 1e6, UTC).date()
        table = _table(f"{task}: fit before {at}, judged to {until}, {found.cases:,} cases", "model")
        for name in HEADLINE[task]:
            table.add_column(name, justify="right")
        for model in _best_first(task, found):
            table.add_row(_name(model), *(_cell(found.models[model][name]) for name in HEADLINE[task]))
        tables.append(table)
    return tables


def beyond_tables(report: Report) -> list[Table]:
    """A table per task: how much of the catalogue each model shows, how evenly, how unfamiliar and how varied."""
    tables = []
    for task, found in report.tasks.items():
        if not found.beyond:
            continue
        first = next(iter(found.beyond.values()))
        table = _table(f"{task}: beyond accuracy, {first.lists:,} lists of {first.length}", "model")
        for name in ("coverage", "gini", "novelty, bits", "diversity", "artists"):
            table.add_column(name, justify="right")
        for model in _best_first(task, found):
            if model in found.beyond:
                b = found.beyond[model]
                artists = f"{b.artist_diversity.value:.3f}" if b.artist_diversity else "[dim]unknown[/]"
                table.add_row(
                    _name(model),
                    f"{b.coverage:.1%}",
                    f"{b.gini:.3f}",
                    f"{b.novelty.value:.2f}",
                    f"{b.intra_list_diversity.value:.3f}",
                    artists,
                )
        tables.append(table)
    return tables


def segment_tables(report: Report) -> list[Table]:
    """A table per task: ours and the best of the others in each segment, by the last headline metric."""
    tables = []
    for task, found in report.tasks.items():
        metric = HEADLINE[task][-1]
        if not found.segments or SEGUE not in found.models:
            continue
        rivals = [model for model in _best_first(task, found) if model != SEGUE][:1]
        table = _table(f"{task}: {metric} by segment", "segment")
        for name in ("cases", "listeners", SEGUE, *rivals):
            table.add_column(name, justify="right")
        for partition, segments in found.segments.items():
            table.add_row(f"[dim]{escape(partition)}[/]")
            for name, segment in segments.items():
                values = [
                    segment.models[m][metric] if m in segment.models else None for m in (SEGUE, *rivals)
                ]
                table.add_row(
                    f"  {escape(name)}",
                    f"{segment.cases:,}",
                    f"{segment.listeners:,}",
                    *("" if value is None else _cell(value) for value in values),
                )
            table.add_section()
        tables.append(table)
    return tables


def _best_first(task: str, found: TaskReport) -> list[str]:
    return sorted(found.models, key=lambda model: -found.models[model][HEADLINE[task][-1]].value)


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    return table


def _name(model: str) -> str:
    return f"[bold green]{model}[/]" if model == SEGUE else escape(model)


def _cell(measured: Measured) -> str:
    lo, hi = (f"{end:.3f}".removeprefix("0") for end in measured.ci95)
    return f"{measured.value:.4f} [dim]{lo}\N{EN DASH}{hi}[/]"
