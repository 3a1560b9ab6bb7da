"""Records written in the background: whatever the disk does meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import pytest

from segue.contracts.errors import Unavailable
from segue.wiring import background
from segue.wiring.background import BackgroundWriter


class Disk:
    """A log that fails a number of times."""

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.kept: list[bytes] = []

    def append(self, topic: str, records: Sequence[bytes]) -> None:
        """Keep the records, or fail."""
        if records and self.faults:
            self.faults -= 1
            raise Unavailable("no room", field="log")
        self.kept += records


def opened(disk: Disk, most: int = 100) -> BackgroundWriter:
    return BackgroundWriter(disk, "notes", most)  # type: ignore[arg-type]


def numbered(n: int) -> list[bytes]:
    return [str(i).encode() for i in range(n)]


def test_closing_writes_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FLUSH_S", 60.0)
    disk = Disk()
    writer = opened(disk)
    assert all(writer.add(record) for record in numbered(50))
    writer.close()
    assert disk.kept == numbered(50)


def test_a_disk_that_recovers_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FLUSH_S", 0.01)
    disk = Disk(faults=3)
    writer = opened(disk)
    for record in numbered(20):
        writer.add(record)
        time.sleep(0.005)
    deadline = time.monotonic() + 10
    while len(disk.kept) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()
    assert disk.kept == numbered(20)


def test_what_does_not_fit_is_counted_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "FLUSH_S", 60.0)
    disk = Disk()
    writer = opened(disk, most=10)
    with caplog.at_level(logging.ERROR, "segue.background"):
        assert [writer.add(record) for record in numbered(13)] == [True] * 10 + [False] * 3
        writer.close()
    assert disk.kept == numbered(10)
    assert "3 records are missing from notes" in caplog.text
