"""`segue`: one command per job, in the order a newcomer meets them."""

from __future__ import annotations

from typing import Annotated

import typer
from threadpoolctl import threadpool_limits

from segue import __version__
from segue.cli import bundles, data, demo, evaluation, flow, reference, serving, state

app = typer.Typer(
    name="segue",
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
    """Runs before every command."""
    # One thread per matrix product: requests are many and small, and our own kernels bring their own threads.
    threadpool_limits(limits=1)


app.command("import")(data.import_data)
app.command("simulate")(data.simulate)
app.command("run")(flow.run)
app.command("evaluate")(evaluation.evaluate)
app.command("benchmark")(evaluation.benchmark)
app.command("recommend")(serving.recommend)
app.command("serve")(serving.serve)
app.add_typer(bundles.app, name="bundle")
app.add_typer(state.app, name="state")
app.command("demo")(demo.demo)
app.command("docs", hidden=True)(reference.docs)
