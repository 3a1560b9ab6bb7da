"""`segue lineage`: where a column comes from, and what a change of it would touch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.tree import Tree

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
from segue.flows.lineage import FEATURES, Lineage, Touched
from segue.settings import DEFAULT_HOME
from segue.settings.tree import Settings


def lineage(
    column: Annotated[
        str, typer.Argument(metavar="TABLE.COLUMN", help="A column, or a feature as features.NAME.")
    ],
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what a column is made from, and what a change of it would touch.

    Read off the definitions of tables and features: nothing is run. A column's value comes from columns, down to those that come
    from outside; others decide which rows there are. What reads a whole table (training, listener state) may need any of it.

    Example: `segue lineage daily_tracks.listens`; `segue lineage features.track_skip_rate_7d`

    Next: `segue sql TABLE` for how it is computed, `segue runs TABLE DAY` for what made a partition; docs/how-to/backfill.md for
    how to change a column.
    """
    with plain_errors():
        chosen = open_home(home, settings, config).settings
        known = Lineage()
        origin, touched = known.of(column), known.touched(column)
    surfaces = _ranked(chosen) if touched.features or column.startswith(f"{FEATURES}.") else []
    if json:
        print_json(
            {
                "column": column,
                "from": sorted(origin.values),
                "rows_by": sorted(origin.rows),
                "outside": sorted(_outside(known, column)),
                "touches": {
                    "values": touched.values,
                    "rows": touched.rows,
                    "features": touched.features,
                    "ranked_surfaces": surfaces,
                    "whole_tables_read_by": touched.steps,
                },
            }
        )
        return
    tree = Tree(
        f"[bold]{column}[/]"
        + ("" if origin.values or origin.rows else "  comes from outside, or is counted from rows")
    )
    _grow(tree, known, column)
    out.print(tree, highlight=False)
    _say("rows chosen by", sorted(origin.rows))
    _print_touched(touched, surfaces)


def _grow(tree: Tree, known: Lineage, column: str) -> None:
    for source in sorted(known.of(column).values):
        _grow(tree.add(source), known, source)


def _outside(known: Lineage, column: str) -> set[str]:
    """The columns from outside that a column's value comes from."""
    sources = known.of(column).values
    return {s for s in sources if s not in known.origins}.union(*(_outside(known, s) for s in sources))


def _ranked(settings: Settings) -> list[str]:
    """The surfaces whose ranker reads features."""
    return [name for name, surface in settings.surfaces.items() if surface.scorer.ranker]


def _print_touched(touched: Touched, surfaces: list[str]) -> None:
    out.print("[bold]a change of it touches[/]")
    _say("values of", touched.values)
    _say("rows of", sorted({name.partition(".")[0] for name in touched.rows}))
    _say("features", touched.features)
    _say("surfaces ranked by features", surfaces)
    _say("steps that read a whole table", touched.steps)


def _say(what: str, names: Iterable[str]) -> None:
    out.print(f"  [cyan]{what}[/]: {', '.join(names) or 'none'}", highlight=False)
