"""A simulated day through real Airflow and through the in-process runner: both must leave the same behind.

    python tests/airflow/day.py        # part of `make airflow-test`

A small service has been served for two weeks; yesterday's events and exposures are in the log. One copy of its home is given
to `segue run`, another to Airflow's scheduler, which finds its DAGs due: it lands, builds, fills listener state, and trains since
the tables changed. The step `events` is killed at its work, and the worker of `train`; Airflow's own retries have to end both
well. Then tables are compared row by row, listener state record by record, the new bundle byte by byte. Exit status 1 where any
of them differ.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from local_airflow import SEGUE, Api, airflow
from rich.console import Console
from rich.table import Table

from segue.contracts.ports import Days
from segue.contracts.tables import (
    EVENTS,
    EXPOSURES,
    INCIDENTS,
    QUALITY,
    RAW_EVENTS,
    RUNS,
    TABLES,
    VERDICTS,
)
from segue.events.records import (
    EVENTS_TOPIC,
    EXPOSURES_TOPIC,
    Event,
    Exposure,
    encode_event,
    encode_exposure,
)
from segue.flows.compare import Compared, compare
from segue.listener.codec import encode
from segue.wiring.home import Home

SERVICE = ("--tracks", "500", "--artists", "80", "--listeners", "200", "--days", "16")
SETTINGS = """
[warehouse]
threads = 1
[training]
threads = 1
factors = 8
epochs = 2
neighbours = 20
rankers.home = { trees = 5, requests = 50 }
rankers.next-up = { trees = 5, requests = 50 }
[gate]
max_requests = 100
[state]
map_size_mb = 64
"""
KILLED = {"events": 0.0, "train": 2.0}
"""Which steps are hit, and how many seconds after they have begun: `events` itself, of `train` the worker that waits for it."""
RUNS_S = 900.0
OVER = ("success", "failed")
REFUSED = 3
TIMED = (RUNS, VERDICTS, QUALITY, INCIDENTS)
"""Tables that say when something was done."""
out = Console()


def due() -> date:
    """The day that the daily DAG, at three o'clock, found over last."""
    return (datetime.now(UTC) - timedelta(hours=3)).date() - timedelta(days=1)


def segue(home: Path, *arguments: str) -> int:
    """A command over a home. Returns its exit status; raises where it is none of those that are meant."""
    done = subprocess.run([SEGUE, *arguments, "--home", home], capture_output=True, text=True, check=False)
    if done.returncode not in (0, REFUSED):
        raise RuntimeError(f"segue {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    return done.returncode


def serve_until(home: Path, day: date) -> None:
    """A service whose last day is in the log and in no table yet."""
    home.mkdir()
    (home / "segue.toml").write_text(SETTINGS)
    segue(home, "simulate", "--end", day.isoformat(), *SERVICE)
    with opened(home) as here:
        held: dict[str, list[dict[str, Any]]] = {}
        for table in (RAW_EVENTS, EXPOSURES):
            held[table.name] = here.engine.collect(here.engine.read(table, Days(day, day))).to_pylist()
            here.engine.overwrite(table, table.arrow.empty_table(), Days(day, day))
    segue(home, "run")
    with opened(home) as here:
        here.log.append(EVENTS_TOPIC, [encode_event(as_event(row)) for row in held[RAW_EVENTS.name]])
        here.log.append(EXPOSURES_TOPIC, [encode_exposure(e) for e in as_exposures(held[EXPOSURES.name])])
        here.log.close()


def as_event(row: dict[str, Any]) -> Event:
    """An event as the API writes it into the log."""
    return Event(**{name: value for name, value in row.items() if name != "day"})


def as_exposures(rows: list[dict[str, Any]]) -> list[Exposure]:
    """Responses as servers write them into the log."""
    responses: dict[bytes, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["ts"], row["request_id"], row["position"])):
        responses.setdefault(row["request_id"], []).append(row)
    whole = ("request_id", "ts", "user_id", "surface", "bundle", "config", "variants")
    slots = ("track_id", "position", "score", "sources", "propensity")
    return [
        Exposure(
            **{name: slotted[0][name] for name in whole},
            **{name: listed(row[name] for row in slotted) for name in slots},
        )
        for slotted in responses.values()
    ]


def listed(values: Iterator[Any]) -> list[Any] | None:
    """The values, or None where there are none at all."""
    found = list(values)
    return None if all(value is None for value in found) else found


@contextmanager
def opened(home: Path) -> Iterator[Home]:
    """A home, with its tables closed behind."""
    here = Home.open(home, environ={})
    try:
        yield here
    finally:
        here.engine.close()


