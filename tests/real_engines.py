"""Real engines for tests, each in a place of its own: DuckDB, Spark in this process, BigQuery's client against an emulator.

An engine that is not on this machine is skipped by name, with the way to install it. At the end of a run it is said which
engines really ran, and a whole run fails if one that is installed did not.
"""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

import bigquery_emulator
from bigquery_emulator import Emulator
from real_stores import is_whole
from segue.contracts.ports import Engine
from segue.settings.tree import Spark, Warehouse
from segue.wiring.engines import open_engine


@dataclass(frozen=True)
class Kind:
    """An engine: whether it is installed here, and how to install it."""

    install: str
    installed: Callable[[], bool]


KINDS = {
    "duckdb": Kind("make .venv/.ready", lambda: True),
    "spark": Kind(
        "make engines, and Java 17",
        lambda: find_spec("pyspark") is not None and shutil.which("java") is not None,
    ),
    "bigquery": Kind(
        f"make engines, and {bigquery_emulator.INSTALL}",
        lambda: find_spec("google.cloud.bigquery") is not None and bigquery_emulator.PROGRAM.exists(),
    ),
}
ENGINES = tuple(KINDS)
OF_SPARK = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""For tests on Spark: PySpark leaves sockets to the garbage collector."""
EngineOf = Callable[[str, Warehouse], Engine]
SPARK = Spark(conf={"spark.sql.shuffle.partitions": "2", "spark.sql.codegen.wholeStage": "false"})
"""The tests' tables are small: Java compiled for each query would cost more than it saves."""


class Places:
    """Where engines are for tests. BigQuery's emulator is started once per test process, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._emulator: Emulator | None = None

    @property
    def emulator(self) -> Emulator:
        """The emulator. Skips where it is not installed."""
        _skip_unless_installed("bigquery")
        if self._emulator is None:
            self._emulator = Emulator(self._folder)
        return self._emulator

    def settings(self, kind: str, settings: Warehouse) -> Warehouse:
        """The settings with that engine, in a dataset of their own. Skips where it is not installed."""
        _skip_unless_installed(kind)
        if kind == "spark":
            return msgspec.structs.replace(settings, engine="spark", memory_mb=1024, threads=2, spark=SPARK)
        if kind == "bigquery":
            return msgspec.structs.replace(settings, engine="bigquery", bigquery=self.emulator.place())
        return msgspec.structs.replace(settings, engine="duckdb")

    def stop(self) -> None:
        """End what was started."""
        if self._emulator is not None:
            self._emulator.stop()


def _skip_unless_installed(kind: str) -> None:
    if not KINDS[kind].installed():
        pytest.skip(f"{kind}: not installed here; {KINDS[kind].install}")


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Settings of each engine."""
    made = Places(tmp_path_factory.mktemp("engines"))
    yield made
    made.stop()


@pytest.fixture
def engine_of(request: pytest.FixtureRequest, places: Places, tmp_path: Path) -> Iterator[EngineOf]:
    """Opens an engine without tables, by the wiring that the platform uses; the test is counted as having run on it."""
    opened: list[Engine] = []

    def make(kind: str, settings: Warehouse) -> Engine:
        chosen = places.settings(kind, settings)
        request.node.user_properties.append((RAN, kind))
        opened.append(open_engine(tmp_path / f"tables of 100% {kind}", chosen))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()
    gc.collect()


RAN = "engine"
_COUNTS: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the passed tests of each engine; in the process that prints the summary, also those of the workers."""
    if report.when == "call" and report.passed:
        _COUNTS.update(kind for name, kind in report.user_properties if name == RAN)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A whole run fails if an engine that is installed did not run."""
    if _silent(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which engines ran."""
    if _COUNTS:
        ran = ", ".join(f"{kind} ({_COUNTS[kind]} tests)" for kind in ENGINES if _COUNTS[kind])
        terminalreporter.write_line(f"real engines: {ran}")
    for name, kind in KINDS.items():
        if is_whole(config) and not kind.installed():
            terminalreporter.write_line(f"not installed, so not tested: {name}; {kind.install}", yellow=True)
    for name in _silent(config):
        terminalreporter.write_line(f"installed, and yet no test ran on it: {name}", red=True)


def _silent(config: pytest.Config) -> list[str]:
    if not is_whole(config):
        return []
    return [name for name, kind in KINDS.items() if kind.installed() and not _COUNTS[name]]
