"""What a run will cost and what it did cost, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table

from segue.cli.console import out, print_json
from segue.contracts.ports import Days
from segue.flows.estimate import Basis, Estimate
from segue.flows.runner import StepProgress
from segue.flows.task import WHOLE
from segue.settings.tree import Warehouse

_MARKS: dict[Basis, str] = {"tables": "", "history": "~", "guess": "?"}
_LEGEND = "~ told from earlier runs; ? a guess, as there are no earlier runs"


def print_estimates(found: Sequence[Estimate], settings: Warehouse, json: bool) -> None:
    """A line a chunk, and the sum."""
    total = sum(one.read_bytes for one in found)
    if json:
        totals = {"read_bytes": total, "dollars": settings.dollars(total), "budget": settings.budget or None}
        print_json({"steps": found, "total": totals})
        return
    if not found:
        out.print("everything is up to date, as far as it has landed")
        return
    table = _costs(settings, Column("reads", max_width=44))
    for one in found:
        read, made = _MARKS[one.read_from], _MARKS[one.made_from]
        # Why: most inputs are of the chunk's own days, which the line says already.
        reads = ", ".join(
            name if days in (None, one.days) else f"{name} {said(days)}" for name, days in one.reads.items()
        )
        table.add_row(
            one.step,
            said(one.days),
            reads,
            f"{read}{one.read_rows:,}",
            f"{read}{size(one.read_bytes)}",
            "?" if one.rows is None else f"{made}{one.rows:,}",
            "?" if one.seconds is None else f"{made}{one.seconds:,.1f}",
            *_price(settings, one.read_bytes),
        )
    known = [one.seconds for one in found if one.seconds is not None]
    worst = max((_MARKS[one.read_from] for one in found), key=["", "~", "?"].index)
    table.add_section()
    table.add_row(
        "",
        "",
        "",
        "",
        f"{worst}{size(total)}",
        "",
        f"{sum(known):,.1f}" if known else "?",
        *_price(settings, total),
    )
    print_whole(table)
    out.print(
        f"{_LEGEND}. Bytes are the most that can be read where the engine cannot tell. Nothing was landed or written.",
        style="dim",
    )
    if 0 < settings.budget < total:
        out.print(f"[red]over warehouse.budget[/], {size(settings.budget)}: the run would be refused")


def print_spent(finished: Iterable[StepProgress], settings: Warehouse) -> None:
    """A line for each step that did something."""
    spent: dict[str, list[StepProgress]] = {}
    for progress in finished:
        if progress.state == "done":
            spent.setdefault(progress.step, []).append(progress)
    if not spent:
        return
    table = _costs(settings)
    for step, parts in spent.items():
        days = [part.days for part in parts if part.days is not None]
        read_bytes = sum(part.read_bytes for part in parts)
        table.add_row(
            step,
            said(Days(min(d.first for d in days), max(d.last for d in days))) if days else "",
            f"{sum(part.read_rows for part in parts):,}",
            size(read_bytes),
            f"{sum(part.written_rows for part in parts):,}",
            f"{sum(part.seconds for part in parts):,.1f}",
            *_price(settings, read_bytes),
        )
    print_whole(table)


def print_whole(table: Table) -> None:
    """Print a table whose numbers are not cut off: a narrow terminal wraps its lines instead."""
    needed = out.measure(table, options=out.options.update(max_width=1_000)).maximum
    Console(width=max(out.width, needed)).print(table)


def size(n: int | None) -> str:
    """Bytes, for people."""
    if n is None:
        return ""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n >= unit:
            return f"{n / unit:,.1f} {name}"
    return f"{n / 1e3:,.1f} kB"


def said(days: Days | None) -> str:
    """A range of days, for people; nothing of what has none."""
    if days is None or days.first == WHOLE:
        return ""
    return f"{days.first}" if days.first == days.last else f"{days.first}..{days.last}"


def _costs(settings: Warehouse, *more: Column) -> Table:
    numbers = [
        "rows read",
        "bytes read",
        "rows made",
        "seconds",
        *(["dollars"] if settings.dollars(1) else []),
    ]
    return Table(
        "step", Column("days", no_wrap=True), *more, *(Column(name, justify="right") for name in numbers)
    )


def _price(settings: Warehouse, read_bytes: int) -> list[str]:
    return [f"{settings.dollars(read_bytes):,.4f}"] if settings.dollars(1) else []
