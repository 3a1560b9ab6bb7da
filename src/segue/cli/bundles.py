"""`segue bundle`: what is published, and back to what was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from segue.bundle.store import CURRENT
from segue.cli.console import HomeOption, JsonOption, err, open_home, out, plain_errors, print_json
from segue.flows.verdicts import verdicts
from segue.settings import DEFAULT_HOME

app = typer.Typer(help="List, show, publish and roll back bundles.", no_args_is_help=True)
VersionArgument = Annotated[str, typer.Argument(help="Version, as `segue bundle list` prints it.")]


@app.command("list")
def list_bundles(json: JsonOption = False, home: HomeOption = DEFAULT_HOME) -> None:
    """All bundles, newest first; the dot marks the champion, from which requests are answered.

    Example: `segue bundle list`

    Next: `segue bundle show VERSION`, `segue bundle publish VERSION`, `segue bundle rollback`.
    """
    with plain_errors():
        chosen = open_home(home)
        store = chosen.bundles
        manifests, unreadable = store.versions(), store.unreadable()
        current = store.current() if CURRENT not in unreadable else None
        said = verdicts(chosen.engine)
    for what in unreadable.values():
        err.print(f"[yellow]unreadable[/]: {escape(what)}", highlight=False, soft_wrap=True)
    if json:
        print_json({"current": current, "bundles": [m.version for m in manifests]})
        return
    table = Table("", Column("version", no_wrap=True), "made", "data through", "tracks", "MB", "gate")
    for m in manifests:
        size = sum(f.bytes for f in m.files.values()) / 1e6
        made = datetime.fromtimestamp(m.created_at / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
        mark = "[green]●[/]" if m.version == current else ""
        verdict = said[m.version].reason if m.version in said else ""
        table.add_row(mark, m.version, made, m.data_through, f"{m.tracks:,}", f"{size:.1f}", verdict)
    out.print(table)


@app.command()
def show(version: VersionArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """A bundle's manifest, after checking every byte of it.

    Example: `segue bundle show 2026-11-21-4f1c2a9b`

    Next: `segue bundle publish VERSION` if it is sound, `segue run` makes another if not.
    """
    with plain_errors():
        print_json(open_home(home).bundles.open(version, every_byte=True).manifest)


@app.command()
def publish(version: VersionArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Make a bundle the champion, whatever the gate said; servers pick it up within a second.

    Example: `segue bundle publish 2026-11-21-4f1c2a9b`

    Next: `segue bundle rollback` takes it back.
    """
    with plain_errors():
        open_home(home).bundles.publish(version)
    out.print(f"champion: {version}")


@app.command()
def rollback(home: HomeOption = DEFAULT_HOME) -> None:
    """Make the champion before this one the champion again; servers change over within a second.

    Example: `segue bundle rollback`

    Next: `segue bundle list` shows which one answers now.
    """
    with plain_errors():
        version = open_home(home).bundles.rollback()
    out.print(f"champion: {version}")
