"""`segue migrate`: a table brought into its contract's schema."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_home,
    out,
    plain_errors,
    print_json,
)
from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.tables import TABLES
from segue.settings import DEFAULT_HOME
from segue.wiring.migrate import migrate_table


def migrate(
    table: Annotated[str, typer.Argument(help="The table, as in docs/reference/tables.md.")],
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="A stored column that has another name now.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A stored column that goes.")
    ] = None,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Rewrite a table into its contract's schema, after a column was renamed, retyped or dropped.

    In one commit: whoever reads sees the table as it was or as it is. Types follow the contract; a value that does not fit stops
    it, with nothing changed. A new column that may be null needs no migration.

    Example: `segue migrate raw_events --rename length=ms_played`

    Next: `segue run --dry-run`. What is built from the table is not stale by this: raise a step's version if its rows change.
    """
    with plain_errors():
        if table not in TABLES:
            near = get_close_matches(table, TABLES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TABLES)}"
            raise NotFound(f"there is no table {table!r}; {hint}", field="table", limit=", ".join(TABLES))
        counts = migrate_table(
            open_home(home, settings, config), TABLES[table], dict(map(_renamed, rename or ())), drop or ()
        )
    rows = None if counts is None else sum(counts.values())
    if json:
        print_json({"table": table, "rows": rows})
    else:
        out.print(
            f"{table} has its contract's schema already"
            if rows is None
            else f"{table}: {rows:,} rows rewritten"
        )


def _renamed(said: str) -> tuple[str, str]:
    old, _, new = said.partition("=")
    if not old or not new:
        raise InvalidInput(f"--rename: {said!r} is not OLD=NEW", field="--rename", limit="OLD=NEW")
    return old, new
