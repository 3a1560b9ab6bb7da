"""kill -9 an import at random instants, start it again, and compare with an import that nobody disturbed."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from datetime import date
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.schema import Table
from segue.contracts.tables import ARTISTS, LISTENERS, RAW_EVENTS, REJECTS, TRACKS
from segue.events.importers import choose_importer, import_path
from segue.settings.tree import Warehouse

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_:DeprecationWarning"
)  # Ibis calls DuckDB by older names

NOW = 1_795_000_000_000_000
SETTINGS = Warehouse(threads=1, memory_mb=512, import_batch_rows=1_000)
ROWS = 6_000
TABLES = (RAW_EVENTS, REJECTS, TRACKS, ARTISTS, LISTENERS)


def listens(path: Path) -> Path:
    """Listens over some days, some said twice, some broken; every batch names new and known tracks."""
    pick = random.Random(5)
    lines = []
    for n in range(ROWS):
        listen = {
            "listened_at": 1_400_000_000 + pick.randrange(400_000),
            "user_name": f"u{pick.randrange(300)}",
            "track_metadata": {"artist_name": f"artist {n // 40}", "track_name": f"t{pick.randrange(9)}"},
        }
        line = json.dumps(listen)
        lines.append(line[:20] if n % 97 == 0 else line)
        lines += [line] * (n % 50 == 0)
    path.write_text("\n".join(lines))
    return path


def run_import(path: Path, root: Path, told: Path, counts: Connection) -> None:
    """One import, in a process of its own. Says when it begins, and in the end what it counted."""
    engine = DuckDBDelta(root, SETTINGS)
    importer = choose_importer("listenbrainz")
    with told.open("ab", buffering=0) as ledger:

        def tell(_table: Table, days: dict[date, int]) -> None:
            ledger.write("".join(f"{day} " for day in days).encode())

        counts.send("begin")
        *_, last = import_path(importer, path, engine, SETTINGS, on_landed=tell, now=NOW)
    report = last.report
    counts.send(
        (report.read, report.landed + report.duplicate, report.rejected, report.listeners, report.tracks)
    )


def start(path: Path, root: Path, told: Path) -> tuple[BaseProcess, Connection]:
    # Why a fork server: it has the libraries loaded and no threads, so a child begins at once and forks cleanly.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pandas", "pytest", "ibis.backends.duckdb", "segue.adapters.engines.duckdb"]
    )
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_import, args=(path, root, told, theirs))
    process.start()
    theirs.close()
    assert ours.recv() == "begin"
    return process, ours


def finish(path: Path, root: Path, told: Path) -> tuple[Any, float]:
    """What an undisturbed import counted, and its seconds."""
    process, counts = start(path, root, told)
    began = time.monotonic()
    found = counts.recv()
    seconds = time.monotonic() - began
    process.join()
    assert process.exitcode == 0
    return found, seconds


def contents(root: Path) -> dict[str, list[dict[str, Any]]]:
    engine = DuckDBDelta(root, SETTINGS)
    found = {t.name: engine.collect(engine.read(t)).to_pylist() for t in TABLES}
    engine.close()
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def test_a_killed_import_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    path = listens(tmp_path / "l.jsonl")
    calm, whole = finish(path, tmp_path / "calm", tmp_path / "told_calm")
    expected = contents(tmp_path / "calm")
    assert calm[0] == ROWS + ROWS // 50
    assert all(expected.values())

    pause = random.Random(11)
    killed = 0
    for _ in range(4):
        process, counts = start(path, tmp_path / "killed", tmp_path / "told")
        process.join(pause.uniform(0.05, 0.6) * whole)
        killed += process.is_alive()
        process.kill()
        process.join()
        counts.close()
    assert killed > 0
    for _ in range(2):
        assert finish(path, tmp_path / "killed", tmp_path / "told")[0] == calm
        assert contents(tmp_path / "killed") == expected
    landed = {row["day"].isoformat() for row in expected["raw_events"]}
    assert set((tmp_path / "told").read_text().split()) == landed
