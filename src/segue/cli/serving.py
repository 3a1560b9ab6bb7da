"""`segue serve`: answers over HTTP."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from segue.cli.console import ConfigOption, HomeOption, SetOption, err, open_home, plain_errors
from segue.serving.server import serve as serve_http
from segue.settings import DEFAULT_HOME
from segue.wiring.platform import open_platform


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default serving.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default serving.port.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default serving.workers.")] = None,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the API and the listener page until stopped. A newly published bundle is picked up by itself.

    Example: `segue serve --port 9000 --workers 4`

    Next: open `/` for the listener page, `/docs` for the API, `/metrics` for the numbers. Ctrl-C stops it.
    """
    changes = list(settings or ())
    for key, value in (("host", host), ("port", port), ("workers", workers)):
        if value is not None:
            changes.append(f"serving.{key}={value!r}".replace("'", '"'))
    serve_home(home, changes, config)


def serve_home(home: Path, changes: list[str], config: Path | None) -> None:
    """Serve; blocks until told to stop."""
    with plain_errors():
        chosen = open_home(home, changes, config)
        if chosen.settings.state.kind == "lmdb":
            chosen.state.close()  # opened once before the workers: a store that cannot be is one line here, a crash loop there
        make = partial(open_platform, home, config, dict(os.environ), tuple(changes))
        serve_http(
            make,
            chosen.settings,
            on_listening=lambda url: err.print(
                f"serving on [bold]{url}[/]  (API: {url}/docs)", soft_wrap=True
            ),
        )
