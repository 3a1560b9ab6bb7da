"""`segue`: one command per job, in the order a newcomer meets them.

A command's module is imported when the command is called: `segue --help` or `segue bundle list` need neither the
warehouse nor a compiler. COMMANDS is the one place that says where a command is.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from threadpoolctl import threadpool_limits
from typer.core import TyperGroup

from segue import __version__

# Before any library with OpenMP is loaded: its idle threads must sleep, not spin. On a busy machine training takes many times
# as long otherwise.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Command(NamedTuple):
    """A command as `segue --help` shows it, and where it is: a function, or a Typer of commands below it."""

    module: str
    attribute: str
    help: str
    hidden: bool = False


COMMANDS: Final = {
    "import": Command("segue.cli.data", "import_data", "Import listening data."),
    "rejects": Command(
        "segue.cli.rejects", "rejects", "Show the rows that broke the contract when they came in."
    ),
    "simulate": Command(
        "segue.cli.simulate",
        "simulate",
        "Make up a whole music service and its history; run experiments and scenarios on it.",
    ),
    "run": Command(
        "segue.cli.flow", "run", "Land the log, build the tables, train, judge against the champion, publish."
    ),
    "step": Command("segue.cli.flow", "app", "List the steps of the flow, run one."),
    "runs": Command(
        "segue.cli.runs", "runs", "Show what ran, what it read and wrote, and what made a partition."
    ),
    "lineage": Command(
        "segue.cli.lineage",
        "lineage",
        "Show what a column is made from, and what a change of it would touch.",
    ),
    "migrate": Command(
        "segue.cli.migrate",
        "migrate",
        "Rewrite a table into its contract's schema, after a column was renamed, retyped or dropped.",
    ),
    "quality": Command("segue.cli.quality", "app", "How the tables stand against what is usual."),
    "sql": Command("segue.cli.engines", "sql", "Print the SQL that makes a table, on any engine."),
    "compare-engines": Command(
        "segue.cli.engines",
        "compare",
        "Build the flow's tables on several engines and compare them row by row.",
    ),
    "erase": Command(
        "segue.cli.erase", "erase", "Erase listeners: their rows, the files that held them, their state."
    ),
    "evaluate": Command(
        "segue.cli.evaluation", "evaluate", "Train as of a day and be judged on what came after."
    ),
    "benchmark": Command(
        "segue.cli.evaluation", "benchmark", "Our models on a published split, beside the published numbers."
    ),
    "ope": Command(
        "segue.cli.ope",
        "ope",
        "Estimate what a policy would have earned from the log of another, and say how far that can be trusted.",
    ),
    "experiment": Command(
        "segue.cli.experiment", "app", "Start, stop and analyse experiments, plan the next."
    ),
    "artists": Command("segue.cli.artists", "app", "What new uploads got, for their artists."),
    "evidence": Command(
        "segue.cli.evidence",
        "evidence",
        "Ask every rung that applies what a challenger would do: offline test, off-policy, simulation, interleaving.",
    ),
    "recommend": Command(
        "segue.cli.recommend", "recommend", "Answer one request from the published bundle, in this process."
    ),
    "serve": Command("segue.cli.serving", "serve", "Serve the API and the listener page until stopped."),
    "load": Command(
        "segue.cli.load", "load", "Put open-loop load on a server, and report latencies and errors."
    ),
    "key": Command("segue.cli.key", "key", "Make a key, and the lines for the settings file that let it in."),
    "bundle": Command("segue.cli.bundles", "app", "List, show, publish and roll back bundles."),
    "features": Command(
        "segue.cli.features", "app", "Whether serving and training compute the same features."
    ),
    "state": Command("segue.cli.state", "app", "Make the store that listener state lives in."),
    "log": Command("segue.cli.log", "app", "Make the log that events and exposures go through."),
    "demo": Command(
        "segue.cli.demo",
        "demo",
        "Simulate a music service (or import real data), run the flow, evaluate, publish and serve.",
    ),
    "docs": Command("segue.cli.reference", "docs", "Write the generated reference pages.", hidden=True),
}


def load(name: str) -> Any:
    """The command of that name, ready to be called; imports its module."""
    command = COMMANDS[name]
    found = getattr(import_module(command.module), command.attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


class Commands(TyperGroup):
    """The group of all commands: it is listed from the table, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in the place of its line in the table. Raises a usage error for an unknown one."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else load(name), rest


app = typer.Typer(
    name="segue",
    cls=Commands,
    help=(
        "The recommendations platform of a music streaming service.\n\n"
        "Start with `segue simulate` or `segue import`, then `segue run`, `segue evaluate`, `segue serve`. "
        "Everything lives in one directory: --home, or SEGUE_HOME."
    ),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segue {__version__}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Runs before every command, when its module is imported."""
    # One thread per matrix product: requests are many and small, and our own kernels bring their own threads.
    threadpool_limits(limits=1)


def _listed() -> None:
    """Stands for a command until it is called."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help, hidden=_command.hidden)(_listed)
