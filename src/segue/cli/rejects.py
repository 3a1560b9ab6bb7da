"""`segue rejects`: rows and events that broke the contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

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
from segue.contracts.tables import REJECTS
from segue.settings import DEFAULT_HOME


def rejects(
    reason: Annotated[str | None, typer.Option(help="Only this reason, such as wrong_type_ts.")] = None,
    origin: Annotated[
        str | None, typer.Option(help="Only origins that begin so, such as table:plays.csv.")
    ] = None,
    limit: Annotated[
        int, typer.Option("-n", min=1, max=10_000, help="At most so many, the latest first.")
    ] = 20,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the rows that broke the contract when they came in: where they came from, the rule they broke, what they said.

    Example: `segue rejects --reason wrong_type_ts -n 5`

    Next: mend the file or its mapping and `segue import` it again: what landed before lands nothing twice.
    """
    with plain_errors():
        engine = open_home(home, settings, config).engine
        kept = engine.read(REJECTS)
        if reason is not None:
            kept = kept.filter(kept.reason == reason)
        if origin is not None:
            kept = kept.filter(kept.origin.startswith(origin))
        found = engine.collect(kept.order_by([kept["at"].desc(), "origin", "row"]).limit(limit)).to_pylist()
    if json:
        print_json(found)
        return
    if not found:
        out.print("nothing was rejected")
    for row in found:
        when = datetime.fromtimestamp(row["at"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
        number = "" if row["row"] is None else f", row {row['row']}"
        out.print(
            f"[bold]{row['reason']}[/]  {escape(row['origin'])}{number}  [dim]{when}[/]", highlight=False
        )
        out.print(f"  {escape(row['content'] or '')}", highlight=False, soft_wrap=True)
