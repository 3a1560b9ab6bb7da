"""`segue evaluate` and `segue benchmark`: numbers beside honest baselines."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.table import Table

import segue
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
from segue.cli.tables import beyond_tables, evaluation_tables, segment_tables
from segue.contracts.errors import InvalidInput
from segue.evaluation import benchmark as published
from segue.evaluation.backtest import TASKS, backtest, load_split, sampled
from segue.evaluation.report import About, render
from segue.settings import DEFAULT_HOME


def evaluate(
    split: Annotated[
        str | None, typer.Option(help="Fit before this UTC day, judge from it on; default: a recent one.")
    ] = None,
    targets: Annotated[
        Literal["plays", "listens"],
        typer.Option(help="What counts as a hit: any play, or one of 30 s and more."),
    ] = "plays",
    max_cases: Annotated[
        int, typer.Option(help="At most this many requests per task, drawn at random; 0: all.")
    ] = 0,
    task: Annotated[list[str] | None, typer.Option(help=f"Only this task: {', '.join(TASKS)}.")] = None,
    baselines: Annotated[bool, typer.Option(help="Run the baselines beside.")] = True,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write a report with plots to this file; it opens without a network."),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Train as of a day and be judged on what came after: what would be served (`segue`) beside the baselines.

    Nothing is published. Intervals are over listeners: two models whose intervals overlap are not told apart.

    Example: `segue evaluate --max-cases 1000` for a first look; `segue evaluate --html report.html` for all of it with plots.

    Next: change a setting (`--set training.factors=64`) and compare; `segue run` to publish.
    """
    with plain_errors():
        chosen = open_home(home, settings, config)
        if html is not None and (html.is_dir() or not html.parent.is_dir()):
            raise InvalidInput(f"--html: {html} is no file in an existing directory", field="html")
        engine, history_days = chosen.trusted, chosen.settings.training.history_days
        divided = load_split(engine, _moment(split), history_days, listens_only=targets == "listens")
        if max_cases < 0:
            raise InvalidInput(
                f"--max-cases: {max_cases} must be 0 (all) or more", field="max_cases", limit="0 or more"
            )
        if max_cases:
            divided = sampled(divided, max_cases)
        with working("evaluate") as say:
            tested = backtest(
                engine,
                chosen.settings,
                divided,
                say,
                tasks=_tasks(task),
                with_baselines=baselines,
                factorizer=chosen.factorizer,
                advance=lambda name, done, total: say(f"segue on {name}: {done:,} of {total:,}"),
            )
        report = tested.report()
        if html is not None:
            about = About(
                created_at=time.time_ns() // 1_000,
                code=segue.__version__,
                settings=chosen.settings,
                fitted=tested.fitted,
                rankers={name: ranker.spec for name, ranker in tested.rankers.items()},
                serving=chosen.bundles.current(),
            )
            html.write_text(render(report, about), encoding="utf-8")
            err.print(f"report: {html}", highlight=False, soft_wrap=True)
    if json:
        print_json(report)
        return
    protocol = divided.protocol
    out.print(
        f"split {np.datetime64(protocol.split, 'us').astype('datetime64[s]')} ({protocol.chosen_by}): "
        f"{protocol.train_plays:,} plays of {protocol.train_listeners:,} listeners before it"
    )
    # What matters most comes last, where the terminal stands.
    for table in (*segment_tables(report), *beyond_tables(report), *evaluation_tables(report)):
        out.print(table)


def benchmark(
    dataset: Annotated[str, typer.Argument(help=f"Data set: {', '.join(published.DATASETS)}.")],
    path: Annotated[Path, typer.Argument(help="Directory with its files.")],
    json: JsonOption = False,
) -> None:
    """Our models on a published split, beside the published numbers. Nothing is tuned on its test part.

    Example: `segue benchmark gowalla-lightgcn data/gowalla-lightgcn`

    Next: docs/concepts/evaluation.md says what each split is.
    """
    with plain_errors(), working(dataset) as say:
        report = published.run(dataset, path, progress=lambda what: say(f"{dataset}: {what}"))
    if json:
        print_json(report)
        return
    metrics = [name for name in next(iter(report.models.values())) if name != "fit_seconds"]
    table = Table(title=dataset, title_justify="left")
    table.add_column("model")
    for name in metrics:
        table.add_column(name, justify="right")
    table.add_column("fit, s", justify="right")
    for model, values in report.models.items():
        table.add_row(model, *(f"{values[name]:.4f}" for name in metrics), f"{values['fit_seconds']:.1f}")
    for model, values in report.published.items():
        table.add_row(
            f"[dim]{model} (published)[/]",
            *(f"{values[name]:.4f}" if name in values else "" for name in metrics),
            "",
        )
    out.print(table)


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(np.datetime64(date.fromisoformat(text), "us").astype(np.int64))
    except ValueError as error:
        raise InvalidInput(f"--split: {text!r} is no date; write it as 2014-12-21", field="split") from error


def _tasks(names: list[str] | None) -> tuple[str, ...]:
    for name in names or ():
        if name not in TASKS:
            raise InvalidInput(
                f"--task: {name!r} is none of {', '.join(TASKS)}", field="task", limit=", ".join(TASKS)
            )
    return tuple(names) if names else TASKS
