"""Server, landing, publishing and filling of state killed while events come in: what was acknowledged is everywhere, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from rounds import play_rounds


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs /proc to find the workers; runs on Linux"
)
def test_what_was_acknowledged_is_in_log_state_and_tables_exactly_once(tmp_path: Path) -> None:
    found = play_rounds(tmp_path, rounds=3, seed=7)
    assert found.lost.total() == 0, found.line()
    assert found.doubled.total() == 0, found.line()
    assert found.once == found.acknowledged > 100, found.line()
    assert found.kills["server"] == 3
