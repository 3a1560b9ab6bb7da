"""`segue simulate`: a service that never existed, experiments on it, and what could happen to it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

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
from segue.cli.experiment_analysis import print_preferences
from segue.contracts.errors import InvalidInput
from segue.contracts.tables import RAW_EVENTS
from segue.settings import DEFAULT_HOME
from segue.simulation import SimulationConfig
from segue.wiring.home import Home
from segue.wiring.simulate import SimulationReport, simulate_into

if TYPE_CHECKING:
    from segue.wiring.simulated_experiment import SimulatedExperiment
    from segue.wiring.simulated_interleaving import SimulatedInterleaving

STANDARD = SimulationConfig()
SMALL = SimulationConfig(tracks=3_000, artists=500, listeners=1_500, days=30)
"""The service that an experiment makes where there is none."""
VISITORS = 200
"""Listeners who may come to a server on the day, unless it is said how many."""


def simulate(
    experiment: Annotated[
        Path | None,
        typer.Option(
            help="Run this experiment's file on the home's simulated listeners, who live on after its history."
        ),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Let something happen to the service; `list` lists what can.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Let the home's simulated listeners use this server of it for a day, over HTTP: http://127.0.0.1:8080."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="With --experiment: also write the analysis as a page that opens without a network."
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="With --experiment: keep the home that has lived it here, with the experiment, its log and tables."
        ),
    ] = None,
    tracks: Annotated[int | None, typer.Option(help=f"Tracks in the catalogue [{STANDARD.tracks}].")] = None,
    artists: Annotated[int | None, typer.Option(help=f"Artists [{STANDARD.artists}].")] = None,
    listeners: Annotated[
        int | None,
        typer.Option(help=f"Listeners [{STANDARD.listeners}]; of an experiment, how many take part [all]."),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(help=f"Days of history [{STANDARD.days}]; of an experiment [as its file says]."),
    ] = None,
    end: Annotated[str, typer.Option(help="Last day of history, YYYY-MM-DD.")] = STANDARD.end.isoformat(),
    seed: Annotated[int, typer.Option(help="The same seed gives the same service, event by event.")] = 1,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Make up a whole music service and its history; run experiments and scenarios on it.

    Catalogue, listeners, sessions, events and exposures go into the tables, the true preferences into HOME/truth, apart from
    everything a model may read. With --experiment, such a home's listeners live on for as long as the file says, answered by
    the home's recommender as their variant has it, and the analysis stands beside the truth: what everybody treated differs
    from everybody in control. An empty home gets a small service first.

    Example: `segue simulate --listeners 500 --tracks 2000 --artists 300 --days 20` takes seconds;
    `segue simulate --experiment examples/experiments/mmr.toml --report mmr.html` minutes.

    Next: `segue run`.
    """
    with plain_errors():
        if seed < 0:
            raise InvalidInput("--seed must not be negative", field="seed", limit=">= 0")
        opened = open_home(home, settings, config)
        after = [name for name in (experiment, scenario, against) if name is not None]
        if after:
            if len(after) > 1:
                raise InvalidInput("--experiment, --scenario, --against: give one of them", field="scenario")
            if tracks is not None or artists is not None:
                raise InvalidInput(
                    "--tracks and --artists are of a history, not of what follows it", field="tracks"
                )
            if experiment is not None:
                _experiment(opened, experiment, listeners, days, seed, report, into, json)
            elif scenario is not None:
                _scenario(opened, scenario, listeners, days, seed, json)
            else:
                _visit(opened, str(against), listeners or VISITORS, seed, json)
            return
        for name, given in (("report", report), ("into", into)):
            if given is not None:
                raise InvalidInput(f"--{name} goes with --experiment", field=name)
        size = SimulationConfig(
            **{
                name: getattr(STANDARD, name) if given is None else given
                for name, given in (
                    ("tracks", tracks),
                    ("artists", artists),
                    ("listeners", listeners),
                    ("days", days),
                )
            },
            end=_day(end),
            seed=seed,
        )
        made = run_simulation(opened, size)
    if json:
        print_json(made)
        return
    out.print(
        f"simulated {made.events:,} events and {made.exposures:,} exposures over {size.days} days: "
        f"{size.tracks:,} tracks, {size.artists:,} artists, {size.listeners:,} listeners ({made.seconds:.0f} s)"
    )
    out.print("next: [bold]segue run[/]")


