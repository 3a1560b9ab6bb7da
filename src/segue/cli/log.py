"""`segue log`: where events and exposures go through."""

from __future__ import annotations

import typer

from segue.cli.console import ConfigOption, HomeOption, SetOption, open_home, out, plain_errors
from segue.settings import DEFAULT_HOME
from segue.wiring.topics import readers

app = typer.Typer(help="Make the log that events and exposures go through.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `create` a word of its own, as long as it is alone."""


@app.command()
def create(home: HomeOption = DEFAULT_HOME, settings: SetOption = None, config: ConfigOption = None) -> None:
    """Make the topics and subscriptions that the log needs before first use; what is there stays as it is.

    Example: `segue log create --set log.kind=kafka`

    Next: `segue serve` takes events in, `segue run` lands them.
    """
    with plain_errors():
        opened = open_home(home, settings, config)
        topics = readers(opened.settings)
        opened.log.create(topics)
        opened.log.close()
    out.print(f"{opened.settings.log.kind}: ready; topics {', '.join(topics)}")
