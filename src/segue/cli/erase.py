"""`segue erase`: forget a listener, everywhere and for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_home,
    out,
    plain_errors,
    print_json,
    working,
)
from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID, named_id
from segue.flows.erasure import erase as erase_listeners
from segue.flows.lock import exclusive
from segue.settings import DEFAULT_HOME
from segue.wiring.moving import in_files

QUEUE = "erase.txt"
"""Below the home: listeners to be erased, one a line. It may grow and stay: who is erased is found erased."""


def erase(
    users: Annotated[
        list[str] | None, typer.Argument(help="Listeners: ids, or SOURCE:ID where ids are text.")
    ] = None,
    queued: Annotated[
        bool, typer.Option("--queued", help=f"Also those in HOME/{QUEUE}, one a line.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for another process that writes this home.")
    ] = 0.0,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Erase listeners: their rows, the files that held them, their state. Nothing of theirs will land again.

    An id that was erased cannot be used again. docs/how-to/erase.md says what is left, and for how long.

    Example: `segue erase 42 my-service:ana`; `segue erase --queued` as a scheduler calls it.

    Next: `segue run`, for counts and models without them.
    """
    with plain_errors():
        here = open_home(home, settings, config)
        ids = [_listener("user", text) for text in users or ()]
        unreadable: list[str] = []
        if queued:
            waiting, unreadable = _queue(here.root / QUEUE)
            ids += waiting
        elif not ids:
            raise InvalidInput("whom? give listeners, or --queued", field="users")
        removed: dict[str, int] = {}
        if ids:
            with exclusive(here.root, "erase", wait), working("erase") as at_hand:
                for where in (here, in_files(here)):
                    if where is not None:
                        counts = erase_listeners(
                            where.engine, here.state, here.root, ids, lambda table: at_hand(f"erase: {table}")
                        )
                        removed = {table: removed.get(table, 0) + n for table, n in counts.items()}
        if json:
            print_json({"listeners": len(set(ids)), "removed": removed})
        else:
            shown = Table("table", "rows removed", title=f"{len(set(ids)):,} listeners", title_justify="left")
            for name, n in removed.items():
                shown.add_row(name, f"{n:,}")
            out.print(shown)
        if unreadable:
            raise InvalidInput(
                f"the others are erased; mend these lines of {here.root / QUEUE}: {'; '.join(unreadable)}",
                field=QUEUE,
            )


def _queue(path: Path) -> tuple[list[int], list[str]]:
    """Whom the queue names, and what its other lines are: one who mistyped must not keep everybody else waiting."""
    ids, unreadable = [], []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                ids.append(_listener(QUEUE, line.strip()))
            except InvalidInput:
                unreadable.append(f"line {number} {line.strip()[:80]!r}")
    return ids, unreadable


def _listener(field: str, text: str) -> int:
    try:
        return named_id("user", text)
    except ValueError as error:
        raise InvalidInput(
            f"{field}: {text!r} is no listener; write a number from 0 to {MAX_ID}, or SOURCE:ID; nobody was erased",
            field=field,
        ) from error
