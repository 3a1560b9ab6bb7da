"""`segue state`: the store that listener state lives in."""

from __future__ import annotations

import typer

from segue.cli.console import ConfigOption, HomeOption, SetOption, open_home, out, plain_errors
from segue.settings import DEFAULT_HOME

app = typer.Typer(help="Make the store that listener state lives in.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `create` a word of its own, as long as it is alone."""


@app.command()
def create(home: HomeOption = DEFAULT_HOME, settings: SetOption = None, config: ConfigOption = None) -> None:
    """Make what the store needs before first use, such as its table; what is there stays as it is.

    Example: `segue state create --set state.kind=dynamodb`

    Next: `segue run --step state` fills it from the tables.
    """
    with plain_errors():
        opened = open_home(home, settings, config)
        opened.state.create()
        opened.state.close()
    out.print(f"{opened.settings.state.kind}: ready; `segue run` fills it")
