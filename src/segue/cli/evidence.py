"""`segue evidence`: what is known of a challenger before anybody is served by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
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
    working,
)
from segue.contracts.errors import InvalidInput
from segue.experiments.ladder import RUNGS, Record
from segue.experiments.ladder_page import render
from segue.settings import DEFAULT_HOME
from segue.wiring.evidence import Evidence, gather, read_challenger
from segue.wiring.rungs import Ladder, Size

COLOURS = {"better": "green", "worse": "red", "unclear": "yellow"}
VERDICTS = {"ship to A/B": "green", "stop": "red", "not enough evidence": "yellow"}
USUAL = Size()


def evidence(
    challenger: Annotated[
        str,
        typer.Argument(help="A bundle's version, or a TOML file: an experiment, or settings of surfaces."),
    ],
    surface: Annotated[
        str | None, typer.Option(help="The surface judged, where more than one changes [home for a bundle].")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Of an experiment with several treatments: which.")
    ] = None,
    rung: Annotated[
        list[str] | None,
        typer.Option(help=f"Ask only these of {', '.join(RUNGS)}; may be given several times."),
    ] = None,
    past: Annotated[
        int, typer.Option(min=1, help="Last days of the past that offline and off-policy judge by.")
    ] = USUAL.past,
    requests: Annotated[
        int, typer.Option(min=10, help="Requests that are replayed offline.")
    ] = USUAL.requests,
    pages: Annotated[int, typer.Option(min=10, help="Logged pages replayed off-policy.")] = USUAL.pages,
    listeners: Annotated[int, typer.Option(min=2, help="Simulated listeners.")] = USUAL.listeners,
    days: Annotated[int, typer.Option(min=1, help="Simulated days.")] = USUAL.days,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation.")] = USUAL.seed,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page with plots; it opens without a network.")
    ] = None,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Ask every rung that applies what a challenger would do: offline test, off-policy, simulation, interleaving.

    Beside each stands how often it was right on challengers whose effect is known, and at the end whether to go on to an A/B
    test. A rung that cannot answer says why.

    Example: `segue evidence examples/experiments/mmr.toml --report evidence.html`

    Next: `segue experiment put FILE` starts the A/B test; docs/concepts/evidence.md says what each rung can and cannot tell.
    """
    with plain_errors():
        unknown = set(rung or ()) - set(RUNGS)
        if unknown:
            raise InvalidInput(
                f"--rung: {', '.join(sorted(unknown))} is none of {', '.join(RUNGS)}",
                field="rung",
                limit=", ".join(RUNGS),
            )
        opened = open_home(home, settings, config)
        judged = read_challenger(opened, challenger, surface, variant)
        size = msgspec.structs.replace(
            USUAL,
            past=past,
            requests=requests,
            pages=pages,
            listeners=listeners,
            days=days,
            duel_days=min(days, USUAL.duel_days),
            seed=seed,
        )
        with working(judged.name) as say:
            found = gather(
                Ladder(opened, size, say, logged=open_home(home, config=config).settings),
                judged,
                rung or RUNGS,
            )
        if report is not None:
            report.write_text(
                render(judged.name, found.predictions, found.silent, found.records, found.advice),
                encoding="utf-8",
            )
    if json:
        print_json(found)
        return
    _print(found)
    if report is not None:
        out.print(f"report: {report}")


def _print(found: Evidence) -> None:
    table = Table(
        Column("rung", no_wrap=True),
        "expects",
        Column("size", justify="right", no_wrap=True),
        Column("95% interval", justify="right", no_wrap=True),
        "of",
        "before, on known challengers",
        title=f"{found.challenger.name} on {found.challenger.surface}, against {found.champion}",
        title_justify="left",
    )
    for one in found.predictions:
        low, high = one.ci95
        table.add_row(
            one.rung,
            f"[{COLOURS[one.direction]}]{one.direction}[/]",
            f"{one.relative:+.1%}",
            f"{low:+.1%} .. {high:+.1%}",
            f"{one.metric}; {one.basis}",
            _past(found.records.get(one.rung)),
        )
    for silent in found.silent:
        table.add_row(silent.rung, "silent", "", "", "(why: below)", _past(found.records.get(silent.rung)))
    out.print(table)
    first, *rest = found.advice.reasons
    out.print(f"[{VERDICTS[found.advice.verdict]}]{found.advice.verdict}[/]: {escape(first)}", soft_wrap=True)
    for reason in rest:
        out.print(f"  {escape(reason)}", soft_wrap=True, highlight=False)


def _past(record: Record | None) -> str:
    if record is None:
        return "no record"
    right, of = record.signs
    worse, better = (f"{right}/{of}" for right, of in (record.worse, record.better))
    order = "" if record.rank is None else f", rank correlation {record.rank:+.2f}"
    return f"of clear effects sign right {right}/{of}, where sure of harm {worse}, of a gain {better}{order}"
