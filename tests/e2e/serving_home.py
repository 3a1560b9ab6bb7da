"""`segue serve` over a home, as a process of its own."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from command import PROGRAM, environment

WAIT_S = 60.0


@dataclass(frozen=True)
class Server:
    """`segue serve` with one worker."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def private_mb(self) -> float:
        """Memory of the worker that nobody shares, in megabytes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in children]
        private = re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", "".join(found))
        return sum(map(int, private)) / 1_000


@contextlib.contextmanager
def serving(home: Path, until: str, settings: Mapping[str, str]) -> Iterator[Server]:
    """A server on a free port, once `/healthz` or `/readyz` says 200. It must end in order, and never with a traceback."""
    log = home.parent / "serve.txt"
    with log.open("w") as said:
        variables = environment(home, {"SEGUE_SERVING__PORT": "0"} | dict(settings))
        process = subprocess.Popen([PROGRAM, "serve"], env=variables, stdout=said, stderr=said)
    try:
        yield Server(process, _address(process, log, until))
        process.terminate()
        assert process.wait(WAIT_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path, until: str) -> str:
    deadline = time.monotonic() + WAIT_S
    while True:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        with contextlib.suppress(httpx.TransportError):
            if found and httpx.get(f"{found.group()}/{until}").status_code == 200:
                return found.group()
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
