"""`segue runs`: the ledger, for people: what ran, and what made a partition."""

from __future__ import annotations

from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_home,
    out,
    plain_errors,
    print_json,
)
from segue.cli.costs import print_whole, said, size
from segue.cli.flow import day_of
from segue.contracts.errors import NotFound
from segue.contracts.ports import Days
from segue.contracts.tables import TABLES
from segue.flows import history
from segue.flows.ledger import LANDING
from segue.flows.registry import chosen
from segue.flows.steps import STEPS
from segue.settings import DEFAULT_HOME


def runs(
    table: Annotated[str | None, typer.Argument(help="Only runs that wrote this table.")] = None,
    partition: Annotated[
        str | None,
        typer.Argument(metavar="[DAY]", help="What made this day of it, YYYY-MM-DD: code, settings, inputs."),
    ] = None,
    step: Annotated[
        str | None, typer.Option(help=f"Only runs of this step; landings are {LANDING!r}.")
    ] = None,
    day: Annotated[str | None, typer.Option(help="Only runs that wrote this UTC day, YYYY-MM-DD.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what ran, what it read and wrote, and what made a partition.

    Newest first, a line for each table that a run wrote. With a table and a day: what made that partition, down to the runs that
    had written what it was made from.

    Example: `segue runs --step events --last 5`; `segue runs daily_tracks 2026-11-20`

    Next: `segue runs INPUT DAY` for one of those inputs, `segue run --dry-run` for what is stale, `segue lineage`.
    """
    with plain_errors():
        if table is not None:
            _known(table)
        if step is not None and step != LANDING:
            chosen(STEPS, [step])
        engine = open_home(home, settings, config).engine
        if table is not None and (partition is not None or not _daily(table)):
            made = history.made(engine, table, day_of("DAY", partition) if partition is not None else None)
            print_json(made) if json else _print_made(table, made)
            return
        on = day_of("--day", day) if day is not None else None
        found = history.runs(engine, step=step, table=table, day=on, last=last)
    if json:
        print_json(found)
    else:
        _print_runs(found)


def _print_runs(found: list[history.Run]) -> None:
    numbers = (Column(name, justify="right") for name in ("rows read", "bytes read", "rows", "seconds"))
    shown = Table(
        Column("began, UTC", no_wrap=True), "step", "table", Column("days", no_wrap=True), *numbers, "engine"
    )
    for run in found:
        shown.add_row(
            _moment(run.started_at),
            run.step,
            run.table,
            _days(run.first, run.last),
            "" if run.read_rows is None else f"{run.read_rows:,}",
            size(run.read_bytes),
            f"{run.rows:,}",
            f"{run.seconds:,.1f}",
            run.engine or "",
        )
    print_whole(shown)


def _print_made(table: str, made: history.Made) -> None:
    run = made.run
    lines = {
        "rows": f"{made.rows:,}, written {'once' if made.times == 1 else f'{made.times:,} times'}",
        "run": f"{run.run}, began {_moment(run.started_at)} UTC, took {run.seconds:,.1f} s",
        "step": f"{run.step}{'' if made.version is None else f', version {made.version}'}, Segue {run.code}",
        "engine": run.engine or "not known: entered by an older version",
        "built with": _days(run.first, run.last) or "the whole table",
        "read": f"{run.read_rows or 0:,} rows, {size(run.read_bytes) or 'bytes not known'}",
        "settings": ", ".join(f"{name} = {value}" for name, value in made.settings.items()) or "none",
    }
    out.print(f"[bold]{table}[/] {made.day or ''}".rstrip(), highlight=False)
    for name, what in lines.items():
        out.print(f"  [cyan]{name:<12}[/] {escape(what)}", highlight=False, soft_wrap=True)
    for name, ranges in made.inputs.items():
        for first, last, by in ranges or [(None, None, "nobody who entered it: looked up as it stood")]:
            out.print(
                f"  [cyan]{'from':<12}[/] {name} {_days(first, last)}  by {by}",
                highlight=False,
                soft_wrap=True,
            )


def _known(table: str) -> None:
    written = dict.fromkeys([*TABLES, *(made.name for step in STEPS for made in step.writes)])
    if table not in written:
        near = get_close_matches(table, written, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(written)}"
        raise NotFound(f"there is no table {table!r}; {hint}", field="table", limit=", ".join(written))


def _daily(table: str) -> bool:
    return table in TABLES and TABLES[table].daily


def _days(first: date | None, last: date | None) -> str:
    return "" if first is None or last is None else said(Days(first, last))


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
