"""Metrics: what is counted, once, in one process and over several."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

from segue.monitoring.metrics import MAX_REASONS, Metrics
from segue.recommend.api import Response, Stage, Trace


def samples(metrics: Metrics) -> dict[str, float]:
    """Name and labels to value."""
    lines = (
        line.rpartition(" ") for line in metrics.page().decode().splitlines() if not line.startswith("#")
    )
    return {name: float(value) for name, _, value in lines}


def answer(surface: str = "home") -> Response:
    """An answer without items, from which one source was left out."""
    stages = (Stage("hydrate", 0.2, 1), Stage("graph", 50.0, 0, "too late"))
    return Response("r", surface, 1, 0, "b", "c", (), (), Trace(stages, {"hidden": 3, "lost": 40}, True))


def test_an_answer_is_counted_in_all_its_parts() -> None:
    metrics = Metrics()
    metrics.answer(answer())
    metrics.answer(answer("station"))
    found = samples(metrics)
    assert found['segue_stage_seconds_count{stage="graph",surface="home"}'] == 1
    assert found['segue_stage_seconds_sum{stage="graph",surface="home"}'] == 0.05
    assert found['segue_degraded_total{stage="graph",surface="home"}'] == 1
    assert 'segue_degraded_total{stage="hydrate",surface="home"}' not in found
    assert found['segue_removed_candidates_total{reason="hidden",surface="station"}'] == 3
    assert found['segue_empty_answers_total{surface="home"}'] == 1


def test_requests_and_waits_fall_into_their_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.004, 0.04, 4.0):
        metrics.request("GET", "recommendations", "home", 200, seconds)
        metrics.waited("read", seconds)
    found = samples(metrics)
    for name, labels in (
        ("http_request", 'route="recommendations",surface="home"'),
        ("lane_wait", 'lane="read"'),
    ):
        parts = labels.split(",")
        counts = []
        for le in ("0.001", "0.005", "0.05", "2.5", "+Inf"):
            key = ",".join(sorted([*parts, f'le="{le}"']))
            counts.append(found[f"segue_{name}_seconds_bucket{{{key}}}"])
        assert counts == [1, 2, 3, 3, 4]


def test_reasons_that_callers_invent_are_bounded() -> None:
    metrics = Metrics()
    metrics.events(5, (f"unknown_{n}" for n in range(MAX_REASONS + 50)))
    found = samples(metrics)
    assert found['segue_events_total{reason="",result="accepted"}'] == 5
    assert found['segue_events_total{reason="other",result="rejected"}'] == 50
    assert sum(name.startswith("segue_events_total") for name in found) == MAX_REASONS + 2


def test_a_new_bundle_replaces_the_one_before() -> None:
    metrics = Metrics()
    for version in ("a", "a", None, "b"):
        metrics.bundle(version)
    found = samples(metrics)
    assert found['segue_workers_by_bundle{bundle="a"}'] == 0
    assert found['segue_workers_by_bundle{bundle="b"}'] == 1


def work(directory: str, times: int) -> None:
    """What a worker does: count, then end without a word."""
    metrics = Metrics(Path(directory))
    for _ in range(times):
        metrics.answer(answer())
    metrics.bundle("b")
    os._exit(0)


def live_and_die(directory: Path, *counts: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(str(directory), times)) for times in counts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def test_numbers_of_all_workers_add_up_and_the_dead_are_no_longer_live(tmp_path: Path) -> None:
    live_and_die(tmp_path, 3, 4)
    (tmp_path / "counter_999999999.db").touch()  # killed when it had only just opened it
    metrics = Metrics(tmp_path)
    metrics.answer(answer())
    metrics.bundle("b")
    for dead in (7, 7, 12):
        if dead == 12:
            live_and_die(tmp_path, 5)
        found = samples(metrics)
        stage = 'stage="graph",surface="home"'
        assert found[f"segue_stage_seconds_count{{{stage}}}"] == dead + 1
        assert found[f'segue_stage_seconds_bucket{{le="0.05",{stage}}}'] == dead + 1
        assert found[f"segue_degraded_total{{{stage}}}"] == dead + 1
        assert found['segue_workers_by_bundle{bundle="b"}'] == 1
        files = {file.name for file in tmp_path.glob("*.db")}
        assert files == {
            f"{kind}_{who}.db" for kind in ("counter", "histogram") for who in ("gone", os.getpid())
        } | {f"gauge_{mode}_{os.getpid()}.db" for mode in ("livesum", "livemax")}


def counts_without_a_directory(folder: Path) -> None:
    metrics = Metrics(folder)
    shutil.rmtree(folder)
    metrics.waited("read", 0.1)
    metrics.request("GET", "recommendations", "home", 200, 0.1)
    metrics.answer(answer())
    metrics.bundle("b")


def test_a_directory_that_is_swept_harms_no_request(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    worker = multiprocessing.get_context("spawn").Process(
        target=counts_without_a_directory, args=(tmp_path / "m",)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 0
