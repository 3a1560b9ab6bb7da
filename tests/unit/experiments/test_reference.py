"""Ours against what gbstats and statsmodels answered (`make reference`), to four digits where the method is the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.experiments.statistics.arms import Pair, arm, pair, theta
from segue.experiments.statistics.compare import Difference, difference
from segue.experiments.statistics.moments import Moments
from segue.experiments.statistics.multiple import benjamini_hochberg, holm
from segue.experiments.statistics.power import units_needed
from segue.experiments.statistics.quantiles import quantile_arm
from segue.experiments.statistics.ratio_check import sample_ratio
from segue.experiments.statistics.sequential import always_valid_p, boundary
from segue.experiments.statistics.shrinkage import shrunk

HERE = Path(__file__).parents[2] / "reference"
sys.path.insert(0, str(HERE))

from reference_data import COOKIE_CATS, EFFECTS, PS, RARE, rows, units  # noqa: E402

ANSWERS = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
GBSTATS, STATSMODELS = ANSWERS["gbstats"], ANSWERS["statsmodels"]
TABLE = {name: [np.array(side) for side in sides] for name, sides in units().items()}


def to_four_digits(value: object) -> Any:
    return pytest.approx(value, rel=5e-5, abs=1e-12)


def pair_of(ratio: bool, adjusted: bool, *names: str) -> Pair:
    sides = [Moments.of(*(TABLE[name][variant] for name in names)) for variant in (0, 1)]
    return pair(*sides, ratio=ratio, adjusted=adjusted)


def told(found: Pair) -> Difference:
    gap = difference(found.control, found.treatment)
    assert gap is not None
    return gap


def agrees(gap: Difference, answer: dict[str, Any]) -> None:
    assert gap.value == to_four_digits(answer["absolute"]["effect"])
    assert gap.interval == to_four_digits(tuple(answer["absolute"]["ci"]))
    assert gap.p == to_four_digits(answer["absolute"]["p"])
    assert gap.relative is not None
    assert gap.relative.method == "delta"
    assert gap.relative.value == to_four_digits(answer["relative"]["effect"])
    assert gap.relative.interval == to_four_digits(tuple(answer["relative"]["ci"]))


def test_a_mean() -> None:
    gap = told(pair_of(False, False, "value"))
    agrees(gap, GBSTATS["mean"])
    assert gap.interval == to_four_digits(tuple(STATSMODELS["welch"]["ci"]))
    assert gap.p == to_four_digits(STATSMODELS["welch"]["p"])


def test_a_ratio() -> None:
    agrees(told(pair_of(True, False, "skips", "plays")), GBSTATS["ratio"])


def test_a_mean_with_its_pre_period() -> None:
    gap, answer = told(pair_of(False, True, "value", "pre")), GBSTATS["cuped"]
    assert gap.value == to_four_digits(answer["absolute"]["effect"])
    assert gap.interval == to_four_digits(tuple(answer["absolute"]["ci"]))
    assert gap.p == to_four_digits(answer["absolute"]["p"])
    assert gap.relative is not None
    # The relative interval differs: gbstats leaves out how the adjusted effect and the control's observed mean vary together.
    assert gap.relative.value == to_four_digits(answer["relative"]["effect"])
    assert gap.relative.interval == pytest.approx(tuple(answer["relative"]["ci"]), rel=0.02)


@pytest.mark.parametrize("name", COOKIE_CATS)
def test_proportions(name: str) -> None:
    sides = [Moments(n, np.array([x / n]), np.array([[x * (1 - x / n)]])) for n, x in COOKIE_CATS[name]]
    gap = told(pair(*sides, ratio=False, adjusted=False, binary=True))
    agrees(gap, GBSTATS[name])
    # Theirs is with the normal, ours and that of gbstats with Student's t.
    assert gap.interval == pytest.approx(tuple(STATSMODELS[name]["wald"]), rel=5e-5, abs=1e-6)
    assert gap.p == pytest.approx(STATSMODELS[name]["p"], abs=5e-5)


def test_few_who_have_it() -> None:
    sides = [Moments(n, np.array([x / n]), np.array([[x * (1 - x / n)]])) for n, x in RARE]
    found = pair(*sides, ratio=False, adjusted=False, binary=True)
    assert found.method == "agresti-caffo"
    assert told(found).interval == pytest.approx(tuple(STATSMODELS["rare"]["agresti-caffo"]), abs=5e-5)


def test_quantiles() -> None:
    control, treatment = (quantile_arm(side, None, 0.75) for side in TABLE["value"])
    assert control is not None
    assert treatment is not None
    agrees(told(Pair(control, treatment, None, "")), GBSTATS["quantile"])


def test_quantiles_of_many_rows_a_unit() -> None:
    control, treatment = (quantile_arm(np.array(v), np.array(u), 0.75) for v, u in rows())
    assert control is not None
    assert treatment is not None
    gap, answer = told(Pair(control, treatment, None, "")), GBSTATS["clustered quantile"]["absolute"]
    assert gap.value == to_four_digits(answer["effect"])
    # Theirs counts the degrees of freedom in rows and divides by n where ours has clusters - 1.
    assert gap.interval == pytest.approx(tuple(answer["ci"]), rel=2e-3)


def test_means_of_many_rows_a_unit_have_errors_by_unit() -> None:
    sides = []
    for values, of_unit in rows():
        count = np.bincount(of_unit).astype(float)
        sides.append(Moments.of(np.bincount(of_unit, weights=values), count))
    gap, answer = told(pair(*sides, ratio=True, adjusted=False)), STATSMODELS["clustered"]
    assert gap.value == to_four_digits(answer["effect"])
    clusters = sides[0].n
    assert gap.error == to_four_digits(answer["error"] * (clusters / (clusters - 1)) ** 0.5)


def test_always_valid_intervals() -> None:
    gap, answer = told(pair_of(False, False, "value")), GBSTATS["mean, sequential"]["absolute"]
    n = sum(len(side) for side in TABLE["value"])
    reach = boundary(n, 4000) * gap.error
    assert (gap.value - reach, gap.value + reach) == to_four_digits(tuple(answer["ci"]))
    assert always_valid_p(gap.value / gap.error, n, 4000) == to_four_digits(answer["p"])


def test_sample_ratio() -> None:
    cats = {name: n for name, (n, _) in zip(("gate_30", "gate_40"), COOKIE_CATS["retention_1"], strict=True)}
    found = sample_ratio(cats, dict.fromkeys(cats, 1.0))
    assert found.p == to_four_digits(GBSTATS["srm"])
    assert found.mismatch
    three = sample_ratio({"a": 1000, "b": 1090, "c": 2010}, {"a": 1, "b": 1, "c": 2})
    assert three.p == to_four_digits(GBSTATS["srm of three"])


def test_many_p_values() -> None:
    assert holm(PS) == to_four_digits(STATSMODELS["holm"])
    assert benjamini_hochberg(PS) == to_four_digits(STATSMODELS["benjamini-hochberg"])


def test_units_needed() -> None:
    # Theirs: of the first variant, whose share is a third.
    assert units_needed(1.0, 0.1, (1, 2), power=0.9) == pytest.approx(
        3 * STATSMODELS["units of one variant"], abs=1.5
    )


def test_whether_effects_are_the_same() -> None:
    effects, errors = np.array(EFFECTS).T
    assert shrunk(effects, errors).same_p == to_four_digits(STATSMODELS["effects are the same"])


def test_theta_is_the_slope_of_all_units() -> None:
    sides = [Moments.of(TABLE["value"][variant], TABLE["pre"][variant]) for variant in (0, 1)]
    found = theta(sides)
    assert found is not None
    slope = np.polyfit(np.concatenate(TABLE["pre"]), np.concatenate(TABLE["value"]), 1)[0]
    assert found.slope == to_four_digits(slope)
    assert arm(sides[0], adjust=found).variance < arm(sides[0]).variance
