"""`segue run`: from what landed to a published bundle. `segue step`: one step of that, as a scheduler calls it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from segue.bundle import Manifest
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
from segue.cli.costs import print_estimates, print_spent
from segue.contracts.errors import GateRefused, InvalidData, InvalidInput
from segue.contracts.ports import Days
from segue.contracts.tables import RAW_EVENTS
from segue.events.catalogue import land_catalogue
from segue.events.landing import LandReport, land, land_candidates, land_dead_letters, land_exposures
from segue.flows.ledger import Ledger
from segue.flows.runner import StepProgress
from segue.flows.steps import BUILD, FLOW
from segue.flows.verdicts import Verdict, verdicts
from segue.settings import DEFAULT_HOME
from segue.settings.tree import Warehouse
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.topics import prune

STEPS = ", ".join(step.name for step in FLOW)
REFUSED = 3
"""Exit status where the gate refused the challenger."""
app = typer.Typer(help="List the steps of the flow, run one.", no_args_is_help=True)


@dataclass(frozen=True)
class Ran:
    """What a run did: a line per step and chunk, the bundle it made and the verdict it came to, if it did."""

    steps: list[StepProgress]
    bundle: Manifest | None
    gate: Verdict | None


def run(
    first: Annotated[
        str | None, typer.Option("--from", help="First UTC day of the tables to build, YYYY-MM-DD.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Last UTC day of the tables to build, YYYY-MM-DD.")
    ] = None,
    step: Annotated[
        list[str] | None, typer.Option(help=f"Only this step, and the tables it reads: {STEPS}.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Build also what is up to date.")] = False,
    train: Annotated[bool, typer.Option(help="Train, judge and publish after the tables.")] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be built and what that would cost; change nothing."),
    ] = False,
    parallel: Annotated[
        int,
        typer.Option(
            min=1, help="Chunks of a step's days built at once, each with its share of memory and threads."
        ),
    ] = 1,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Land the log, build the tables, train, judge against the champion, publish. Skips what is up to date.

    Killed half-way it goes on where it was. A challenger that the gate refuses is kept but not published (exit status 3). A run
    that would read more than `warehouse.budget` is refused before it builds anything.

    Example: `segue run`; `segue run --no-train` for the tables alone; `segue run --step listens --from 2026-11-01 --force` to
    build days again; `segue run --dry-run` to see what it would cost.

    Next: `segue runs` for what it cost, `segue evaluate`, `segue recommend`, `segue serve`; a server that runs already picks up
    the new bundle by itself.
    """
    with plain_errors():
        names = step or (None if train else [made.name for made in BUILD])
        chosen = open_home(home, settings, config)
        days = days_between(first, last)
        if dry_run:
            found = runner_of(chosen).estimate(names, days, force=force, parallel=parallel)
            print_estimates(found, chosen.settings.warehouse, json)
            return
        ran = run_flow(chosen, names, days=days, force=force, parallel=parallel)
    _end(ran, json, chosen.settings.warehouse)


@app.command("list")
def list_steps(json: JsonOption = False) -> None:
    """All steps in the order they run, what each reads and what it writes.

    Example: `segue step list --json`, for a scheduler that makes a task of each.

    Next: `segue step run NAME`.
    """
    if json:
        print_json(
            [
                {
                    "step": made.name,
                    "reads": [read.table.name for read in made.reads],
                    "writes": [table.name for table in made.writes],
                    "partition": made.partition,
                    "doc": made.doc,
                }
                for made in FLOW
            ]
        )
        return
    table = Table("step", "reads", "writes", "what it makes")
    for made in FLOW:
        reads = ", ".join(read.table.name for read in made.reads)
        table.add_row(made.name, reads, ", ".join(t.name for t in made.writes), made.doc)
    out.print(table)


