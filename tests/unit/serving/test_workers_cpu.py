"""A worker keeps to a CPU of its own where there are as many workers as CPUs, and nowhere else."""

from __future__ import annotations

import os

import pytest

from segue.serving.workers import keep_to_cpu

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")


@pytest.mark.parametrize(
    ("cpus", "workers", "kept"),
    [({3, 8}, 2, [{3}, {8}]), ({3, 8}, 1, [None]), ({3, 8}, 3, [None] * 3), ({5}, 1, [{5}])],
)
def test_each_worker_has_its_own_cpu(
    monkeypatch: pytest.MonkeyPatch, cpus: set[int], workers: int, kept: list[set[int] | None]
) -> None:
    chosen: list[set[int] | None] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, found: chosen.append(found))
    for worker in range(workers):
        before = len(chosen)
        keep_to_cpu(worker, workers)
        if len(chosen) == before:
            chosen.append(None)
    assert chosen == kept
