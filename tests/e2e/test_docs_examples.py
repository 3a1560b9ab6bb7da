"""What the documents tell a reader to do, done: shell blocks against a real server, tables and mappings of the import page."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from command import environment, rows, segue
from test_real_server import Server

from segue.contracts.ids import named_id
from segue.contracts.tables import LISTENERS, TRACKS
from segue.wiring.home import Home

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def server(service: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a copy of the published service."""
    home = tmp_path_factory.mktemp("docs") / "home"
    shutil.copytree(service.root, home)
    running = Server(home)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")),
    reason="curl or jq is not installed; on Debian: apt-get install -y curl jq",
)
def test_the_shell_examples_of_the_api_work_as_they_stand(server: Server) -> None:
    said = []
    for block in blocks("how-to/api.md", "bash"):
        script = block.replace("http://127.0.0.1:8080", server.url).replace(
            "curl ", "curl -sS --fail-with-body "
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment(None),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        said.append(done.stdout)
    page, told, found = said
    items = msgspec.json.decode(page)["items"]
    assert len(items) == 20
    assert all(item["why"]["text"] for item in items)
    assert msgspec.json.decode(told)["accepted"] == 1
    assert b'"known":false' in found.encode()
    assert str(named_id("user", "my-service:ana")) in found


def test_the_tables_and_mappings_of_the_import_page_meet(tmp_path: Path) -> None:
    tables, mappings = blocks("how-to/import.md", "csv"), blocks("how-to/import.md", "toml")
    home = tmp_path / "home"
    for name, table, mapping in zip(("plays", "tracks"), tables, mappings, strict=True):
        (tmp_path / f"{name}.csv").write_text(table)
        (tmp_path / f"{name}.toml").write_text(mapping)
        done = segue(
            home,
            "import",
            "table",
            str(tmp_path / f"{name}.csv"),
            "--mapping",
            str(tmp_path / f"{name}.toml"),
            "--json",
        )
        assert done.json["rejected"] == {}, done.out
        assert done.json["landed"] == len(table.splitlines()) - 1
        assert "warning" not in done.err, done.err
    found = rows(home, TRACKS, "title", "genre", "duration_ms", "external_id").to_pylist()
    assert {(row["title"], row["genre"], row["duration_ms"]) for row in found} == {
        ("Night Bus", "ambient", 183_000),
        ("Terminal", "techno", 241_000),
    }
    assert set(rows(home, LISTENERS, "user_id")["user_id"].to_pylist()) == {
        named_id("user", f"my-service:{name}") for name in ("ana", "ben")
    }
