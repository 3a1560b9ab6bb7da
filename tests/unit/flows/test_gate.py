"""The gate: worse beyond the interval is refused, equal and better pass, and what cannot be compared says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.bundle import BundleStore, BundleWriter
from segue.evaluation.protocols import Evaluation
from segue.flows.gate import GATED, judge, save_cases, saved_cases

USERS = np.repeat(np.arange(80), 3)
DICE = np.random.default_rng(0)
CHAMPION = DICE.random(len(USERS)) * 0.4 + 0.2
NOISE = DICE.normal(0, 0.02, len(USERS))


def results(values: np.ndarray) -> dict[str, Evaluation]:  # type: ignore[type-arg]
    """The same values on every gated task."""
    return {task: Evaluation(task, USERS, {metric: values}) for task, metric in GATED.items()}


def champion(values: np.ndarray = CHAMPION) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return dict.fromkeys(GATED, values)


@pytest.mark.parametrize(("change", "passes"), [(0.0, True), (0.02, True), (-0.02, False)])
def test_only_what_is_worse_beyond_the_interval_is_refused(change: float, passes: bool) -> None:
    verdict = judge(results(CHAMPION + NOISE - NOISE.mean() + change), champion(), 0.0)
    assert verdict.passed is passes
    assert len(verdict.comparisons) == len(GATED)
    for compared in verdict.comparisons:
        assert compared.difference == pytest.approx(change, abs=1e-9)
        assert compared.ci95 is not None
        assert compared.ci95[0] <= change <= compared.ci95[1]
    assert ("worse than the champion" in verdict.reason) is not passes
    assert "ndcg" in verdict.reason


def test_an_equal_challenger_passes() -> None:
    verdict = judge(results(CHAMPION), champion(), 0.0)
    assert verdict.passed
    assert all(c.difference == 0 and c.ci95 == (0, 0) for c in verdict.comparisons)


def test_noise_alone_is_no_reason() -> None:
    noisy = CHAMPION + DICE.normal(-0.0005, 0.05, len(USERS))
    assert judge(results(noisy), champion(), 0.0).passed


def test_one_worse_task_is_enough() -> None:
    challenger = results(CHAMPION + 0.1)
    last = list(GATED)[-1]
    challenger[last] = Evaluation(last, USERS, {GATED[last]: CHAMPION - 0.1})
    verdict = judge(challenger, champion(), 0.0)
    assert not verdict.passed
    assert verdict.reason.startswith(last)


def test_tolerance_is_a_share_of_the_champion() -> None:
    slightly_worse = results(CHAMPION * 0.97)
    assert not judge(slightly_worse, champion(), 0.0).passed
    assert not judge(slightly_worse, champion(), 0.02).passed
    assert judge(slightly_worse, champion(), 0.04).passed


def test_without_a_champion_the_first_passes_and_says_so() -> None:
    verdict = judge(results(CHAMPION), {}, 0.0)
    assert verdict.passed
    assert verdict.reason == "no champion to compare with"
    assert all(c.note is not None and c.ci95 is None for c in verdict.comparisons)


def test_results_are_kept_with_a_bundle_for_its_split_only(tmp_path: Path) -> None:
    with BundleWriter(tmp_path) as writer:
        save_cases(writer, results(CHAMPION), split=5)
        version = writer.finish(version_prefix="x", data_through="2026-11-21", settings="", tracks=1).version
    bundle = BundleStore(tmp_path).open(version)
    kept = saved_cases(bundle, 5)
    assert set(kept) == set(GATED)
    for values in kept.values():
        np.testing.assert_array_equal(values, CHAMPION)
    assert saved_cases(bundle, 6) == {}
