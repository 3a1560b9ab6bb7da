"""The gate: worse beyond the interval is refused, equal and better pass, and what cannot be compared says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.bundle import BundleStore, BundleWriter
from segue.evaluation.protocols import Plays, Split, temporal_split
from segue.flows.gate import (
    GATED,
    OTHER_REQUESTS,
    Cases,
    identities,
    judge,
    same_cases,
    save_cases,
    saved_cases,
    with_rungs,
)
from segue.flows.verdicts import Comparison, Verdict
from segue.settings.tree import Gate

USERS = np.repeat(np.arange(80), 3)
CASES = np.arange(len(USERS), dtype=np.uint64)
DICE = np.random.default_rng(0)
CHAMPION = DICE.random(len(USERS)) * 0.4 + 0.2
NOISE = DICE.normal(0, 0.02, len(USERS))


def results(values: np.ndarray) -> dict[str, Cases]:  # type: ignore[type-arg]
    """The same values on every gated task."""
    return {task: Cases(CASES, USERS, values) for task in GATED}


@pytest.mark.parametrize(("change", "passes"), [(0.0, True), (0.02, True), (-0.02, False)])
def test_only_what_is_worse_beyond_the_interval_is_refused(change: float, passes: bool) -> None:
    verdict = judge(results(CHAMPION + NOISE - NOISE.mean() + change), results(CHAMPION), Gate())
    assert verdict.passed is passes
    assert len(verdict.comparisons) == len(GATED)
    for compared in verdict.comparisons:
        assert compared.difference == pytest.approx(change, abs=1e-9)
        assert compared.ci95 is not None
        assert compared.ci95[0] <= change <= compared.ci95[1]
    assert ("worse than the champion" in verdict.reason) is not passes
    assert "ndcg" in verdict.reason


def test_an_equal_challenger_passes() -> None:
    verdict = judge(results(CHAMPION), results(CHAMPION), Gate())
    assert verdict.passed
    assert all(c.difference == 0 and c.ci95 == (0, 0) for c in verdict.comparisons)


def test_noise_alone_is_no_reason() -> None:
    noisy = CHAMPION + DICE.normal(-0.0005, 0.05, len(USERS))
    assert judge(results(noisy), results(CHAMPION), Gate()).passed


def test_one_worse_task_is_enough() -> None:
    challenger = results(CHAMPION + 0.1)
    last = list(GATED)[-1]
    challenger[last] = Cases(CASES, USERS, CHAMPION - 0.1)
    verdict = judge(challenger, results(CHAMPION), Gate())
    assert not verdict.passed
    assert verdict.reason.startswith(last)


def test_tolerance_is_a_share_of_the_champion() -> None:
    slightly_worse = results(CHAMPION * 0.97)
    assert not judge(slightly_worse, results(CHAMPION), Gate()).passed
    assert not judge(slightly_worse, results(CHAMPION), Gate(tolerance=0.02)).passed
    assert judge(slightly_worse, results(CHAMPION), Gate(tolerance=0.04)).passed


def test_without_a_champion_the_first_passes_and_says_so() -> None:
    verdict = judge(results(CHAMPION), {}, Gate())
    assert verdict.passed
    assert verdict.reason == "no champion to compare with"
    assert all(c.note is not None and c.ci95 is None for c in verdict.comparisons)


@pytest.mark.parametrize("other", [CASES[::-1], CASES + 1, CASES[:-1]])
@pytest.mark.parametrize(("change", "passes"), [(0.0, True), (-0.01, True), (-0.2, False)])
def test_other_cases_are_compared_by_their_means_with_more_room(
    other: np.ndarray,  # type: ignore[type-arg]
    change: float,
    passes: bool,
) -> None:
    n = len(other)
    champion = {task: Cases(other, USERS[:n], CHAMPION[:n]) for task in GATED}
    assert not same_cases(results(CHAMPION), champion)
    verdict = judge(results(CHAMPION + change), champion, Gate(drift=0.1))
    assert verdict.passed is passes
    assert OTHER_REQUESTS in verdict.reason
    assert {c.note for c in verdict.comparisons} == {OTHER_REQUESTS}


def split_of(plays: Plays) -> Split:
    return temporal_split(plays, 200, 400)


def test_a_case_is_known_by_what_was_asked_and_what_was_right() -> None:
    n = 400
    ts = DICE.permutation(n).astype(np.int64)
    plays = Plays(DICE.integers(0, 9, n), DICE.integers(0, 30, n), ts, ts // 40)
    split = split_of(plays)
    again = split_of(Plays(*(column[::-1] for column in (plays.user, plays.track, plays.ts, plays.session))))
    for task in GATED:
        known = identities(split, task)
        assert len(np.unique(known)) == len(known) > 5
        np.testing.assert_array_equal(known, identities(again, task))
    late = DICE.permutation(n)[:1]
    other = plays.track.copy()
    other[late] = 31
    changed = identities(split_of(replace(plays, track=other)), "next-up")
    assert 0 < len(np.setdiff1d(changed, identities(split, "next-up"))) < len(changed)


def test_results_are_kept_with_a_bundle(tmp_path: Path) -> None:
    with BundleWriter(tmp_path) as writer:
        save_cases(writer, results(CHAMPION), split=5)
        version = writer.finish(version_prefix="x", data_through="2026-11-21", settings="", tracks=1).version
    bundle = BundleStore(tmp_path).open(version)
    assert same_cases(saved_cases(bundle), results(CHAMPION))
    for kept in saved_cases(bundle).values():
        np.testing.assert_array_equal(kept.value, CHAMPION)
    assert bundle.json("gate/split") == 5


def test_results_of_an_older_version_are_none(tmp_path: Path) -> None:
    with BundleWriter(tmp_path) as writer:
        for task in GATED:
            writer.arrays(f"gate/{task}", {"user": USERS, "value": CHAMPION})
        version = writer.finish(version_prefix="x", data_through="2026-11-21", settings="", tracks=1).version
    assert saved_cases(BundleStore(tmp_path).open(version)) == {}


def test_a_rung_that_expects_harm_refuses_and_a_silent_one_does_not() -> None:
    passed = judge(results(CHAMPION), results(CHAMPION), Gate())
    good = Comparison("simulation", "listens_per_listener", 5.1, 5.0, 0.1, (-0.1, 0.3), "some listeners")
    bad = Comparison("interleaving", "listens on a page", 4.0, 5.0, -1.0, (-1.2, -0.8))
    silent = Comparison("off-policy", "", note="no support")
    found = with_rungs(passed, [good, silent], Gate())
    assert found.passed
    assert found.comparisons[-2:] == (good, silent)
    assert "off-policy: silent" in found.reason
    found = with_rungs(passed, [good, bad, silent], Gate())
    assert not found.passed
    assert "interleaving expects harm" in found.reason
    assert with_rungs(passed, [bad], Gate(tolerance=0.25)).passed
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found
