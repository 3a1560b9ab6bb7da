"""`segue quality`: how the tables stand against what is usual, what stopped the flow, and how good these checks are."""

from __future__ import annotations

from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_home,
    out,
    plain_errors,
    print_json,
    working,
)
from segue.contracts.errors import InvalidInput
from segue.contracts.tables import TABLES
from segue.flows.lock import exclusive
from segue.flows.rehearsal import Rehearsed
from segue.monitoring.quality import Line, State, Watched, page, state
from segue.settings import DEFAULT_HOME
from segue.simulation.faults import CHANGES, FAULTS, Happening
from segue.warehouse import incidents
from segue.wiring.rehearsal import growing_service, rehearse

ALL = "all"
SHOULD = {"stop": "stop", "tell": "be told", "pass": "go on"}
FARTHEST = 8
"""Parts that are shown of a table unless it is asked for alone."""
NOT_AS_EXPECTED = 1
"""Exit status where a fault was not found, or a change stopped something."""
app = typer.Typer(help="How the tables stand against what is usual.", invoke_without_command=True)


@app.callback()
def quality(
    context: typer.Context,
    table: Annotated[
        str | None, typer.Option(help="Only this table, with every part of its measures.")
    ] = None,
    day: Annotated[
        str | None, typer.Option("--date", help="As of this UTC day; default: the newest.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots instead.")] = None,
    inject: Annotated[
        str | None,
        typer.Option(help="Rehearse on a simulated service: `all`, or the name of a fault or change."),
    ] = None,
    days: Annotated[int, typer.Option(min=45, max=366, help="With --inject: days of that service.")] = 90,
    seed: Annotated[int, typer.Option(min=0, help="With --inject: which service it is.")] = 1,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Show how the tables stand against what is usual, and what stopped the flow.

    `--inject` tells how good that is: how many false alarms there are on quiet days, and which faults are found.

    Example: `segue quality --html quality.html`; `segue quality --inject all`

    Next: `segue quality accept INCIDENT`, if what stopped the flow is right after all.
    """
    if context.invoked_subcommand is not None:
        return
    with plain_errors():
        if inject is not None:
            chosen = _happenings(inject)
            found = None
            with working("rehearsal") as at_hand:
                rehearsed = rehearse(
                    open_home(home, settings, config).settings, growing_service(days, seed), chosen, at_hand
                )
        else:
            found = state(open_home(home, settings, config).engine, _day(day), _known_table(table))
            if html is not None:
                html.write_text(page(found), encoding="utf-8")
    if found is None:
        print_json(rehearsed) if json else _print_rehearsal(rehearsed)
        if not all(one.as_expected for one in rehearsed.found):
            raise typer.Exit(NOT_AS_EXPECTED)
    elif json:
        print_json(found)
    elif html is not None:
        out.print(html)
    else:
        _print_state(found, whole=table is not None)


@app.command()
def accept(
    incident: Annotated[str, typer.Argument(help="Its name, such as events-2026-11-20-3f9a.")],
    why: Annotated[str, typer.Option(help="Why it is right, for whoever comes later.")] = "no reason given",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for another process that writes this home.")
    ] = 0.0,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Accept what stopped the flow: it passes from now on, for its day and its measures, and for what follows from it.

    Example: `segue quality accept events-2026-11-20-3f9a --why "the speakers' client was withdrawn"`

    Next: `segue run` goes on from there.
    """
    with plain_errors():
        opened = open_home(home, settings, config)
        with exclusive(opened.root, "quality accept", wait):
            found = incidents.accept(opened.engine, incident, why)
    if json:
        print_json(found)
    else:
        out.print(
            f"accepted {found.name}: {len(found.findings)} findings of {found.table}, {found.day}",
            highlight=False,
        )
        out.print("next: [bold]segue run[/]")


@app.command("set-aside")
def set_aside(
    day: Annotated[str, typer.Argument(help="The UTC day, YYYY-MM-DD.")],
    why: Annotated[str, typer.Option(help="What is wrong with it, for whoever comes later.")],
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for another process that writes this home.")
    ] = 0.0,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Leave a day out of training, of what bundles count and of listener state: one that was flooded, say.

    Its tables stay as they are. What stopped the flow is left out anyway, until it is mended or accepted.

    Example: `segue quality set-aside 2026-11-20 --why "bots played one artist all day"`

    Next: `segue run` trains without it; `segue quality accept aside-2026-11-20` takes it back in.
    """
    with plain_errors():
        opened = open_home(home, settings, config)
        chosen = _date(day, "day")
        with exclusive(opened.root, "quality set-aside", wait):
            found = incidents.set_aside(opened.engine, chosen, why)
    if json:
        print_json(found)
    else:
        out.print(f"set aside {chosen}, as {found.name}", highlight=False)
        out.print("next: [bold]segue run[/]")


def _print_state(found: State, whole: bool) -> None:
    for incident in found.incidents:
        colour = "red" if incident.status == "open" else "green"
        out.print(
            f"[{colour}]{incident.status}[/] [bold]{incident.name}[/]  {escape(incident.findings[0].said)}",
            highlight=False,
        )
    if not found.tables:
        out.print("no table has been counted yet: that begins at 300 rows a day, with the next `segue run`")
    for table in found.tables:
        _print_table(table, whole)
    if days := sorted(incidents.aside(found.incidents)):
        out.print(
            f"left out of training and of what bundles count, until mended or accepted: {', '.join(map(str, days))}",
            highlight=False,
            soft_wrap=True,
        )
    left = [incident for incident in found.incidents if incident.status == "open" and incident.step]
    if left:
        out.print(f"next: read HOME/incidents/{left[0].name}.md", highlight=False)


def _print_table(found: Watched, whole: bool) -> None:
    rows, *others = found.lines
    shown = others if whole else sorted(others, key=_nearness)[:FARTHEST]
    title = f"{found.table}, {found.days[0]} to {found.days[-1]}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("measure")
    table.add_column("days")
    for name in ("last", "usual from", "to", "deviations"):
        table.add_column(name, justify="right")
    for line in [rows, *shown]:
        _add(table, line)
    out.print(table)
    if len(shown) < len(others):
        out.print(
            f"  {len(others) - len(shown)} more parts, all nearer to the usual: `segue quality --table {found.table}`"
        )
    for finding in found.told[:FARTHEST]:
        colour = "red" if finding.severity == "breach" else "yellow"
        out.print(f"  [{colour}]{finding.severity}[/] {escape(finding.said)}", highlight=False)
    out.print()


def _nearness(line: Line) -> tuple[bool, float]:
    """What is unusual comes first; behind it what is farthest, of what is there every day."""
    return line.severity is None, -abs(line.far) if min(line.rows) else 0.0


def _add(table: Table, line: Line) -> None:
    low, high = line.low[-1], line.high[-1]
    colour = {"breach": "red", "warn": "yellow", None: "default"}[line.severity]
    table.add_row(
        escape(line.title),
        _sparkline(line.rows),
        f"[{colour}]{line.rows[-1]:,}[/]",
        "" if low is None else f"{low:,.0f}",
        "" if high is None else f"{high:,.0f}",
        "" if low is None else f"{line.far:+.1f}",
    )


def _sparkline(rows: list[int]) -> str:
    """The days as bars; the highest is the most."""
    top = max(*rows, 1)
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * n // top)] for n in rows)


def _print_rehearsal(found: Rehearsed) -> None:
    alarms = found.alarms
    out.print(
        f"a simulated service, {found.days} days of {found.events_a_day:,.0f} events; {alarms.days} of them are held against"
        f" those before\n\nnothing happened: the flow stopped on {alarms.stopped} of {alarms.days} days"
        f" ({_interval(alarms.stopped_ci95)}), {alarms.stopped_tables} of {alarms.tables} days of tables; something was told on"
        f" {alarms.told} days ({_interval(alarms.told_ci95)}), {alarms.told_tables} of {alarms.tables} days of tables\n",
        highlight=False,
    )
    table = Table("what happened", "", "should", "on its first day", "stopped", "days", "told first by")
    for one in found.found:
        colour = "green" if one.as_expected else "red"
        table.add_row(
            one.name,
            one.doc,
            SHOULD[one.expected],
            f"[{colour}]{one.at_once}/{one.times}[/]",
            f"{one.stopped}/{one.times}",
            "" if one.days is None else f"{one.days:.1f}",
            escape(", ".join(one.by)),
        )
    out.print(table)


def _interval(share: tuple[float, float]) -> str:
    return f"95%: {share[0]:.1%} to {share[1]:.1%}"


def _happenings(name: str) -> list[Happening]:
    known = FAULTS | CHANGES
    if name == ALL:
        return list(known.values())
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join([ALL, *known])}"
        raise InvalidInput(
            f"--inject: nothing is called {name!r}; {hint}",
            field="--inject",
            limit=", ".join([ALL, *known]),
        )
    return [known[name]]


def _known_table(name: str | None) -> str | None:
    known = [table.name for table in TABLES.values() if table.daily and table.derived]
    if name is not None and name not in known:
        raise InvalidInput(
            f"--table: {name!r} is not watched; known: {', '.join(known)}",
            field="--table",
            limit=", ".join(known),
        )
    return name


def _day(text: str | None) -> date | None:
    return None if text is None else _date(text, "--date")


def _date(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{field}: {text!r} is no date; write it as 2026-11-21", field=field) from error
