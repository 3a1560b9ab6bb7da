"""`segue artists`: what the new-artist programme did for an artist."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
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
)
from segue.settings import DEFAULT_HOME

app = typer.Typer(help="What new uploads got, for their artists.", no_args_is_help=True)


@app.callback()
def artists() -> None:
    """What new uploads got, for their artists."""


@app.command("report")
def report(
    artist: Annotated[int, typer.Argument(metavar="ARTIST", help="The artist's id.")],
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Show whom an artist's new uploads reached, how those reacted, and what is still owed.

    Counts of listeners only: no group of fewer than five is shown, nor can one be found by subtracting.

    Example: `segue artists report 500017`

    Next: docs/how-to/new-artists.md for the programme and its settings.
    """
    with plain_errors():
        from segue.monitoring.debuts import FEWEST, artist_report

        opened = open_home(home, settings, config)
        found = artist_report(opened.engine, artist, opened.settings.programme.listeners)
    if json:
        print_json(found)
        return
    name = escape(found.artist or f"artist {found.artist_id}")
    if not found.tracks:
        out.print(f"{name} has no new upload on {found.day}")
        return
    few = f"< {FEWEST}"
    table = Table(title=f"{name}: new uploads at the end of {found.day}", title_justify="left")
    table.add_column("track")
    for heading in ("days left", "listeners", "exposures", "listens", "skips", "owed"):
        table.add_column(heading, justify="right")
    table.add_column("paused")
    for track in found.tracks:
        counts = (track.listeners, track.exposures, track.listens, track.skips)
        table.add_row(
            escape(track.title or str(track.track_id)),
            str(track.days_left),
            *(few if count is None else f"{count:,}" for count in counts),
            f"> {found.target - FEWEST}" if track.owed is None else f"{track.owed:,}",
            track.paused or "",
        )
    out.print(table)
    out.print(f"listeners reached: {few if found.reached is None else f'{found.reached:,}'}")
    for heading, groups in (
        ("by country", found.countries),
        ("by plan", found.plans),
        ("by reaction", found.reactions),
    ):
        shown = ", ".join(f"{escape(group.name)} {group.listeners:,}" for group in groups)
        out.print(f"  {heading}: {shown or 'too few to show'}", highlight=False)
