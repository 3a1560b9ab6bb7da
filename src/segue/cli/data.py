"""`segue import`: events in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    tell,
    working,
)
from segue.contracts.errors import InvalidData
from segue.contracts.tables import RAW_EVENTS
from segue.events.importers import IMPORTERS, ImportReport, choose_importer, import_path
from segue.flows.ledger import Ledger
from segue.flows.lock import exclusive
from segue.settings import DEFAULT_HOME
from segue.wiring.home import Home
from segue.wiring.moving import bring

MappingOption = Annotated[
    Path | None, typer.Option("--mapping", help="For `table`: a TOML file that says what the columns are.")
]


def import_data(
    name: Annotated[str, typer.Argument(help=f"Format: {', '.join(IMPORTERS)}.")],
    path: Annotated[Path, typer.Argument(help="File or directory to import.")],
    mapping: MappingOption = None,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Import listening data. Running it again lands nothing twice; a killed import goes on where it was.

    Ends with counts: read, landed, duplicate, rejected by reason. docs/how-to/import.md says what each format must look like.

    Example: `segue import listenbrainz listens.jsonl`, or `segue import table plays.csv --mapping plays.toml` for yours.

    Next: `segue run`; `segue rejects` if rows were rejected.
    """
    with plain_errors():
        report, warnings = run_import(open_home(home, settings, config), name, path, mapping)
    for warning in warnings:
        err.print(f"[yellow]warning[/]: {escape(warning)}", highlight=False, soft_wrap=True)
    if json:
        print_json(report)
    else:
        _print_import(f"{name}: {path}", report)
    with plain_errors():
        _refuse_if_all_broken(path, report)


def _print_import(title: str, report: ImportReport) -> None:
    table = Table(title=title, title_justify="left")
    for heading in ("read", "landed", "duplicate", "rejected", "listeners", "tracks"):
        table.add_column(heading, justify="right")
    table.add_row(
        *(f"{n:,}" for n in (report.read, report.landed, report.duplicate, sum(report.rejected.values()))),
        f"{report.listeners:,}",
        f"{report.tracks:,}",
    )
    out.print(table)
    for reason, count in sorted(report.rejected.items()):
        out.print(f"  rejected {count:,}: {reason}  ([bold]segue rejects[/] shows them)")
    if report.landed + report.duplicate:
        out.print("next: [bold]segue run[/]")


def _refuse_if_all_broken(path: Path, report: ImportReport) -> None:
    """Raises InvalidData where there were rows and none of them was any good: a script must not go on."""
    if report.rejected and not report.landed + report.duplicate:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.rejected.items()))
        raise InvalidData(
            f"{path}: none of its {report.read:,} rows could be used ({reasons}); `segue rejects` shows them"
        )


def run_import(
    home: Home, name: str, path: Path, mapping: Path | None
) -> tuple[ImportReport, tuple[str, ...]]:
    """Import with a progress line on standard error. Returns the counts, and warnings of what looks wrong."""
    importer = choose_importer(name, mapping)
    report, warnings = ImportReport(), tuple[str, ...]()
    with exclusive(home.root, f"import {name}"), working(f"import {name}") as say:
        bring_along(home)
        ledger = Ledger(home.engine)
        for step in import_path(
            importer, path, home.engine, home.settings.warehouse, on_landed=ledger.record_landing
        ):
            report, warnings = step.report, step.warnings
            say(f"import {name}: {report.read:,} read, {report.landed:,} landed")
        home.engine.compact(RAW_EVENTS)
    return report, warnings


def bring_along(home: Home) -> None:
    """Copy what this home has in files into a warehouse that is elsewhere and empty, a line a table."""
    bring(home, lambda what: tell("move", what))
