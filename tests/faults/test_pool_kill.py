"""Workers killed under load: every request that reached a living one is answered, and only what was answered counts as shown."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest
from rounds import Server

from segue.contracts.ids import parse_id
from segue.events.records import EXPOSURES_TOPIC, decode_exposures
from segue.serving.pool import GRACE_S, PATIENCE_S
from segue.wiring.home import Home

WORKERS, CLIENTS, KILLS = 3, 9, 4
MOST_KILLS: Final = 30
"""By then one worker at least was killed with a request in hand that another one had been asked."""
SLACK_S: Final = 5.0
"""What a busy machine may add to the patience of a worker."""
LISTENING, CONNECTED = "0A", "01"

pytestmark = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="needs /proc to find who serves a connection; runs on Linux"
)


class Client:
    """One connection at a time, one request after the other, at once."""

    def __init__(self, server: Server, seed: int) -> None:
        self._port = port_of(server)
        self._dice = random.Random(seed)
        self.answered: dict[bytes, float] = {}
        """How long each answer took, by its request id."""
        self.others: list[str] = []
        """Answers that are none."""
        self.broken: list[int | None] = []
        """Ports that broken connections came from; None for one without an answer so far: a worker may be dealt it as it dies."""
        self.at: int | None = None
        """The port of this connection, once an answer came."""

    async def ask(self, until: asyncio.Event) -> None:
        while not until.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                with closing(writer):
                    while not until.is_set():
                        await self._one(reader, writer)
                        self.at = writer.get_extra_info("sockname")[1]
            except (ConnectionError, asyncio.IncompleteReadError):
                self.broken.append(self.at)
            self.at = None

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = asyncio.get_running_loop().time()
        user = self._dice.randrange(100)
        writer.write(
            f"GET /v1/recommendations/home?user_id={user}&k=5 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        async with asyncio.timeout(PATIENCE_S + GRACE_S + SLACK_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head)
            assert length is not None, head
            body = await reader.readexactly(int(length.group(1)))
        if not head.startswith("HTTP/1.1 200"):
            self.others.append(head + body.decode())
            return
        answer = msgspec.json.decode(body)
        assert answer["user_id"] == user
        self.answered[parse_id(answer["request_id"])] = asyncio.get_running_loop().time() - began


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def connections(port: int) -> Iterator[tuple[str, int, str]]:
    """State, the other side's port and inode of each socket of a port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, state, *_, inode = line.split()[:10]
        if int(here.rpartition(":")[2], 16) == port:
            yield state, int(there.rpartition(":")[2], 16), inode


def served_by(worker: int, port: int) -> set[int]:
    """The ports that the connections of a worker come from."""
    held = {os.readlink(entry) for entry in Path(f"/proc/{worker}/fd").iterdir()}
    return {
        there
        for state, there, inode in connections(port)
        if f"socket:[{inode}]" in held and state == CONNECTED
    }


def all_listen(server: Server) -> bool:
    workers = server.workers()
    return len(workers) == WORKERS == sum(state == LISTENING for state, *_ in connections(port_of(server)))


async def kill_under_load(server: Server) -> tuple[list[Client], set[int]]:
    """Kill one after the other. Returns the clients, and the ports of connections to workers that were killed."""
    clients, until, dice, doomed = (
        [Client(server, n) for n in range(CLIENTS)],
        asyncio.Event(),
        random.Random(3),
        set(),
    )
    tasks = [asyncio.create_task(client.ask(until)) for client in clients]
    kills = 0

    def delayed() -> bool:
        return any(took > PATIENCE_S for client in clients for took in client.answered.values())

    while kills < KILLS or (kills < MOST_KILLS and not delayed()):
        async with asyncio.timeout(60):
            while not all_listen(server) or any(client.at is None for client in clients):
                await asyncio.sleep(0.02)
        await asyncio.sleep(dice.uniform(0.0, 0.2))
        victim = dice.choice(server.workers())
        os.kill(victim, signal.SIGSTOP)
        doomed |= served_by(victim, port_of(server))
        os.kill(victim, signal.SIGKILL)
        kills += 1
        while victim in server.workers():
            await asyncio.sleep(0.01)
    await asyncio.sleep(PATIENCE_S + GRACE_S)
    until.set()
    await asyncio.gather(*tasks)
    assert delayed(), "no worker was killed with a request in hand that another one had been asked"
    return clients, doomed


def test_a_killed_worker_costs_its_own_connections_only(
    service: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "home"
    shutil.copytree(service.root, root)
    before = shown(root)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    server = Server(root, WORKERS)
    try:
        held = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        clients, doomed = asyncio.run(kill_under_load(server))
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) == held
        assert not [path for path in temporary.rglob("*") if path.is_socket()]
        server.process.terminate()
        assert server.process.wait(60) == 0
    finally:
        server.kill()
    assert [other for client in clients for other in client.others] == []
    broken = [port for client in clients for port in client.broken]
    assert {port for port in broken if port is not None} <= doomed
    slowest = max(took for client in clients for took in client.answered.values())
    assert slowest < PATIENCE_S + GRACE_S + SLACK_S
    # An answer that never arrived was on its way through a connection that broke.
    exposed = shown(root)[len(before) :]
    assert len(set(exposed)) == len(exposed)
    answered = {request for client in clients for request in client.answered}
    assert len(set(exposed) - answered) <= len(broken)


def shown(root: Path) -> list[bytes]:
    """Request ids in the exposure log."""
    log = Home.open(root, environ={}).log
    try:
        return [
            row.request_id
            for row in decode_exposures(log.read(EXPOSURES_TOPIC, 0, 1_000_000).records)[2].items
        ]
    finally:
        log.close()