@app.command("run")
def run_step(
    name: Annotated[str, typer.Argument(help=f"One of {STEPS}.")],
    day: Annotated[
        str | None,
        typer.Option(
            "--date",
            help="The last UTC day that the step sees, YYYY-MM-DD; it builds what is stale up to then, with --force that day.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Build also what is up to date.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for another process that writes this home.")
    ] = 0.0,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Run one step. What came in since is landed first, and the tables it reads are built where they are stale.

    Example: `segue step run daily-tracks --date 2026-11-20 --wait 600`

    Next: the steps that read what it wrote, see `segue step list`.
    """
    with plain_errors():
        until = day_of("--date", day) if day is not None else None
        chosen = open_home(home, settings, config)
        ran = run_flow(
            chosen,
            [name],
            days=Days(until, until) if until is not None and force else None,
            as_of=until,
            force=force,
            wait=wait,
        )
    _end(ran, json, chosen.settings.warehouse)


def run_flow(
    home: Home,
    steps: Collection[str] | None = None,
    *,
    days: Days | None = None,
    as_of: date | None = None,
    force: bool = False,
    wait: float = 0.0,
    parallel: int = 1,
) -> Ran:
    """Land what the log holds, then run the steps, a line each. Everything happens under the home's lock."""
    finished: list[StepProgress] = []
    judged: Verdict | None = None
    with working("flow") as at_hand:

        def say(step: str, what: str) -> None:
            at_hand(f"{step}: {what}")
            _tell(step, what)

        for progress in runner_of(home).run(
            steps,
            days,
            as_of=as_of,
            force=force,
            wait=wait,
            parallel=parallel,
            first=lambda: _land(home),
            say=say,
        ):
            where = f" {progress.days.first}..{progress.days.last}" if progress.days else ""
            at_hand(f"{progress.step}{where}")
            if progress.state == "running":
                continue
            finished.append(progress)
            if progress.step == "publish" and progress.written_rows:
                version, judged = list(verdicts(home.engine).items())[-1]
                _tell_verdict(version, judged)
            else:
                _tell_progress(progress, finished)
    trained = any(progress.step == "train" and progress.state == "done" for progress in finished)
    return Ran(finished, next(iter(home.bundles.versions()), None) if trained else None, judged)


def _land(home: Home) -> None:
    """Take in what servers logged. Raises InvalidData where there was never any event."""
    ledger = Ledger(home.engine)
    _tell_landed("catalogue", land_catalogue(home.log, home.engine, on_landed=ledger.record_landing))
    # Events last: what a response that landed had known of its listener has then landed too.
    for name, landing in (("exposures", land_exposures), ("candidates", land_candidates), ("events", land)):
        _tell_landed(name, landing(home.log, home.engine, on_landed=ledger.record_landing))
    _tell_landed("rejects", land_dead_letters(home.log, home.engine))
    forgotten = prune(home.log, home.settings, home.bundles)
    if forgotten:
        _tell(
            "log", f"{forgotten:>12,} files removed, older than {home.settings.log.keep_days} days and landed"
        )
    if home.engine.days(RAW_EVENTS) is None:
        raise InvalidData(
            "there are no events: `segue import` or `segue simulate` first, then `segue run`", field="events"
        )


def _tell_landed(name: str, report: LandReport) -> None:
    if report.read:
        rejected = sum(report.rejected.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.rejected.items()))
        _tell(
            f"land {name}",
            f"{report.landed:>12,} landed   {report.duplicate:,} duplicate   {rejected:,} rejected"
            + (f" ({reasons})" if reasons else ""),
        )


def _end(ran: Ran, json: bool, settings: Warehouse) -> None:
    if json:
        print_json({"steps": ran.steps, "bundle": ran.bundle, "gate": ran.gate})
    else:
        print_spent(ran.steps, settings)
    if ran.gate is not None and not ran.gate.passed:
        raise typer.Exit(REFUSED)


def _tell_progress(progress: StepProgress, finished: list[StepProgress]) -> None:
    """A line per step, behind its last chunk."""
    if progress.state != "done":
        _tell(progress.step, f"{progress.state.replace('-', ' '):>12}")
    elif len(chunks := [chunk for chunk in finished if chunk.step == progress.step]) == progress.parts:
        rows, seconds = sum(c.written_rows for c in chunks), sum(c.seconds for c in chunks)
        _tell(progress.step, f"{rows:>12,} rows {seconds:>8.1f} s")


def _tell_verdict(version: str, verdict: Verdict) -> None:
    if verdict.passed:
        _tell("publish", f"{version}  gate passed: {verdict.reason}")
    else:
        refused = GateRefused(f"{version} is not published: {verdict.reason}")
        err.print(f"[red]gate[/]: {escape(refused.message)}", highlight=False, soft_wrap=True)


def _tell(step: str, what: str) -> None:
    """A line on standard error, which leaves standard output to what --json prints."""
    err.print(f"  [cyan]{step:<18}[/] {escape(what)}", highlight=False, soft_wrap=True)


def days_between(first: str | None, last: str | None) -> Days | None:
    """The days from --from to --to, open where one is missing; None where both are. Raises InvalidInput."""
    if first is None and last is None:
        return None
    start = day_of("--from", first) if first else date(1970, 1, 1)
    end = day_of("--to", last) if last else date(9999, 12, 30)
    if start > end:
        raise InvalidInput(
            f"--from: {start} is later than --to, {end}", field="--from", limit=f"{end} or earlier"
        )
    return Days(start, end)


def day_of(option: str, text: str) -> date:
    """The day that an option names. Raises InvalidInput."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: {text!r} is no date; write it as 2026-11-21", field=option) from error
