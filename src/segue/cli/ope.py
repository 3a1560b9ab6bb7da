"""`segue ope`: what another policy would have earned, estimated from the log of the one that ran."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from segue.cli.console import JsonOption, out, plain_errors, print_json
from segue.contracts.errors import InvalidInput
from segue.experiments.offpolicy.estimate import Estimate
from segue.experiments.offpolicy.openbandit import LogReport, compare


def ope(
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
) -> None:
    """Estimate what a policy would have earned from the log of another, and say how far that can be trusted.

    With --log, each of two policies is judged from the other's log and held against what its own log shows.

    Example: `segue ope --log data/open-bandit-all`

    Next: docs/concepts/off-policy.md says what each estimator assumes.
    """
    with plain_errors():
        if log is None:
            raise InvalidInput("--log: say which log to estimate from", field="log")
        report = compare(log, averaged=averaged)
    if json:
        print_json(report)
        return
    _print(report)


def _print(report: LogReport) -> None:
    for name, policy in report.policies.items():
        low, high = policy.truth_ci95
        table = _table(
            f"{name}: {policy.truth:.5f} [{low:.5f}, {high:.5f}] in its own log ({policy.clicks} clicks, {policy.rows:,} rows); "
            f"from the log of {policy.from_log} ({policy.from_clicks} clicks):"
        )
        for estimator, found in policy.estimates.items():
            table.add_row(
                estimator,
                *_cells(found, 5),
                f"{abs(found.value / policy.truth - 1):.0%}" if policy.truth else "",
            )
        out.print(table)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("estimator", no_wrap=True)
    for column in ("value", "95% interval", "made by", "ess", "off by"):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(found: Estimate, digits: int) -> tuple[str, str, str, str]:
    low, high = found.ci95
    return (
        f"{found.value:.{digits}f}",
        f"{low:.{digits}f} .. {high:.{digits}f}",
        found.interval,
        f"{found.ess:,.0f}",
    )
