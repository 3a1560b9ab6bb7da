"""`segue run`: from what landed to a published bundle. `segue step`: one step of that, as a scheduler calls it."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
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
    tell,
    working,
)
from segue.cli.costs import print_estimates, print_spent
from segue.cli.data import bring_along
from segue.contracts.errors import GateRefused, InvalidData, InvalidInput
from segue.contracts.ports import Days
from segue.contracts.tables import RAW_EVENTS
from segue.events.catalogue import land_catalogue
from segue.events.landing import LandReport, land, land_candidates, land_dead_letters, land_exposures
from segue.flows.ledger import Ledger
from segue.flows.lock import exclusive
from segue.flows.runner import StepProgress
from segue.flows.steps import BUILD, LAND, STEPS, listed
from segue.flows.verdicts import Verdict, verdicts
from segue.settings import DEFAULT_HOME
from segue.settings.tree import Warehouse
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.topics import prune

NAMES = ", ".join(step.name for step in STEPS)
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
        list[str] | None, typer.Option(help=f"Only this step, and the tables it reads: {NAMES}.")
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
    """All steps in the order they run, what each reads and writes, and behind which others it comes.

    Example: `segue step list --json`, for a scheduler that makes a task of each.

    Next: `segue step run NAME`.
    """
    if json:
        print_json(listed())
        return
    table = Table("step", "reads", "writes", "what it makes")
    for made in listed():
        table.add_row(made.step, ", ".join(made.reads), ", ".join(made.writes), made.doc)
    out.print(table)


@app.command("run")
def run_step(
    name: Annotated[str, typer.Argument(help=f"One of {LAND}, {NAMES}.")],
    first: Annotated[
        str | None,
        typer.Option("--from", help="First UTC day to build, YYYY-MM-DD, where not all are meant."),
    ] = None,
    day: Annotated[
        str | None,
        typer.Option(
            "--date",
            help="The last UTC day that the step sees, YYYY-MM-DD; it builds what is stale up to then, with --force that day.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Build also what is up to date.")] = False,
    alone: Annotated[
        bool, typer.Option(help="Land nothing, and take the tables it reads as they are.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for another process that writes this home.")
    ] = 0.0,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Run one step. What came in since is landed first, and the tables it reads are built where they are stale.

    Not so with `--alone`, for a scheduler that runs the steps in the order of `segue step list`. `publish` ends with exit
    status 3 as long as the newest bundle is one that the gate refused.

    Example: `segue step run daily-tracks --date 2026-11-20 --wait 600`; `segue step run land` for the landing alone.

    Next: the steps that read what it wrote, see `segue step list`.
    """
    with plain_errors():
        here = open_home(home, settings, config)
        if name == LAND:
            if first or day or force:
                raise InvalidInput(
                    f"{LAND} takes in all that came: leave out --from, --date and --force", field="step"
                )
            ran = _run_landing(here, wait)
        else:
            ran = run_flow(
                here,
                [name],
                days=days_between(first or day, day) if first or force else None,
                as_of=day_of("--date", day) if day else None,
                force=force,
                alone=alone,
                wait=wait,
            )
            if name == "publish" and ran.gate is None:
                ran = replace(ran, gate=_refusal(here))
    _end(ran, json, here.settings.warehouse)


def run_flow(
    home: Home,
    steps: Collection[str] | None = None,
    *,
    days: Days | None = None,
    as_of: date | None = None,
    force: bool = False,
    alone: bool = False,
    wait: float = 0.0,
    parallel: int = 1,
) -> Ran:
    """Land what the log holds, unless `alone`, then run the steps, a line each. Everything happens under the home's lock."""
    finished: list[StepProgress] = []
    judged: Verdict | None = None
    with working("flow") as at_hand:

        def say(step: str, what: str) -> None:
            at_hand(f"{step}: {what}")
            tell(step, what)

        first = (lambda: None) if alone else (lambda: _take_in(home))
        for progress in runner_of(home).run(
            steps,
            days,
            as_of=as_of,
            force=force,
            alone=alone,
            wait=wait,
            parallel=parallel,
            first=first,
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


def _run_landing(home: Home, wait: float) -> Ran:
    started = time.monotonic()
    with exclusive(home.root, f"step {LAND}", wait), working(LAND):
        bring_along(home)
        landed = _land(home)
    return Ran(
        [StepProgress(LAND, "done", written_rows=landed, seconds=time.monotonic() - started)], None, None
    )


def _take_in(home: Home) -> None:
    """Land. Raises InvalidData where there was never any event."""
    bring_along(home)
    _land(home)
    if home.engine.days(RAW_EVENTS) is None:
        raise InvalidData(
            "there are no events: `segue import` or `segue simulate` first, then `segue run`", field="events"
        )


def _land(home: Home) -> int:
    """Take in what servers logged. Returns the rows that were new."""
    ledger = Ledger(home.engine)
    landed = _told("catalogue", land_catalogue(home.log, home.engine, on_landed=ledger.record_landing))
    # Events last: what a response that landed had known of its listener has then landed too.
    for name, landing in (("exposures", land_exposures), ("candidates", land_candidates), ("events", land)):
        landed += _told(name, landing(home.log, home.engine, on_landed=ledger.record_landing))
    landed += _told("rejects", land_dead_letters(home.log, home.engine))
    forgotten = prune(home.log, home.settings, home.bundles)
    if forgotten:
        tell(
            "log", f"{forgotten:>12,} files removed, older than {home.settings.log.keep_days} days and landed"
        )
    return landed


def _refusal(home: Home) -> Verdict | None:
    """The verdict that keeps the newest bundle from being the champion, if there is one."""
    newest = next(iter(home.bundles.versions()), None)
    found = verdicts(home.engine).get(newest.version) if newest is not None else None
    if newest is None or found is None or found.passed or newest.version == home.bundles.current():
        return None
    _tell_verdict(newest.version, found)
    return found


def _told(name: str, report: LandReport) -> int:
    """Say what a landing did. Returns the rows that were new."""
    if report.read:
        rejected = sum(report.rejected.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.rejected.items()))
        tell(
            f"land {name}",
            f"{report.landed:>12,} landed   {report.duplicate:,} duplicate   {rejected:,} rejected"
            + (f" ({reasons})" if reasons else ""),
        )
    return report.landed


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
        tell(progress.step, f"{progress.state.replace('-', ' '):>12}")
    elif len(chunks := [chunk for chunk in finished if chunk.step == progress.step]) == progress.parts:
        rows, seconds = sum(c.written_rows for c in chunks), sum(c.seconds for c in chunks)
        tell(progress.step, f"{rows:>12,} rows {seconds:>8.1f} s")


def _tell_verdict(version: str, verdict: Verdict) -> None:
    if verdict.passed:
        tell("publish", f"{version}  gate passed: {verdict.reason}")
    else:
        refused = GateRefused(f"{version} is not published: {verdict.reason}")
        err.print(f"[red]gate[/]: {escape(refused.message)}", highlight=False, soft_wrap=True)


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
