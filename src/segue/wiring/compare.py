"""The flow's tables built on several engines from one home's raw data, each in a place of its own, and compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from segue.contracts.ports import Engine
from segue.contracts.tables import RUNS
from segue.flows.compare import Compared, compare, copy, sources
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.wiring.home import Home

FOLDER = "compare"
"""Below the home, and behind the name of a dataset: what was built for a comparison. Removed again where all was equal."""


def compare_engines(
    home: Home, names: Sequence[str], say: Callable[[str, str], None] = lambda engine, what: None
) -> dict[str, Compared]:
    """Each table of the flow by name. `say` is told which engine is at what."""
    opened: dict[str, Engine] = {}
    try:
        for name in names:
            scratch = _scratch(home, name)
            opened[name] = scratch.engine
            _empty(scratch.engine)
            for table in sources(BUILD):
                say(name, f"copies {table.name}")
                copy(table, home.engine, scratch.engine)
            for progress in Runner(scratch.engine, scratch.settings, scratch.root, scratch, BUILD).run():
                say(name, f"builds {progress.step}")
        tables = [table for step in BUILD for table in step.writes]
        found: dict[str, Compared] = {}
        for table in tables:
            say(", ".join(names), f"are compared in {table.name}")
            found[table.name] = compare(table, opened)
        equal = all(one.equal for one in found.values())
        for engine in opened.values() if equal else ():
            _empty(engine)
    finally:
        for engine in opened.values():
            engine.close()
    if equal:
        shutil.rmtree(home.root / FOLDER)
    return found


def _scratch(home: Home, name: str) -> Home:
    """An empty home beside the home, whose warehouse runs on that engine."""
    root: Path = home.root / FOLDER / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    place = home.settings.warehouse.bigquery
    warehouse = msgspec.structs.replace(
        home.settings.warehouse,
        engine=name,
        bigquery=msgspec.structs.replace(place, dataset=f"{place.dataset}_{FOLDER}"),
    )
    return replace(home, root=root, settings=msgspec.structs.replace(home.settings, warehouse=warehouse))


def _empty(engine: Engine) -> None:
    """Leave no rows behind of this or an earlier comparison, where tables are no files below the scratch home."""
    for table in (*sources(BUILD), *(table for step in BUILD for table in step.writes), RUNS):
        engine.overwrite(table, table.arrow.empty_table())
