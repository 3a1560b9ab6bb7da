"""A home in which simulated listeners lived on: their events and exposures landed, tables built, as if it had served them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from segue.contracts.errors import InvalidInput, Unavailable
from segue.contracts.experiments import Experiment
from segue.contracts.ports import Days
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.contracts.vocabulary import DAY
from segue.flows.steps import BUILD
from segue.simulation.history import DayOfEvents
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.migrate import IN_FILES

__all__ = ["as_of", "check_free", "lived_on"]

LEFT: Final = shutil.ignore_patterns("experiments", "following")


def check_free(home: Home, into: Path) -> None:
    """Raise InvalidInput where no copy of the home can be made."""
    if into.exists():
        raise InvalidInput(f"--into: {into} is there already; name another, or remove it", field="into")
    if into.resolve().is_relative_to(home.root.resolve()):
        raise InvalidInput(f"--into: {into} is inside the home {home.root}; name another place", field="into")
    if home.settings.warehouse.engine not in IN_FILES:
        raise InvalidInput(
            "--into copies a home whose tables are files in it",
            field="warehouse.engine",
            limit=", ".join(IN_FILES),
        )
    there = next(folder for folder in into.resolve().parents if folder.is_dir())
    needed, free = _bytes(home.root), shutil.disk_usage(there).free
    if free < needed:
        raise Unavailable(
            f"--into: {into}: the home has {needed:,} bytes, and on that disk {free:,} are free: make room, or name "
            "another place",
            field="into",
        )


def lived_on(
    home: Home,
    into: Path,
    experiment: Experiment,
    logs: Sequence[DayOfEvents],
    say: Callable[[str], None] = lambda what: None,
) -> Home:
    """A copy of the home that has lived these days with the experiment in it, as of the days that were lived.

    It is there whole or not at all. Raises as `check_free`, and Unavailable for a disk that is full.
    """
    check_free(home, into)
    # Answers that change from one day to the next are what the checks of the flow are there to stop.
    settings = replace(home.settings, warehouse=replace(home.settings.warehouse, expect=False))
    making = into.with_name(f".{into.name}.part")
    try:
        shutil.rmtree(making, ignore_errors=True)  # what a killed process left
        say("copies the home")
        shutil.copytree(home.root, making, ignore=LEFT)
        _live(Home(making, settings), experiment, logs, say)
        making.rename(into)
    except OSError as error:
        raise Unavailable(f"--into: {into}: {_first(error)}; nothing was kept of it", field="into") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Home(into, settings)


def _live(
    copy: Home, experiment: Experiment, logs: Sequence[DayOfEvents], say: Callable[[str], None]
) -> None:
    for table in (RAW_EVENTS, EXPOSURES):
        kept = copy.engine.days(table)
        if kept is not None and kept.last >= logs[0].day:
            say(f"leaves out {table.name} of the home from {logs[0].day} on: those days are lived here")
            copy.engine.overwrite(table, table.arrow.empty_table(), Days(logs[0].day, kept.last))
    for day in logs:
        copy.engine.append(RAW_EVENTS, day.events)
        copy.engine.append(EXPOSURES, day.exposures)
    for progress in runner_of(copy).run([step.name for step in BUILD]):
        say(f"builds {progress.step}")
    lived = moved(experiment, logs)
    tree = msgspec.to_builtins(lived, builtin_types=(date,))
    copy.experiments.put_tree(tree, lived.name, lived.starts)
    copy.engine.close()


def _bytes(folder: Path) -> int:
    """What its files take on the disk, without those that are not copied."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _first(error: OSError) -> str:
    """A copy goes on from file to file and gathers what went wrong: the first tells."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2])
    return error.strerror or str(error)


def moved(experiment: Experiment, logs: Sequence[DayOfEvents]) -> Experiment:
    """The experiment as of the days that were lived."""
    return replace(experiment, starts=logs[0].day, ends=logs[-1].day + timedelta(days=1))


def as_of(home: Home) -> int:
    """The moment that a home's results are of, UTC microseconds: now, or the end of what was simulated, which may lie ahead of
    the clock.
    """
    now = time.time_ns() // 1000
    landed = home.engine.days(EXPOSURES) if home.truth.is_dir() else None
    return now if landed is None else max(now, ((landed.last - date(1970, 1, 1)).days + 1) * DAY)