def run_simulation(home: Home, size: SimulationConfig) -> SimulationReport:
    """Simulate with a progress bar on standard error."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        line = bar.add_task("simulating", total=size.days)
        return simulate_into(
            home, size, lambda day: bar.update(line, advance=1, description=f"simulating {day}")
        )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"--end: {text!r} is no date; write it as 2026-11-21", field="end") from error


def _experiment(
    home: Home,
    file: Path,
    listeners: int | None,
    days: int | None,
    seed: int,
    report: Path | None,
    into: Path | None,
    json: bool,
) -> None:
    from segue.experiments.definition import read_experiment
    from segue.wiring.simulated_experiment import page_of, simulate_experiment
    from segue.wiring.simulated_interleaving import SimulatedInterleaving, simulate_interleaving

    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise InvalidInput(f"--report: {report} is no file in an existing directory", field="report")
    read = read_experiment(file)
    if read.interleaved and report is not None:
        raise InvalidInput("--report: an interleaving has no page; --json has all of it", field="report")
    _made(home)
    with working(f"experiment {read.name}") as say:
        found = (simulate_interleaving if read.interleaved else simulate_experiment)(
            home,
            read,
            listeners=listeners,
            days=days,
            seed=seed,
            into=into,
            say=lambda what: say(f"experiment {read.name}: {what}"),
        )
    if into is not None:
        champion = home.bundles.current()
        err.print(
            f"kept: segue experiment results {read.name} --home {into}; segue ope --policy {champion} --home {into}",
            highlight=False,
            soft_wrap=True,
        )
    if isinstance(found, SimulatedInterleaving):
        print_json(found) if json else _print_interleaving(found)
        return
    if report is not None:
        report.write_text(page_of(found), encoding="utf-8")
        err.print(f"report: {report}", highlight=False, soft_wrap=True)
    if json:
        print_json(found)
        return
    _print_experiment(found)


def _print_interleaving(found: SimulatedInterleaving) -> None:
    from segue.experiments.metrics import CREDITED

    out.print(
        f"experiment {found.experiment}: {found.listeners:,} listeners were shown interleaved pages on "
        f"{', '.join(found.surfaces)} in {found.days} days (seed {found.seed}; {found.seconds:.0f} s)"
    )
    print_preferences(found.preferences)
    for variant, effects in found.truth.items():
        said = ", ".join(
            f"{goal} {one.relative:+.2%} (error {one.standard_error / abs(one.control):.2%})"
            for goal, one in effects.items()
            if goal in CREDITED and one.control
        )
        out.print(f"the truth, if everybody had {variant}: {said}", highlight=False)
    out.print(f"guarantees broken: {found.broken_guarantees}")


def _print_experiment(found: SimulatedExperiment) -> None:
    out.print(
        f"experiment {found.experiment}: {found.listeners:,} listeners met it on {', '.join(found.surfaces)} "
        f"in {found.days} days (seed {found.seed}; {found.seconds:.0f} s)"
    )
    table = Table(title="what the experiment says, and what is true", title_justify="left")
    several = len({one.variant for one in found.held}) > 1
    table.add_column("metric", no_wrap=True)
    for heading in ("control", "estimate", "95% interval", "truth", "its error"):
        table.add_column(heading, justify="right")
    for one in found.held:
        level = one.truth.control
        table.add_row(
            f"{one.metric}: {one.variant}" if several else one.metric,
            f"{level:.4g}",
            _relative(one.effect, level),
            "" if one.ci95 is None else " to ".join(_relative(edge, level) for edge in one.ci95),
            _relative(one.truth.effect, level),
            _relative(one.truth.standard_error, level).lstrip("+"),
        )
    out.print(table)
    inside = [one.covered for one in found.held if one.covered is not None]
    out.print(f"{sum(inside)} of {len(inside)} intervals hold the truth")
    shared = ", ".join(f"{name} {value:.3f}" for name, value in found.exposure_gini.items())
    out.print(f"Gini of what was shown, over tracks: {shared}; guarantees broken: {found.broken_guarantees}")
    out.print(f"[bold]{escape(found.analysis.decision.said)}[/]")
    for reason in (*found.analysis.decision.reasons, *found.analysis.warnings):
        out.print(f"  {escape(reason)}", highlight=False)


def _visit(home: Home, url: str, listeners: int, seed: int, json: bool) -> None:
    from segue.wiring.over_http import visit

    with working(f"listeners at {url}"):
        found = visit(home, url, listeners=listeners, seed=seed)
    if json:
        print_json(found)
        return
    out.print(
        f"{found.listeners:,} listeners made {found.requests:,} requests (bundle {found.bundle}) and played "
        f"{found.plays_of_slots:,} of {found.slots:,} slots; {found.accepted:,} of {found.events:,} events were accepted"
    )


def _scenario(home: Home, name: str, listeners: int | None, days: int | None, seed: int, json: bool) -> None:
    from segue.wiring.scenarios import SCENARIOS, Asked

    if name == "list":
        for known, one in SCENARIOS.items():
            out.print(f"[bold]{known}[/]  {one.words}")
        return
    chosen = SCENARIOS.get(name)
    if chosen is None:
        raise InvalidInput(
            f"--scenario: there is no {name!r}; there are {', '.join(SCENARIOS)}",
            field="scenario",
            limit=", ".join(SCENARIOS),
        )
    if not chosen.own_home:
        _made(home)
    with working(name) as say:
        found = chosen.run(Asked(home, listeners, days, seed, lambda what: say(f"{name}: {what}")))
    if json:
        print_json(found)
        return
    table = Table(title=f"{found.scenario}: {chosen.words}", title_justify="left")
    table.add_column("measured")
    table.add_column("value", justify="right")
    for what, value in found.measured.items():
        table.add_row(what, f"{value:.4g}")
    out.print(table)
    out.print(f"[bold]{escape(found.verdict)}[/] ({found.seconds:.0f} s)")


def _made(home: Home) -> None:
    """An empty home gets a small service with a published bundle."""
    if home.engine.days(RAW_EVENTS) is not None:
        return
    from segue.wiring.flow import runner_of

    err.print(
        f"{home.root} is empty: making a small service of {SMALL.listeners:,} listeners and {SMALL.days} days",
        highlight=False,
        soft_wrap=True,
    )
    run_simulation(home, SMALL)
    with working("flow") as say:
        for progress in runner_of(home).run(say=lambda step, what: say(f"{step}: {what}")):
            say(progress.step)


def _relative(value: float | None, level: float) -> str:
    return "" if value is None or not level else f"{value / level:+.2%}"
