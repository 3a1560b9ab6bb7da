"""`segue docs`: the reference pages that are generated from the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segue.cli.console import out, plain_errors
from segue.wiring.reference import pages


def docs(folder: Annotated[Path, typer.Argument(help="Where to write the pages.")]) -> None:
    """Write the generated reference pages."""
    with plain_errors():
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages().items():
            (folder / name).write_text(text, encoding="utf-8")
            out.print(folder / name)