class Killer(threading.Thread):
    """Ends some steps, or their workers, at work and with no warning; each once."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._lock = home / "run.lock"
        self._left = dict(KILLED)
        self.killed: list[str] = []

    def run(self) -> None:
        """Watch who holds the home."""
        while self._left:
            time.sleep(0.005)
            found = re.fullmatch(r"step (\S+), process (\d+)", self._lock.read_text())
            if found and found[1] in self._left:
                time.sleep(self._left.pop(found[1]))
                process = int(found[2])
                os.kill(process if found[1] == "events" else parent(process), signal.SIGKILL)
                self.killed.append(found[1])


def parent(process: int) -> int:
    """Whoever started it."""
    found = re.search(r"^PPid:\t(\d+)$", Path(f"/proc/{process}/status").read_text(), re.M)
    assert found is not None
    return int(found[1])


def through_airflow(folder: Path, home: Path) -> dict[str, str]:
    """Let the scheduler do what is due. Returns the state of the last run of each DAG."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with airflow(folder, home, port, {"AIRFLOW_ALERTS_URL": "http://127.0.0.1:9/nobody-is-there"}) as api:
        killer = Killer(home)
        killer.start()
        for dag in ("segue_landing", "segue_daily", "segue_training"):
            api("PATCH", f"dags/{dag}", {"is_paused": False})
        states = {dag: state_of(api, dag) for dag in ("segue_landing", "segue_daily", "segue_training")}
        tries = {task["task_id"]: task["try_number"] for task in tasks_of(api)}
        if sorted(killer.killed) != sorted(KILLED) or any(tries[step] < 2 for step in KILLED):
            raise RuntimeError(
                f"killed {killer.killed}, attempts {tries}: the retries were not put to the test"
            )
        return states


def state_of(api: Api, dag: str) -> str:
    """The state of the DAG's run, when it is over."""
    end = time.monotonic() + RUNS_S
    while time.monotonic() < end:
        runs = api("GET", f"dags/{dag}/dagRuns")["dag_runs"]
        if runs and all(run["state"] in OVER for run in runs):
            return str(runs[-1]["state"])
        time.sleep(2.0)
    raise TimeoutError(f"{dag} is not over after {RUNS_S:.0f} s: {tasks_of(api)}")


def tasks_of(api: Api) -> list[dict[str, Any]]:
    """What became of every task."""
    found = api("GET", "dags/~/dagRuns/~/taskInstances?limit=100")["task_instances"]
    return [{name: task[name] for name in ("dag_id", "task_id", "state", "try_number")} for task in found]


def compare_homes(runner: Path, scheduled: Path) -> dict[str, Compared]:
    """Tables, listener state and the newest bundle of both."""
    with opened(runner) as one, opened(scheduled) as other:
        engines = {"runner": one.engine, "airflow": other.engine}
        found = {t.name: compare(t, engines) for t in TABLES.values() if t not in TIMED}
        found["verdicts"] = alike("verdicts", *([v["passed"] for v in verdicts(h)] for h in (one, other)))
        found["listener state"] = alike("listeners", *(states(h) for h in (one, other)))
        found["bundle"] = alike("files", *(files(h) for h in (one, other)))
    return found


def verdicts(home: Home) -> list[dict[str, Any]]:
    """What the gate said, in order."""
    rows: pa.Table = home.engine.collect(home.engine.read(VERDICTS).order_by("at"))
    return list(rows.to_pylist())


def states(home: Home) -> list[bytes]:
    """Every listener's state."""
    found = (home.state.read(user) for user in sorted(home.state.sample(1_000_000)))
    return [encode(state) for state in found if state is not None]


def files(home: Home) -> list[tuple[str, str]]:
    """The files of the newest bundle, and their hashes."""
    return [(name, entry.sha256) for name, entry in sorted(home.bundles.versions()[0].files.items())]


def alike(what: str, one: list[Any], other: list[Any]) -> Compared:
    """The verdict on two lists."""
    differing = [a for a, b in zip(one, other, strict=False) if a != b]
    difference = f"{what}: {differing[:3]}" if one != other else None
    return Compared({"runner": len(one), "airflow": len(other)}, one == other, difference)


def main() -> int:
    """The whole comparison; 0 where both are equal."""
    folder = Path(tempfile.mkdtemp(prefix="segue-airflow-test-"))
    base, runner, scheduled = (folder / name for name in ("base", "runner", "scheduled"))
    day = due()
    clock = time.monotonic()

    def tell(what: str) -> None:
        out.print(f"{time.monotonic() - clock:6.0f} s  {what}")

    serve_until(base, day)
    shutil.copytree(base, runner)
    shutil.copytree(base, scheduled)
    tell(f"a service until {day}, whose last day is in the log")
    wanted = "failed" if segue(runner, "run") == REFUSED else "success"
    tell(f"the in-process runner; training: {wanted}")
    ended = through_airflow(folder / "airflow", scheduled)
    with opened(scheduled) as here:
        if day not in here.engine.row_counts(EVENTS) or here.bundles.versions()[0].data_through != f"{day}":
            raise RuntimeError(f"Airflow did not do {day}: nothing to compare")
    tell(f"Airflow, with {' and '.join(KILLED)} killed: {ended}")
    found = compare_homes(runner, scheduled)
    shown = Table("what", "runner", "airflow", "")
    for name, one in found.items():
        shown.add_row(name, f"{one.rows['runner']:,}", f"{one.rows['airflow']:,}", one.difference or "equal")
    out.print(shown)
    as_meant = ended == {"segue_landing": "success", "segue_daily": "success", "segue_training": wanted}
    if as_meant and all(one.equal for one in found.values()):
        shutil.rmtree(folder)
        tell("equal")
        return 0
    tell(f"NOT equal; everything is kept in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
