"""`segue`: one command per job, in the order a newcomer meets them."""

from __future__ import annotations

import typer
from threadpoolctl import threadpool_limits

from segue import __version__
from segue.cli import bundles, data, demo, evaluation, flow, reference, serving

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


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    """Runs before every command."""
    if version:
        typer.echo(f"segue {__version__}")
        raise typer.Exit
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
app.command("demo")(demo.demo)
app.command("docs", hidden=True)(reference.docs)
