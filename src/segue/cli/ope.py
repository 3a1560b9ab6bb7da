"""`segue ope`: what another policy would have earned, estimated from the log of the one that ran."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
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
from segue.experiments.offpolicy.challenger import ChallengerReport
from segue.experiments.offpolicy.openbandit import LogReport, compare
from segue.settings import DEFAULT_HOME
from segue.wiring.challenger import SETTINGS, judge_policy


def ope(
    policy: Annotated[
        str | None,
        typer.Option(
            help=f"Judge this bundle, or `{SETTINGS}`: what would be trained and served now, from the home's exposures."
        ),
    ] = None,
    surface: Annotated[str, typer.Option(help="With --policy: the surface whose pages are judged.")] = "home",
    days: Annotated[int, typer.Option(min=1, help="With --policy: the last days of the log.")] = 7,
    pages: Annotated[
        int, typer.Option(min=10, help="With --policy: at most this many pages, spread over the days.")
    ] = 2_000,
    slots: Annotated[int, typer.Option(min=1, help="With --policy: the first slots of each page.")] = 10,
    log: Annotated[
        Path | None,
        typer.Option(help="Folder with two Parquet logs of one A/B test (Open Bandit Dataset's columns)."),
    ] = None,
    averaged: Annotated[
        bool,
        typer.Option(
            "--averaged/--logged",
            help="With --log: the log's propensities averaged over its period, by item and position, or as they are logged.",
        ),
    ] = True,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Estimate what a policy would have earned from the log of another, and say how far that can be trusted.

    With --policy, a bundle under the home's settings is judged by the pages that were shown: listens per page. With --log, each
    of two policies is judged from the other's log and held against what its own log shows.

    Example: `segue ope --policy 2026-11-20-4f1c2a9b`; `segue ope --policy settings --set surfaces.home.selector.diversity=0.3`;
    `segue ope --log data/open-bandit-all`

    Next: docs/concepts/off-policy.md says what each estimator assumes.
    """
    with plain_errors():
        if (log is None) == (policy is None):
            raise InvalidInput("say either --policy or --log: what is to be judged", field="policy")
        if log is not None:
            report = compare(log, averaged=averaged)
            if not json:
                _print_log(report)
        else:
            chosen = open_home(home, settings, config)
            logged = open_home(home, config=config).settings
            with working("ope") as say:
                judged = judge_policy(chosen, str(policy), surface, days, pages, slots, say, logged)
            if not json:
                _print_challenger(judged)
    if json:
        print_json(judged if log is None else report)


def _print_log(report: LogReport) -> None:
    for name, policy in report.policies.items():
        low, high = policy.truth_ci95
        table = _table(
            f"{name}: {policy.truth:.5f} [{low:.5f}, {high:.5f}] in its own log ({policy.clicks} clicks, {policy.rows:,} rows); "
            f"from the log of {policy.from_log} ({policy.from_clicks} clicks):",
            "off by",
        )
        for estimator, found in policy.estimates.items():
            off = f"{abs(found.value / policy.truth - 1):.0%}" if policy.truth else ""
            table.add_row(estimator, *_cells(found.value, found.ci95, found.ess, 5), off)
        out.print(table)


def _print_challenger(report: ChallengerReport) -> None:
    logged = report.logged
    table = _table(
        f"{report.policy} on {report.surface}, {date.fromisoformat(report.first)} to {report.last}: listens per page (first "
        f"{report.slots} slots); {report.pages:,} pages of {report.listeners:,} listeners",
        "to the log",
    )
    table.add_row("as logged", *_cells(logged.value, logged.ci95, logged.ess, 3), "")
    for estimator, found in report.estimates.items():
        lead = f"{found.value / logged.value - 1:+.0%}" if logged.value else ""
        table.add_row(estimator, *_cells(found.value, found.ci95, found.ess, 3), lead)
    out.print(table)
    for family, why in report.refused.items():
        out.print(f"[yellow]{family}[/]: no answer: {why}", highlight=False)


def _table(title: str, last: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("estimator", no_wrap=True)
    for column in ("value", "95% interval", "ess", last):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(value: float, ci95: tuple[float, float], ess: float, digits: int) -> tuple[str, str, str]:
    low, high = ci95
    return f"{value:.{digits}f}", f"{low:.{digits}f} .. {high:.{digits}f}", f"{ess:,.0f}"
