"""`segue load` against a real server: what it counts is what the server got."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import PROGRAM, environment, program
from server_process import Running

from real_stores import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with two workers."""
    running = Running(tmp_path_factory.mktemp("loaded"))
    yield running
    assert running.stop() == 0


def ids(path: Path) -> list[Any]:
    return [json.loads(line)["event_id"] for line in path.read_bytes().splitlines()]


def test_two_processes_send_sessions_and_count_what_was_acknowledged(server: Running, tmp_path: Path) -> None:
    kept = tmp_path / "acknowledged.jsonl"
    before = len(ids(server.events)) if server.events.exists() else 0
    done = program(
        None,
        *("load", server.url, "--rate", "60", "--duration", "4", "--warm-up", "1", "--speed", "600"),
        *("--processes", "2", "--acknowledged", str(kept), "--json"),
    )
    report = done.json
    assert report["total"]["errors"] == {}
    assert report["requests"].keys() >= {"home", "next-up", "events"}
    assert 100 < report["total"]["intended"] == report["total"]["answered"] < 270
    assert report["seconds"] == pytest.approx(3, abs=0.01)
    assert report["events_sent"] == report["events_acknowledged"] > 0
    assert report["generator"]["cpu_us_per_request"] > 0
    assert len(set(ids(kept))) == len(ids(kept)) == len(ids(server.events)) - before >= report["events_sent"]


def test_people_get_a_table_and_the_generators_own_part(server: Running) -> None:
    done = program(
        None,
        "load",
        server.url,
        "--rate",
        "40",
        "--duration",
        "2",
        "--warm-up",
        "0",
        "--listeners",
        "3-9",
        "--day",
    )
    assert done.code == 0, done.err
    for word in ("p99.9", "home", "events", "requests/s were answered of", "the generator:"):
        assert word in done.out


def test_an_interrupted_run_prints_what_there_is(server: Running) -> None:
    with subprocess.Popen(
        [PROGRAM, "load", server.url, "--rate", "40", "--duration", "600", "--warm-up", "0", "--json"],
        env=environment(None),
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what it puts in the background with this signal ignored, and the tests may be there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        events = server.events.stat().st_size
        until = time.monotonic() + 60
        while server.events.stat().st_size == events and time.monotonic() < until:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    report = json.loads(said)
    assert running.returncode == 0
    assert 0 < report["seconds"] < 70
    assert report["total"]["answered"] > 0


def test_what_cannot_be_loaded_is_one_line() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert "does not answer" in program(None, "load", nobody).error
    assert "--allow-remote" in program(None, "load", "http://192.0.2.1:8080").error
    assert "write the first and the last id" in program(None, "load", nobody, "--listeners", "7").error
    assert (
        "rate: must be more than 0"
        in program(None, "load", nobody, "--listeners", "1-9", "--rate", "0").error
    )
