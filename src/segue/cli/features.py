"""`segue features skew`: whether serving and training compute the same features."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

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
from segue.contracts.errors import NotFound
from segue.contracts.ports import Days
from segue.contracts.tables import EXPOSURES
from segue.monitoring.skew import CAUSES, FeatureSkew, SkewReport, skew
from segue.settings import DEFAULT_HOME

app = typer.Typer(help="Whether serving and training compute the same features.", no_args_is_help=True)
EXAMPLES = 5
"""Features whose example is printed with its request and track; `--json` has them all."""
WIDTH = 118
"""Columns the table needs."""
SKEWED = 3
"""Exit status where more values differ without a cause than allowed."""


@app.callback()
def _group() -> None:
    """Keeps `skew` a word of its own, as long as it is alone."""


@app.command("skew")
def report_skew(
    days: Annotated[
        int, typer.Option(min=1, help="How many of the last days with exposures to compare.")
    ] = 7,
    allow: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of a feature's values that may differ without a cause before the exit status is 3.",
        ),
    ] = 0.0,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Hold the feature vectors logged while serving against the same features recomputed from the warehouse.

    Run it behind `segue run`, which lands what servers logged. What only the request pipeline knows of a candidate is left out.

    Example: `segue features skew --days 2`

    Next: docs/how-to/skew.md says what each cause means and what to do about it.
    """
    with plain_errors(), working("skew"):
        chosen = open_home(home, settings, config)
        logged = chosen.engine.days(EXPOSURES)
        if logged is None:
            raise NotFound(
                "there are no exposures: answer some requests, then `segue run`", field="exposures"
            )
        first = max(logged.first, logged.last - timedelta(days=days - 1))
        report = skew(chosen.engine, chosen.bundles, chosen.settings, Days(first, logged.last))
    if json:
        print_json(report)
    else:
        _print(report)
    if report.worst > allow:
        bad = [f.feature for f in report.features if f.unexplained > allow * f.compared]
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        err.print(
            f"[red]skew[/]: {', '.join(bad[:5])}{more} differ without a cause, in up to {report.worst:.2%} of the values",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(SKEWED)


def _print(report: SkewReport) -> None:
    differing = [f for f in report.features if f.unequal]
    if differing:
        # Numbers that are cut off are none: a narrow terminal wraps the lines instead.
        Console(width=max(out.width, WIDTH)).print(_table(differing))
        for cause in dict.fromkeys(cause for f in differing for cause in f.causes):
            out.print(f"  [dim]{cause}[/]: {CAUSES[cause]}", highlight=False, soft_wrap=True)
    for f in differing[:EXAMPLES]:
        if (e := f.example) is not None:
            said = f"request {e.request_id}, track {e.track_id}, {e.surface}, bundle {escape(e.bundle)}: {e.cause}"
            out.print(f"  {f.feature}: {said}", highlight=False, soft_wrap=True)
    said = (
        f"{report.first} to {report.last}: {report.vectors:,} vectors of {report.requests:,} requests; "
        f"{len(report.features) - len(differing)} of {len(report.features)} features equal in every value"
    )
    if report.not_compared:
        said += f"; {len(report.not_compared)} left out that only the request pipeline knows"
    out.print(said, highlight=False, soft_wrap=True)
    for reason, count in report.left_out.items():
        out.print(
            f"[yellow]left out[/]: {count:,} vectors: {escape(reason)}", highlight=False, soft_wrap=True
        )


def _table(features: list[FeatureSkew]) -> Table:
    numbers = ("unequal", "unexplained", "logged", "recomputed", "largest")
    table = Table(
        Column("feature", no_wrap=True), *(Column(name, justify="right") for name in numbers), "causes"
    )
    for f in features:
        assert f.example is not None
        bad = f"[red]{f.unexplained / f.compared:.2%}[/]" if f.unexplained else "0"
        values = (f"{value:.5g}" for value in (f.example.logged, f.example.recomputed, f.largest))
        often = sorted(f.causes.items(), key=lambda cause: -cause[1])
        causes = ", ".join(f"{cause} {count / f.unequal:.0%}" for cause, count in often)
        table.add_row(f.feature, f"{f.unequal / f.compared:.2%}", bad, *values, causes)
    return table
