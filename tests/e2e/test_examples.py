"""The examples do what they say, each as a program of its own; CONTRIBUTING shows the same code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import environment, rows

from segue.contracts.ids import named_id
from segue.contracts.tables import ARTISTS, LISTENS, RAW_EVENTS, TRACKS
from segue.wiring.home import Home

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def home(service: Home, tmp_path: Path) -> Path:
    """A copy of the published service."""
    return Path(shutil.copytree(service.root, tmp_path / "home"))


def run(home: Path, name: str, *arguments: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def keen(home: Path) -> str:
    """The listener with most listens."""
    users, counts = np.unique(rows(home, LISTENS, "user_id")["user_id"].to_numpy(), return_counts=True)
    return str(users[np.argmax(counts)])


def test_a_feature(home: Path) -> None:
    first, *tracks = run(home, "feature.py").splitlines()
    assert first == "track_repost_rate_28d: Reposts per play."
    values = [float(line.rpartition(" ")[2]) for line in tracks]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)
    assert values[0] > 0


def test_a_source(home: Path) -> None:
    first, *lines = run(home, "source.py", keen(home)).splitlines()
    proposed = re.fullmatch(r"deep_cuts proposed (\d+) tracks, of which were shown:", first)
    assert proposed is not None
    assert 0 < int(proposed[1]) <= 50
    assert lines


def test_a_surface(home: Path) -> None:
    *items, last = run(home, "surface.py", keen(home)).splitlines()
    assert [line.partition(".")[0] for line in items] == [str(n) for n in range(1, 11)]
    assert last == "sources: own_plays, co_listened, followed, trending"


def test_an_importer(tmp_path: Path) -> None:
    history = [
        {"endTime": "2023-05-01 12:34", "artistName": "Ona", "trackName": "Night Bus", "msPlayed": 183_000},
        {"endTime": "2023-05-01 12:35", "artistName": "Ona", "trackName": "Terminal", "msPlayed": 4_000},
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "StreamingHistory_music_0.json").write_text(json.dumps(history))
    home = tmp_path / "home"
    counts = [json.loads(run(home, "importer.py", str(folder)).splitlines()[0]) for _ in range(2)]
    assert [(c["read"], c["landed"], c["duplicate"], c["rejected"]) for c in counts] == [
        (2, 2, 0, {}),
        (2, 0, 2, {}),
    ]
    events = rows(home, RAW_EVENTS, "user_id", "type", "ms_played").to_pylist()
    me = named_id("user", "spotify:me")
    assert {(e["user_id"], e["type"], e["ms_played"]) for e in events} == {
        (me, "play", 183_000),
        (me, "skip", 4_000),
    }
    assert set(rows(home, TRACKS, "title")["title"].to_pylist()) == {"Night Bus", "Terminal"}
    assert rows(home, ARTISTS, "name")["name"].to_pylist() == ["Ona"]


def test_every_example_is_listed_and_shown() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        assert path.name in listed or path.name in ("README.md", "__pycache__")
    whole = "".join(path.read_text(encoding="utf-8") for path in EXAMPLES.iterdir() if path.is_file())
    shown = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    assert shown
    for block in shown:
        assert block in whole, f"CONTRIBUTING shows code that no example has:\n{block}"
