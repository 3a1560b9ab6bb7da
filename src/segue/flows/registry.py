"""What a step of the flow declares: the tables it reads (and how many days around), those it writes, and how to run it.

The same declaration orders the steps, tells which days are stale, draws the progress, and becomes a task of a scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from segue.contracts.errors import InvalidInput
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.flows.task import Stores, Task

Partition = Literal["day", "whole", "upkeep"]


@dataclass(frozen=True)
class Read:
    """A table that a step reads. For day d of a daily table: the days d - `before` .. d + `after`.

    `after=-1` leaves out the day itself: what was known at the start of d. A change of a table that is not `tracked` makes
    nothing stale: such a table is looked up as it stands when the step runs (a catalogue that grows every day must
    not rebuild last year).
    """

    table: Table
    before: int = 0
    after: int = 0
    tracked: bool = True

    def window(self, days: Days) -> Days:
        """The days of this table that those days of the step need."""
        return days.widen(self.before, self.after)


@dataclass(frozen=True)
class Step:
    """One step of the flow.

    A step of partition "day" builds the days that its first read has (with `after=-1`: the days behind them). One of
    partition "whole" reads all days and writes things without days: a table, or models and bundles, which
    are declared as a Table without columns. One of partition "upkeep" looks after what is there: it runs when it is asked for by
    name, and then always. `version` is raised when the code changes what it writes; `settings` names the
    sections and keys of the settings tree that the result depends on. `gone` looks, before a step is found up to date, whether
    what it made outside the tables is still there, and says what is not.
    """

    name: str
    doc: str
    reads: tuple[Read, ...]
    writes: tuple[Table, ...]
    partition: Partition
    version: int
    settings: tuple[str, ...]
    run: Callable[[Task], None]
    gone: Callable[[Stores], str | None] = lambda stores: None


def step(
    *,
    reads: Sequence[Read],
    writes: Sequence[Table],
    partition: Partition = "day",
    version: int = 1,
    settings: Sequence[str] = (),
    name: str | None = None,
    gone: Callable[[Stores], str | None] = lambda stores: None,
) -> Callable[[Callable[[Task], None]], Step]:
    """Make a step of a function. Its name and its prose are the function's, unless given."""

    def declared(run: Callable[[Task], None]) -> Step:
        title = name or run.__name__.replace("_", "-")
        doc = (run.__doc__ or "").strip()
        made = Step(title, doc, tuple(reads), tuple(writes), partition, version, tuple(settings), run, gone)
        _validate(made)
        return made

    return declared


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps so that each comes behind those whose tables it reads; otherwise in the order given.

    Raises ValueError if two steps write one table, if the reads run in a circle, or if nothing makes a derived table.
    """
    given = list(steps)
    writer: dict[str, Step] = {}
    for made in given:
        for table in made.writes:
            other = writer.setdefault(table.name, made)
            if other is not made:
                raise ValueError(f"steps {other.name} and {made.name} both write table {table.name}")
    for made in given:
        lacking = [r.table.name for r in made.reads if r.table.derived and r.table.name not in writer]
        if lacking:
            raise ValueError(f"step {made.name} reads {', '.join(lacking)}, which no step writes")
    position = {made.name: n for n, made in enumerate(given)}
    sorter = TopologicalSorter(
        {
            made.name: [writer[r.table.name].name for r in made.reads if r.table.name in writer]
            for made in given
        }
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"the steps read each other in a circle: {' <- '.join(error.args[1])}") from error
    ordered: list[Step] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=position.__getitem__)
        first = ready.pop(0)
        ordered.append(given[position[first]])
        sorter.done(first)
    return tuple(ordered)


def chosen(steps: Sequence[Step], names: Collection[str] | None) -> tuple[Step, ...]:
    """The steps of those names, in the order of `steps`; for None all but upkeep. Raises InvalidInput naming the nearest one."""
    if names is None:
        return tuple(made for made in steps if made.partition != "upkeep")
    known = [made.name for made in steps]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise InvalidInput(f"there is no step {name!r}; {hint}", field="steps", limit=", ".join(known))
    return tuple(made for made in steps if made.name in names)


def with_tables(steps: Sequence[Step], wanted: Collection[Step]) -> tuple[Step, ...]:
    """Those steps, and the daily steps that make what they read, and what those read, in the order of `steps`.

    Bundles and listener state are not made on the way: that is asked for by name.
    """
    names = {made.name for made in wanted}
    read = {r.table.name for made in wanted for r in made.reads if r.tracked}
    for made in reversed(steps):
        if made.partition == "day" and read.intersection(table.name for table in made.writes):
            names.add(made.name)
            read |= {r.table.name for r in made.reads if r.tracked}
    return tuple(made for made in steps if made.name in names)


def _validate(made: Step) -> None:
    """Mistakes of whoever declares a step, found when the module is loaded."""
    if not made.writes or not (made.reads or made.partition == "upkeep"):
        raise ValueError(f"step {made.name}: declare what it reads and what it writes")
    if made.partition == "day":
        driver = made.reads[0]
        if not (driver.table.daily and driver.tracked):
            raise ValueError(f"step {made.name}: its first read drives it, and must be daily and tracked")
    for table in made.writes:
        if table.daily != (made.partition == "day"):
            raise ValueError(
                f"step {made.name} of partition {made.partition!r} cannot write table {table.name}"
            )
    for read in made.reads:
        if read.before < 0 or -read.after > read.before + 1:
            raise ValueError(
                f"step {made.name}: read {read.table.name} from {read.before} before to {read.after} after"
            )
