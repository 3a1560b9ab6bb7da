"""`segue run`: from what landed to a published bundle."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer
from rich.markup import escape

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    err,
    open_home,
    out,
    plain_errors,
    print_json,
    working,
)
from segue.cli.tables import evaluation_tables
from segue.contracts.errors import GateRefused, InvalidInput
from segue.contracts.ports import Days
from segue.events.landing import land, land_candidates, land_exposures
from segue.flows.ledger import Ledger
from segue.flows.publish import Published, fill_state, train_and_publish
from segue.flows.runner import Runner, StepProgress
from segue.flows.steps import FLOW
from segue.settings import DEFAULT_HOME
from segue.wiring.home import Home

STEPS = ", ".join(step.name for step in FLOW)
DayOption = Annotated[
    str | None, typer.Option(help="UTC day, YYYY-MM-DD; limits the tables, not the training.")
]


def run(
    first: Annotated[str | None, typer.Option("--from", help="First UTC day to build, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day to build, YYYY-MM-DD.")] = None,
    step: Annotated[list[str] | None, typer.Option(help=f"Only this step of the tables: {STEPS}.")] = None,
    force: Annotated[bool, typer.Option(help="Build also what is up to date.")] = False,
    train: Annotated[bool, typer.Option(help="Train, judge and publish after the tables.")] = True,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Land the log, build the tables, train, judge against the champion, publish. Skips what is up to date.

    Killed half-way it goes on where it was. A challenger that the gate refuses is kept but not published (exit status 3).
    """
    with plain_errors():
        chosen = open_home(home, settings, config)
        steps = build_tables(chosen, step, _days(first, last), force)
        published = publish(chosen, force, with_baselines=False) if train and step is None else None
    if json:
        print_json(
            {
                "steps": steps,
                "bundle": published.manifest if published else None,
                "gate": published.verdict if published else None,
            }
        )
    if published is not None and published.verdict is not None and not published.verdict.passed:
        raise typer.Exit(3)


def build_tables(home: Home, steps: list[str] | None, days: Days | None, force: bool) -> list[StepProgress]:
    """Land what the log holds, then run the flow's steps, a line each."""
    ledger = Ledger(home.engine)
    for name, landing in (("events", land), ("exposures", land_exposures), ("candidates", land_candidates)):
        report = landing(home.log, home.engine, on_landed=ledger.record_landing)
        if report.read:
            rejected = sum(report.rejected.values())
            _tell(
                f"land {name}",
                f"{report.landed:>12,} landed   {report.duplicate:,} duplicate   {rejected:,} rejected",
            )
    runner = Runner(home.engine, home.settings, home.root, FLOW)
    finished: list[StepProgress] = []
    rows: dict[str, int] = {}
    seconds: dict[str, float] = {}
    with working("tables") as say:
        for progress in runner.run(steps, days, force=force):
            where = f" {progress.days.first}..{progress.days.last}" if progress.days else ""
            say(f"{progress.step}{where}")
            if progress.state == "running":
                continue
            finished.append(progress)
            rows[progress.step] = rows.get(progress.step, 0) + progress.written_rows
            seconds[progress.step] = seconds.get(progress.step, 0.0) + progress.seconds
            if progress.state == "up-to-date":
                _tell(progress.step, f"{'up to date':>12}")
            elif progress.state == "failed":
                _tell(progress.step, f"{'failed':>12}")
            elif progress.part == progress.parts:
                _tell(progress.step, f"{rows[progress.step]:>12,} rows {seconds[progress.step]:>8.1f} s")
    return finished


def publish(home: Home, force: bool, *, with_baselines: bool) -> Published:
    """Train, judge, publish, and bring listener state up to date."""
    with working("train") as at_hand:

        def say(what: str) -> None:
            at_hand(what)
            _tell("train", what)

        published = train_and_publish(
            home.engine, home.settings, home.bundles, say, force=force, with_baselines=with_baselines
        )
        say("listener state")
        count = fill_state(home.engine, home.settings, home.state)
        say(f"listener state of {count:,} listeners")
    if published.backtest is not None and with_baselines:
        for table in evaluation_tables(published.backtest.report()):
            out.print(table)
    if published.manifest is not None and published.verdict is not None:
        if published.verdict.passed:
            _tell("publish", f"{published.manifest.version}  gate passed: {published.verdict.reason}")
        else:
            refused = GateRefused(
                f"{published.manifest.version} is not published: {published.verdict.reason}"
            )
            err.print(f"[red]gate[/]: {escape(refused.message)}", highlight=False, soft_wrap=True)
    return published


def _tell(step: str, what: str) -> None:
    """A line on standard error, which leaves standard output to what --json prints."""
    err.print(f"  [cyan]{step:<18}[/] {escape(what)}", highlight=False, soft_wrap=True)


def _days(first: str | None, last: str | None) -> Days | None:
    if first is None and last is None:
        return None
    start = _day("--from", first) if first else date(1970, 1, 1)
    end = _day("--to", last) if last else date(9999, 12, 30)
    if start > end:
        raise InvalidInput(
            f"--from: {start} is later than --to, {end}", field="--from", limit=f"{end} or earlier"
        )
    return Days(start, end)


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: {text!r} is no date; write it as 2026-11-21", field=option) from error
