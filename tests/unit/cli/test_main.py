"""What commands load, and that the table of commands says what the commands say of themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segue.cli.main import COMMANDS, load
from segue.wiring.home import Home

OFFLINE = {"pandas", "lightgbm", "ibis", "sqlglot", "duckdb", "deltalake", "scipy.sparse"}
"""Libraries of training and of the warehouse, seconds to load: a process that answers requests has none of them."""
HEAVY = OFFLINE | {"numba", "numpy", "pyarrow", "granian"}
ANSWER = """
import sys
from pathlib import Path
from segue.cli import recommend, serving
from segue.recommend.api import Request
from segue.wiring.platform import open_platform

platform = open_platform(Path(sys.argv[1]), None, {}, ())
assert platform.recommend(Request(surface="home", user_id=platform.listeners("", 1)[0].user_id)).items
platform.close()
"""


def loaded(code: str, *arguments: object) -> set[str]:
    """The modules that a fresh process has loaded when the code has run."""
    report = (
        f"{code}\nimport sys\nprint(*(name for name, module in sys.modules.items() if module is not None))"
    )
    command = [sys.executable, "-c", report, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    found = load(name)
    assert found.help.startswith(COMMANDS[name].help.removesuffix("."))


def test_listing_the_commands_loads_none() -> None:
    assert not loaded("from segue.cli.main import app\napp(['--help'], standalone_mode=False)") & HEAVY


def test_looking_at_bundles_needs_neither_training_nor_compiler(tmp_path: Path) -> None:
    code = "from segue.cli.main import app\nimport sys\napp(['bundle', 'list', '--home', sys.argv[1]], standalone_mode=False)"
    assert not loaded(code, tmp_path) & {"lightgbm", "numba", "granian"}


def test_a_worker_answers_without_the_libraries_of_training(service: Home, tmp_path: Path) -> None:
    assert not loaded(ANSWER, shutil.copytree(service.root, tmp_path / "home")) & OFFLINE
