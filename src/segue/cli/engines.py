"""`segue sql`: what an engine is asked. `segue compare-engines`: whether all of them answer alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    err,
    open_home,
    out,
    plain_errors,
    print_json,
    working,
)
from segue.cli.flow import days_between
from segue.contracts.errors import InvalidInput
from segue.flows.definitions import definition
from segue.settings import DEFAULT_HOME
from segue.settings.tree import EngineName
from segue.wiring.compare import compare_engines
from segue.wiring.engines import printed

ENGINES: tuple[str, ...] = get_args(EngineName)
UNEQUAL = 1
"""Exit status where the engines do not agree."""


def sql(
    table: Annotated[str, typer.Argument(help="A table that the flow makes.")],
    engine: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(ENGINES)}; default: warehouse.engine.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", help="First UTC day, YYYY-MM-DD; default: yesterday.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Last UTC day, YYYY-MM-DD; default: the first.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the SQL that makes a table, on any engine.

    It shows the filters on partitions. Nothing is read and nobody is asked.

    Example: `segue sql listens --engine spark --from 2026-11-01 --to 2026-11-07`

    Next: `segue run --step listens` to build it, `segue compare-engines` to see whether all engines make the same of it.
    """
    with plain_errors():
        chosen = _known(engine or open_home(home, settings, config).settings.warehouse.engine)
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        days = days_between(first or last or yesterday, last or first or yesterday)
        assert days is not None
        text = printed(chosen, definition(table, days))
    typer.echo(text)


def compare(
    engines: Annotated[
        str, typer.Option(help="Which, with commas between; the others are held against the first.")
    ] = "duckdb,spark",
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Build the flow's tables on several engines and compare them row by row.

    They are made of this home's raw data, apart from its own tables.

    Exit status 1 where they differ; what was built then stays in HOME/compare.

    Example: `segue compare-engines --engines duckdb,spark`

    Next: `segue run --set warehouse.engine=spark`, if all is equal.
    """
    with plain_errors():
        names = list(dict.fromkeys(_known(name.strip()) for name in engines.split(",")))
        with working("engines") as at_hand:
            found = compare_engines(
                open_home(home, settings, config), names, lambda engine, what: at_hand(f"{engine} {what}")
            )
    for name, one in found.items():
        if one.difference is not None:
            err.print(f"[red]{name}[/]: {escape(one.difference)}", highlight=False, soft_wrap=True)
    if json:
        verdict = {name: {"rows": one.rows, "equal": one.equal} for name, one in found.items()}
        print_json({"engines": names, "tables": verdict})
    else:
        shown = Table("table", *(f"{name}, rows" for name in names), "")
        for name, one in found.items():
            shown.add_row(
                name,
                *(f"{one.rows[engine]:,}" for engine in names),
                "equal" if one.equal else "[red]differs[/]",
            )
        out.print(shown)
    if not all(one.equal for one in found.values()):
        raise typer.Exit(UNEQUAL)


def _known(name: str) -> str:
    try:
        return str(msgspec.convert(name, EngineName))
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"there is no engine {name!r}; known: {', '.join(ENGINES)}",
            field="engine",
            limit=", ".join(ENGINES),
        ) from error
