"""`segue experiment`: which experiments there are, who is in them, and the switch that ends one."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from segue.cli import experiment_analysis
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
from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import Experiment
from segue.experiments.assignment import Split, place
from segue.experiments.definition import read_experiment, surfaces_of
from segue.experiments.store import Kept
from segue.settings import DEFAULT_HOME

app = typer.Typer(help="Start, stop and analyse experiments, plan the next.", no_args_is_help=True)
app.command("analyze")(experiment_analysis.analyze_table)
app.command("aa")(experiment_analysis.check_by_aa)
app.command("power")(experiment_analysis.plan)
NameArgument = Annotated[str, typer.Argument(help="Name, as `segue experiment list` prints it.")]
FilesArgument = Annotated[list[Path], typer.Argument(help="TOML files, one experiment each.")]


@app.command("list")
def list_experiments(json: JsonOption = False, home: HomeOption = DEFAULT_HOME) -> None:
    """All experiments of the home, and how they are today.

    Example: `segue experiment list`

    Next: `segue experiment show NAME`, `segue experiment stop NAME`.
    """
    with plain_errors():
        found, unreadable = open_home(home).experiments.all()
    for what in unreadable.values():
        err.print(f"[yellow]unreadable[/]: {escape(what)}", highlight=False, soft_wrap=True)
    if json:
        print_json({"experiments": [_shown(kept) for kept in found], "unreadable": unreadable})
        return
    table = Table("experiment", "status", "layer", "slice", "unit", "days", "variants")
    for kept in found:
        one = kept.experiment
        table.add_row(
            one.name,
            kept.status(_today()),
            one.layer,
            f"{one.offset:g} to {one.offset + one.share:g}",
            one.unit,
            f"{one.starts} to {one.ends}",
            ", ".join(f"{name} {variant.weight:g}" for name, variant in sorted(one.variants.items())),
        )
    out.print(table)


@app.command()
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """One experiment as the home keeps it.

    Example: `segue experiment show more-diverse-home`

    Next: `segue experiment assign NAME --unit 42` says who is in it.
    """
    with plain_errors():
        print_json(_shown(open_home(home).experiments.get(name)))


@app.command()
def check(
    files: FilesArgument,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Check files alone, together, and together with the experiments of the home. Nothing is changed.

    Example: `segue experiment check examples/experiments/mmr.toml`

    Next: `segue experiment put FILE` starts it on its day.
    """
    with plain_errors():
        chosen = open_home(home, settings, config)
        found = [read_experiment(path) for path in files]
        chosen.experiments.check(found)
    for one in found:
        where = ", ".join(surfaces_of(one, chosen.settings))
        out.print(
            f"{one.name}: {one.share:.1%} of layer {one.layer}, on {where}", highlight=False, soft_wrap=True
        )


@app.command()
def assign(
    experiment: Annotated[str, typer.Argument(help="A file, or the name of one in the home.")],
    unit: Annotated[
        list[str],
        typer.Option(help="A unit: a listener's id, LISTENER:SESSION, ...; may be given several times."),
    ],
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Which variant units get, by the file alone: dates, targeting and holdouts are not asked.

    Example: `segue experiment assign examples/experiments/mmr.toml --unit 42 --unit 43`

    Next: `segue recommend --user 42 --variants NAME:treatment` shows what a variant answers.
    """
    with plain_errors():
        path = Path(experiment)
        one = (
            read_experiment(path)
            if path.is_file()
            else open_home(home).experiments.get(experiment).experiment
        )
    split = Split.of(one)
    found = [{"unit": name, "place": place(one.layer, name), "variant": split.variant(name)} for name in unit]
    if json:
        print_json(found)
        return
    table = Table("unit", f"place in layer {one.layer}", "variant")
    for row in found:
        table.add_row(str(row["unit"]), f"{row['place']:,}", str(row["variant"] or "not in it"))
    out.print(table)


@app.command()
def put(
    files: FilesArgument,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Take files into the home, as they are. Running servers see them within a second.

    Example: `segue experiment put examples/experiments/mmr.toml`

    Next: `segue experiment list`; `segue experiment stop NAME` ends one at once.
    """
    with plain_errors():
        chosen = open_home(home, settings, config)
        for path in files:
            read_experiment(path)
            kept = chosen.experiments.put(path.read_text(encoding="utf-8"), str(path), _today())
            out.print(f"{kept.experiment.name}: {kept.status(_today())}")


@app.command()
def stop(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """End an experiment now and for good: within a second its units get what everybody gets.

    Example: `segue experiment stop more-diverse-home`

    Next: `segue experiment results NAME` says what came of it.
    """
    with plain_errors():
        open_home(home).experiments.stop(name, time.time_ns() // 1000)
    out.print(f"{name}: stopped")


@app.command()
def delete(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Take an experiment out of the home. What was logged of it stays.

    Example: `segue experiment delete more-diverse-home`

    Next: `segue experiment list`
    """
    with plain_errors():
        open_home(home).experiments.delete(name)
    out.print(f"{name}: deleted")


@app.command("results")
def show_results(
    name: NameArgument,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page with plots; it opens without a network.")
    ] = None,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """What came of an experiment so far, from what has landed: `segue run` first.

    Example: `segue experiment results more-diverse-home --report results.html`

    Next: docs/how-to/experiment-analyze.md says what each number means; `segue experiment stop NAME` ends it.
    """
    with plain_errors():
        from segue.experiments.credited import preferences
        from segue.experiments.report import render
        from segue.experiments.results import results
        from segue.wiring.simulated_home import as_of

        chosen = open_home(home, settings, config)
        kept = chosen.experiments.get(name)
        surfaces, now = surfaces_of(kept.experiment, chosen.settings), as_of(chosen)
        if kept.experiment.interleaved:
            if report is not None:
                raise InvalidInput(
                    "--report: an interleaving has no page; --json has all of it", field="report"
                )
            with working(f"results of {name}"):
                preferred = preferences(chosen.engine, kept, surfaces, now)
            print_json(preferred) if json else experiment_analysis.print_preferences(preferred)
            return
        with working(f"results of {name}"):
            found = results(chosen.engine, kept, surfaces, now)
        if report is not None:
            report.write_text(render(found.analysis, name), encoding="utf-8")
    if json:
        print_json(found)
        return
    out.print(f"{name}, {found.first} to {found.last}", highlight=False)
    experiment_analysis.print_analysis(found.analysis)
    for variant, one in found.creators.items():
        out.print(
            f"{variant}: {one.slots:,} slots on {one.artists:,} artists, Gini {one.gini:.3f}", highlight=False
        )
    if report is not None:
        err.print(f"report: {report}", highlight=False)


def _today() -> date:
    return datetime.now(UTC).date()


def _shown(kept: Kept) -> dict[str, Any]:
    """With defaults, which the file's own form leaves out."""
    values = {name: getattr(kept.experiment, name) for name in Experiment.__struct_fields__}
    shown: dict[str, Any] = msgspec.to_builtins(values)
    return {"status": kept.status(_today()), "stopped_at": kept.stopped_at} | shown
