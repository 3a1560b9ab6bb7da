"""`make bench-scale N=20e6`: what the warehouse costs as a service grows, on this machine, within a memory limit.

A service is simulated (sessions, repeats, popularity as `segue simulate` has them) in three sizes, each eight times the last one
and the largest N events. Each is built by a process of its own with the settings of a user, by DuckDB (or Spark) within
`warehouse.memory_mb`: raw events to clean events, sessions, listens, daily counts, co-listens, outcomes; then the point-in-time
join of some samples of its last day to all features. What is told of each: events a second on the wall and of CPU, step by step;
bytes an event; the most memory the process ever held; and how the cost of an event compares with that in the size before. CPU and
memory are those of the process and all below it, since Spark is Java beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import ibis
import msgspec
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table as Grid

from benchmarks.harness import cpu_seconds, family_peak_mb, peak_mb
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EVENTS, RAW_EVENTS
from segue.features import FEATURES
from segue.features.offline import training_join
from segue.features.relations import Candidate
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.settings.tree import EngineName, State, Warehouse
from segue.simulation import SimulationConfig
from segue.training.features import feature_tables
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

GROWTH, SIZES = 8, 3
LEAST = 100_000
A_DAY = 1_000_000
"""A larger service has more days rather than more events in one, as far as a year goes."""
FEWEST_DAYS, MOST_DAYS = 30, 365
OF_LISTENER = 7.1
"""Events a day of the mean simulated listener."""
TRACKS, ARTISTS = 100_000, 15_000
SAMPLES = 20_000
out = Console(highlight=False)


class Spent(msgspec.Struct, frozen=True):
    """What one step took: seconds on the wall and of CPU."""

    wall: float
    cpu: float


class Measured(msgspec.Struct, frozen=True):
    """One size: events, the days they lie in, what each step took, bytes on disk, the most memory (MB), samples joined."""

    events: int
    days: int
    steps: dict[str, Spent]
    raw_bytes: int
    clean_bytes: int
    peak_mb: float
    simulation_mb: float
    samples: int

    def of(self, *names: str) -> Spent:
        """Some steps together; all that make tables, if none is named."""
        chosen = [self.steps[name] for name in names or [s.name for s in BUILD] if name in self.steps]
        return Spent(sum(s.wall for s in chosen), sum(s.cpu for s in chosen))


def main() -> None:
    """Read the command line, measure each size in a process of its own, print the table."""
    arguments = _arguments()
    if arguments.build is not None:
        sys.stdout.write(
            msgspec.json.encode(_build(arguments.build, arguments.engine, arguments.memory_mb)).decode()
        )
        return
    sizes = [max(int(arguments.events / GROWTH**n), LEAST) for n in reversed(range(SIZES))]
    found: list[Measured] = []
    for size in dict.fromkeys(sizes):
        with tempfile.TemporaryDirectory(prefix="segue-scale-", dir=arguments.folder) as folder:
            found.append(_measured(size, Path(folder), arguments.engine, arguments.memory_mb))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        out.print(_table(found, arguments.engine, arguments.memory_mb))


def _measured(events: int, folder: Path, engine: EngineName, memory_mb: int) -> Measured:
    config = _config(events)
    room = shutil.disk_usage(folder).free
    if room < 150 * events:
        raise SystemExit(
            f"{folder} has room for {room / 1e9:.0f} GB, and {events:,} events may take {150 * events / 1e9:.0f}"
        )
    home = Home(folder, _settings("duckdb", memory_mb))
    with out.status(f"{events:,} events: simulating") as status:
        started, cpu = time.monotonic(), time.process_time()
        report = simulate_into(
            home, config, lambda day: status.update(f"{events:,} events: simulating {day}")
        )
        spent = Spent(time.monotonic() - started, time.process_time() - cpu)
        home.engine.close()
        status.update(f"{events:,} events: building")
        command = [sys.executable, "-m", "benchmarks.scale", "--build", str(folder), "--engine", engine]
        command += ["--memory-mb", str(memory_mb)]
        built = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    measured = msgspec.json.decode(built.stdout, type=Measured)
    out.print(
        f"{report.events:,} events of {config.days} days: simulated in {spent.wall:,.0f} s, "
        f"built in {measured.of().wall:,.0f} s, at most {measured.peak_mb:,.0f} MB"
    )
    steps = {"simulate": spent, **measured.steps}
    return msgspec.structs.replace(
        measured, events=report.events, days=config.days, steps=steps, simulation_mb=peak_mb()
    )


def _build(folder: Path, engine: EngineName, memory_mb: int) -> Measured:
    """In a process of its own: the tables of what was simulated, then the join."""
    steps: dict[str, Spent] = {}
    with _timed(lambda spent: steps.__setitem__("start", spent)):
        home = Home(folder, _settings(engine, memory_mb))
        runner = runner_of(home)
    wall, cpu = time.monotonic(), cpu_seconds(os.getpid())
    for progress in runner.run([step.name for step in BUILD]):
        now, used = time.monotonic(), cpu_seconds(os.getpid())
        before = steps.get(progress.step, Spent(0.0, 0.0))
        steps[progress.step] = Spent(before.wall + now - wall, before.cpu + used - cpu)
        wall, cpu = now, used
    with _timed(lambda spent: steps.__setitem__("join", spent)):
        samples = _joined(home.engine)
    tables = home.root / "warehouse"
    measured = Measured(
        0,
        0,
        steps,
        _bytes(tables / RAW_EVENTS.name),
        _bytes(tables / EVENTS.name),
        family_peak_mb(os.getpid()),
        0.0,
        samples,
    )
    home.engine.close()
    return measured


def _joined(engine: Engine) -> int:
    """Samples of the last day with all their features, point in time. Returns how many rows came."""
    days = engine.days(EVENTS)
    assert days is not None
    events = engine.read(EVENTS, Days(days.last, days.last))
    chosen = events.filter((events.type == "play") & events.track_id.notnull())
    some = engine.collect(chosen.order_by("event_id").select("user_id", "ts", "track_id").limit(SAMPLES))
    rows = np.arange(some.num_rows)
    given = some.append_column("row", pa.array(rows)).append_column("request_id", pa.array(rows))
    given = given.append_column("surface", pa.array(["home"] * some.num_rows))
    names = [name for name, feature in FEATURES.items() if feature.entity is not Candidate]
    moments = some["ts"].to_numpy()
    tables = feature_tables(engine, names, int(moments.min()), int(moments.max()))
    joined = training_join(ibis.memtable(given), tables, State(), names)
    return sum(batch.num_rows for batch in engine.stream(joined))


def _config(events: int) -> SimulationConfig:
    days = min(max(FEWEST_DAYS, events // A_DAY), MOST_DAYS)
    listeners = max(1, round(events / days / OF_LISTENER))
    return SimulationConfig(tracks=TRACKS, artists=ARTISTS, listeners=listeners, days=days)


def _settings(engine: EngineName, memory_mb: int) -> Settings:
    return Settings(warehouse=Warehouse(engine=engine, memory_mb=memory_mb))


@contextmanager
def _timed(tell: Callable[[Spent], None]) -> Iterator[None]:
    wall, cpu = time.monotonic(), cpu_seconds(os.getpid())
    yield
    tell(Spent(time.monotonic() - wall, cpu_seconds(os.getpid()) - cpu))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.parquet"))


def _table(found: list[Measured], engine: EngineName, memory_mb: int) -> Grid:
    grid = Grid(title=f"{engine} within warehouse.memory_mb = {memory_mb:,}", title_justify="left")
    grid.add_column("what")
    for one in found:
        grid.add_column(f"{one.events:,} events", justify="right")
    rows: list[tuple[str, Callable[[Measured], str]]] = [
        ("days", lambda m: f"{m.days}"),
        ("simulated, events/s", lambda m: f"{m.events / m.of('simulate').wall:,.0f}"),
    ]
    rows += [(f"{s.name}, events/s", _rate(s.name)) for s in BUILD if any(s.name in m.steps for m in found)]
    rows += [
        ("engine started, s", lambda m: f"{m.of('start').wall:.1f}"),
        ("all tables, events/s", lambda m: f"{m.events / m.of().wall:,.0f}"),
        ("all tables, events/s of CPU", lambda m: f"{m.events / m.of().cpu:,.0f}"),
        ("raw events, bytes/event", lambda m: f"{m.raw_bytes / m.events:.1f}"),
        ("clean events, bytes/event", lambda m: f"{m.clean_bytes / m.events:.1f}"),
        ("most memory, MB", lambda m: f"{m.peak_mb:,.0f}"),
        ("most memory of the simulation, MB", lambda m: f"{m.simulation_mb:,.0f}"),
        ("point-in-time join, samples/s", lambda m: f"{m.samples / m.of('join').wall:,.0f}"),
    ]
    for name, show in rows:
        grid.add_row(name, *map(show, found))
    cost = [m.of().cpu / m.events for m in found]
    growth = [f"{later / before:.2f} x" for before, later in pairwise(cost)]
    grid.add_row("CPU an event, against the size before", "", *growth)
    return grid


def _rate(step: str) -> Callable[[Measured], str]:
    return lambda m: f"{m.events / m.steps[step].wall:,.0f}" if step in m.steps else ""


def _arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--events", type=float, default=20e6, help="events of the largest size")
    parser.add_argument("--memory-mb", type=int, default=3_000, help="warehouse.memory_mb")
    parser.add_argument(
        "--engine", choices=("duckdb", "spark"), default="duckdb", help="what builds the tables"
    )
    parser.add_argument("--folder", type=Path, help="where the services are made; they are removed again")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--build", type=Path, help="for its own use")
    return parser.parse_args()


if __name__ == "__main__":
    main()
