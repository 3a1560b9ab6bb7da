"""`segue` as processes: the installed program, and the same commands forked from a process that has the libraries loaded."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from segue.cli.main import COMMANDS, app
from segue.contracts.schema import Table
from segue.wiring.home import Home

PROGRAM = Path(sys.prefix) / "bin" / "segue"
TINY = {
    "OPENBLAS_NUM_THREADS": "1",
    "SEGUE_WAREHOUSE__THREADS": "1",
    "SEGUE_TRAINING__THREADS": "1",
    "SEGUE_TRAINING__FACTORS": "8",
    "SEGUE_TRAINING__EPOCHS": "2",
    "SEGUE_TRAINING__RANKERS__HOME__TREES": "5",
    "SEGUE_TRAINING__RANKERS__HOME__REQUESTS": "50",
    "SEGUE_TRAINING__RANKERS__NEXT_UP__TREES": "5",
    "SEGUE_TRAINING__RANKERS__NEXT_UP__REQUESTS": "50",
    "SEGUE_TRAINING__NEIGHBOURS": "20",
    "SEGUE_GATE__MAX_REQUESTS": "100",
    "SEGUE_STATE__MAP_SIZE_MB": "64",
}
"""The smallest settings that still train every part."""


def rows(home: Path, table: Table, *columns: str) -> pa.Table:
    """Columns of a home's table as they stand."""
    engine = Home.open(home, environ={}, overrides=["warehouse.threads=1"]).engine
    try:
        return engine.collect(engine.read(table).select(*columns))
    finally:
        engine.close()


_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(sorted({command.module for command in COMMANDS.values()}))


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        assert self.code in (0, 3), self.err
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of a refusal: status 2, no traceback."""
        assert "Traceback" not in self.err, self.err
        assert self.code == 2, (self.code, self.err)
        last = self.err.rstrip().splitlines()[-1]
        assert last.startswith("error: "), self.err
        return last


def environment(home: Path | None, more: dict[str, str] | None = None) -> dict[str, str]:
    """Variables of a command: none of ours that the shell happens to have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    where = {} if home is None else {"SEGUE_HOME": str(home)}
    return kept | TINY | where | (more or {})


def program(home: Path | None, *arguments: str) -> Done:
    """The installed `segue`, started as a shell starts it."""
    done = subprocess.run(
        [PROGRAM, *arguments], env=environment(home), capture_output=True, text=True, timeout=300, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def segue(
    home: Path, *arguments: str, largest_file: int | None = None, more: dict[str, str] | None = None
) -> Done:
    """The same command in a process of its own that need not load the libraries first (seconds, many times over).

    No file it writes can grow beyond `largest_file` bytes: a disk that is full.
    """
    said = [home.parent / f".{home.name}.{stream}" for stream in ("out", "err")]
    process = _processes.Process(
        target=_become, args=(arguments, environment(home, more), largest_file, [str(path) for path in said])
    )
    process.start()
    process.join(300)
    assert process.exitcode is not None, arguments
    return Done(process.exitcode, *(path.read_text() for path in said))


def _become(
    arguments: tuple[str, ...], variables: dict[str, str], largest_file: int | None, said: list[str]
) -> None:
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.clear()
    os.environ.update(variables)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    app(list(arguments), prog_name="segue")
