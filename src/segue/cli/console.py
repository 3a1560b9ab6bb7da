"""What all commands share: where the home is, how settings are changed, how errors and JSON are printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from segue.contracts.errors import SegueError
from segue.settings import DEFAULT_HOME
from segue.wiring.home import Home

out = Console()
err = Console(stderr=True)

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="SEGUE_HOME", help="Directory that holds tables, bundles, logs and state."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting for this run; may be given several times."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="SEGUE_CONFIG", help="Settings file instead of HOME/segue.toml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def open_home(
    home: Path = DEFAULT_HOME, settings: list[str] | None = None, config: Path | None = None
) -> Home:
    """The home a command works on."""
    return Home.open(home, config=config, environ=dict(os.environ), overrides=settings or ())


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is at hand, changed by calling it; only where somebody is looking at a terminal."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        line = bar.add_task(what)
        yield lambda now: bar.update(line, description=now)


def tell(step: str, what: str) -> None:
    """A line on standard error, which leaves standard output to what --json prints."""
    err.print(f"  [cyan]{step:<18}[/] {escape(what)}", highlight=False, soft_wrap=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of ours become one line on standard error and exit status 2; anything else is a bug and shows its trace."""
    try:
        yield
    except SegueError as error:
        _say(error.message)
        raise typer.Exit(2) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}")
        raise typer.Exit(2) from error


def _say(message: str) -> None:
    err.print(f"[red]error[/]: {escape(' '.join(message.split()))}", highlight=False, soft_wrap=True)
