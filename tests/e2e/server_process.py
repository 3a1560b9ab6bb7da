"""A server over the small platform, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from segue.serving.server import DRAIN_S

SERVER = Path(__file__).parents[1] / "unit" / "serving" / "small_platform.py"


def worker_pids(server: int) -> set[int]:
    """The processes of a server's workers, as /proc has them."""
    found = set()
    for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(int(pid))
    return found


class Running:
    """A server process and how to talk to it."""

    def __init__(self, folder: Path, *arguments: str, workers: int = 2) -> None:
        self.events = folder / "events.jsonl"
        self.errors = (folder / "stderr.txt").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(SERVER),
                "--workers",
                str(workers),
                "--events",
                str(self.events),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.said()
        self.await_answer()

    def said(self) -> str:
        """What the server wrote to its log so far."""
        self.errors.flush()
        return Path(self.errors.name).read_text()

    def stop(self) -> int:
        """Ask it to end, and wait. Returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DRAIN_S + 15)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.errors.close()
        return code

    def await_answer(self) -> None:
        """Wait until a worker answers."""
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{self.url}/healthz")
                return
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(f"the server does not answer: {self.said()}")
