"""From a table to numbers and a decision: what is right, and what must be refused or said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_experiment import daily, table, with_column

from segue.contracts.errors import InvalidData, InvalidInput
from segue.experiments.analysis import Analysis, analyze
from segue.experiments.metric import Metric
from segue.experiments.outcome import Comparison
from segue.experiments.statistics.multiple import holm
from segue.experiments.statistics.power import units_needed

MINUTES = Metric("minutes")
STAYED = Metric("stayed", kind="proportion")
SKIPS = Metric("skip_rate", kind="ratio", direction="down", role="guardrail", margin=0.05)
PLAYS = Metric("plays")


def one(found: Analysis, name: str, at: int = 0) -> Comparison:
    return found.metrics[name].comparisons[at]


def cookie_cats() -> pa.Table:
    """The two variants of a real experiment, with who came back after a week."""
    sides = [("gate_30", 44_700, 8_502), ("gate_40", 45_489, 8_279)]
    return pa.table(
        {
            "unit": np.arange(90_189),
            "variant": np.repeat([name for name, _, _ in sides], [n for _, n, _ in sides]),
            "stayed": np.concatenate([np.arange(n) < came for _, n, came in sides]),
        }
    )


# --- what is right


def test_a_lost_one_percent_is_noticed_before_anything_else() -> None:
    found = analyze(cookie_cats(), [STAYED])
    assert found.srm.mismatch
    assert found.srm.p == pytest.approx(0.0086, abs=5e-5)
    assert found.decision.verdict == "stop"
    assert "do not read" in found.decision.said
    assert "gate_30 has 394 units fewer" in found.decision.reasons[0]
    change = one(found, "stayed")
    assert change.effect == pytest.approx(-0.0082, abs=5e-5)
    assert change.p == pytest.approx(0.00155, abs=5e-5)
    assert change.control == "gate_30"


def test_shares_that_are_meant_are_no_mismatch() -> None:
    units = table(3000, variants=3)
    units = units.filter(pc.or_(pc.not_equal(units["variant"], "other"), pc.less(units["unit"], 1500)))
    assert analyze(units, [MINUTES]).srm.mismatch
    meant = analyze(units, [MINUTES], shares={"control": 2, "treatment": 2, "other": 1})
    assert not meant.srm.mismatch
    assert meant.srm.expected["other"] == pytest.approx(sum(meant.units.values()) / 5)


def test_a_variant_that_got_nobody_is_a_mismatch() -> None:
    found = analyze(table(), [MINUTES], shares={"control": 1, "treatment": 1, "lost": 1})
    assert found.units["lost"] == 0
    assert found.srm.mismatch
    lost = next(one for one in found.metrics["minutes"].comparisons if one.variant == "lost")
    assert lost.effect is None
    assert any("no unit of lost" in warning for warning in found.metrics["minutes"].warnings)


def test_every_variant_against_the_control() -> None:
    found = analyze(table(6000, variants=3, lift=0.1), [MINUTES, STAYED, SKIPS], control="other")
    assert [c.variant for c in found.metrics["minutes"].comparisons] == ["control", "treatment"]
    assert one(found, "minutes").effect is not None
    # Two goals of two variants: the smallest p is multiplied by four.
    ps = sorted(
        (c.p, c.p_adjusted) for name in ("minutes", "stayed") for c in found.metrics[name].comparisons
    )
    assert ps[0][1] == pytest.approx(min(1.0, 4 * ps[0][0]))
    assert one(found, "skip_rate").p_adjusted is None


def test_the_pre_period_narrows() -> None:
    units = table(4000, lift=0.1)
    adjusted = one(analyze(units, [MINUTES]), "minutes")
    plain = one(analyze(units.drop_columns(["minutes.pre"]), [MINUTES]), "minutes")
    assert adjusted.method == "welch+cuped"
    assert adjusted.error is not None
    assert plain.error is not None
    assert adjusted.variance_saved is not None
    assert adjusted.error / plain.error == pytest.approx((1 - adjusted.variance_saved) ** 0.5, rel=0.02)


def test_many_rows_of_a_unit_are_one_unit() -> None:
    units = table(1500, lift=0.1).drop_columns(["minutes.pre"])
    tripled = pa.concat_tables([units] * 3)
    once, thrice = (analyze(rows, [MINUTES, STAYED, SKIPS]) for rows in (units, tripled))
    assert thrice.units == once.units
    assert any("several rows" in warning for warning in thrice.warnings)
    for name in ("minutes", "stayed", "skip_rate"):
        a, b = one(once, name), one(thrice, name)
        assert b.effect == pytest.approx(a.effect)
        # A proportion's variance is the binomial's in the first, that of units in the second.
        assert b.error == pytest.approx(a.error, rel=1e-3)


def test_strata_narrow_and_segments_are_looked_at_with_a_warning() -> None:
    units = table(6000, lift=0.05)
    minutes = units["minutes"].to_numpy() + 20 * (units["country"].to_numpy(zero_copy_only=False) == "BR")
    units = with_column(units.drop_columns(["minutes.pre"]), "minutes", minutes)
    plain = one(analyze(units, [MINUTES]), "minutes")
    found = analyze(units, [MINUTES], stratify="country", segments=["country"])
    assert one(found, "minutes").method == "post-stratified"
    assert one(found, "minutes").error < 0.5 * plain.error
    part = found.metrics["minutes"].segments[0]
    assert {segment.segment for segment in part.segments} == {"DE", "FR", "BR"}
    assert "fishing" in part.warning
    widths = [s.ci95[1] - s.ci95[0] for s in part.segments]
    pulled = [s.shrunk_ci95[1] - s.shrunk_ci95[0] for s in part.segments]
    assert all(b < a for a, b in zip(widths, pulled, strict=True))


def test_many_segments_are_put_together() -> None:
    units = with_column(table(3000), "country", [f"c{min(n % 100, 40)}" for n in range(3000)])
    part = analyze(units, [MINUTES], segments=["country"]).metrics["minutes"].segments[0]
    # One large country, and forty of 30 units each, which are too small to stand alone.
    assert [(segment.segment, segment.units) for segment in part.segments] == [
        ("c40", 1800),
        ("(rest)", 1200),
    ]


def test_a_quantile() -> None:
    units = table(4000, lift=0.2).drop_columns(["minutes.pre"])
    metric = Metric("minutes", kind="quantile", quantile=0.9)
    found = analyze(units, [metric])
    sides = [
        np.quantile(units.filter(pc.equal(units["variant"], name))["minutes"].to_numpy(), 0.9)
        for name in ("control", "treatment")
    ]
    assert one(found, "minutes").effect == pytest.approx(sides[1] - sides[0])
    assert found.metrics["minutes"].variants["control"].mean == pytest.approx(sides[0])
    assert found.decision.verdict == "ship"


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_order_of_rows_is_nothing(seed: int) -> None:
    units = table(300, lift=0.1)
    shuffled = units.take(np.random.default_rng(seed).permutation(300))
    metrics = [MINUTES, STAYED, SKIPS, Metric("minutes.pre", kind="quantile", quantile=0.5)]
    a, b = (analyze(rows, metrics, segments=["country"]) for rows in (units, shuffled))
    assert a.units == b.units
    assert a.decision == b.decision
    for name in a.metrics:
        assert one(b, name).p == pytest.approx(one(a, name).p)
        assert one(b, name).ci95 == pytest.approx(one(a, name).ci95)


def test_variants_may_be_booleans_and_numbers() -> None:
    units = table(400)
    treated = [v == "treatment" for v in units["variant"].to_pylist()]
    assert analyze(with_column(units, "variant", treated), [MINUTES]).control == "False"
    unused = pa.DictionaryArray.from_arrays(
        pa.array([int(t) for t in treated]), ["control", "treatment", "never"]
    )
    assert list(analyze(with_column(units, "variant", unused), [MINUTES]).units) == ["control", "treatment"]
    coded = analyze(with_column(units, "variant", [int(t) for t in treated]), [MINUTES], control="1")
    assert one(coded, "minutes").variant == "0"


# --- decisions


@pytest.mark.parametrize(
    ("lift", "verdict", "why"),
    [(0.2, "ship", "better"), (-0.2, "stop", "worse"), (0.0, "stop", "not told apart")],
)
def test_a_goal_decides(lift: float, verdict: str, why: str) -> None:
    found = analyze(table(4000, lift=lift, seed=1), [MINUTES])
    assert found.decision.verdict == verdict
    assert why in " ".join(found.decision.reasons)
    assert found.decision.variant == ("treatment" if verdict == "ship" else None)


def test_what_has_no_effect_is_seldom_shipped() -> None:
    shipped = [
        analyze(table(300, variants=3, seed=seed), [MINUTES, STAYED]).decision.verdict == "ship"
        for seed in range(400)
    ]
    # Of four comparisons, half of the false alarms are for the worse.
    assert np.mean(shipped) < 0.05


def test_looking_again_and_again_ships_no_more() -> None:
    shipped = []
    for seed in range(200):
        units = table(1000, seed=seed)
        looks = [
            analyze(units.slice(0, n), [MINUTES], running=True, planned=1000) for n in range(100, 1001, 100)
        ]
        shipped.append(any(look.decision.verdict == "ship" for look in looks))
    assert np.mean(shipped) < 0.05


def test_a_planned_experiment_finds_its_effect() -> None:
    units = table(200_000).drop_columns(["minutes.pre"])
    mean, variance = np.mean(units["minutes"].to_numpy()), np.var(units["minutes"].to_numpy())
    n = units_needed(variance, 0.1 * mean)
    found = [
        one(analyze(table(n, lift=0.1, seed=seed).drop_columns(["minutes.pre"]), [MINUTES]), "minutes").p
        < 0.05
        for seed in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


def test_a_running_experiment_waits_where_it_is_not_settled() -> None:
    units = table(4000, seed=1)
    assert analyze(units, [MINUTES], running=True).decision.verdict == "wait"
    assert analyze(table(4000, lift=0.3, seed=1), [MINUTES], running=True).decision.verdict == "ship"


def test_a_running_experiment_goes_by_always_valid_numbers() -> None:
    units = table(4000, lift=0.05, seed=6)
    change = one(analyze(units, [MINUTES]), "minutes")
    assert change.p < 0.05 < change.always_valid.p
    assert analyze(units, [MINUTES]).decision.verdict == "ship"
    assert analyze(units, [MINUTES], running=True).decision.verdict == "wait"


def test_what_matters_is_small_enough_to_stop_or_too_small_to_see() -> None:
    units = table(4000, seed=1)
    assert analyze(units, [Metric("minutes", mde=0.01)]).decision.verdict == "wait"
    settled = analyze(units, [Metric("minutes", mde=0.3)], running=True)
    assert settled.decision.verdict == "stop"
    assert "no effect as large as 30.0%" in settled.decision.reasons[0]


def test_a_guardrail_must_be_shown_to_hold() -> None:
    units = table(4000, lift=0.2, seed=2)
    rng = np.random.default_rng(0)
    skips, plays = units["skip_rate.numerator"].to_numpy(), units["skip_rate.denominator"].to_numpy()
    treated = units["variant"].to_numpy(zero_copy_only=False) == "treatment"
    worse = np.where(treated, np.minimum(skips + rng.binomial(plays, 0.05), plays), skips)
    assert analyze(units, [MINUTES, SKIPS]).decision.verdict == "ship"
    broken = analyze(with_column(units, "skip_rate.numerator", worse), [MINUTES, SKIPS])
    assert broken.decision.verdict == "stop"
    assert "worse" in " ".join(broken.decision.reasons)
    unsure = Metric("skip_rate", kind="ratio", direction="down", role="guardrail", margin=0.0001)
    open_ = analyze(units, [MINUTES, unsure])
    assert one(open_, "skip_rate").not_worse.p > 0.05
    assert open_.decision.verdict == "wait"


def test_without_a_goal_the_guardrails_decide() -> None:
    units = table(6000, variants=3)
    assert analyze(units, [SKIPS]).decision.verdict == "ship"
    assert analyze(units, [Metric("minutes", role="info")]).decision.verdict == "wait"


def test_the_better_of_two_is_shipped() -> None:
    units = table(6000, variants=3, lift=0.1, seed=3)
    other = units["variant"].to_numpy(zero_copy_only=False) == "other"
    units = with_column(units, "minutes", units["minutes"].to_numpy() * np.where(other, 1.3, 1.0))
    assert analyze(units, [MINUTES]).decision.variant == "other"


# --- over days


def test_the_last_day_is_the_analysis() -> None:
    units, days = daily(lifts=(0.2,) * 8)
    found = analyze(units, [PLAYS], days=days)
    course = found.metrics["plays"].courses[0]
    assert found.planned is None
    assert analyze(units, [PLAYS], planned=500).planned == 500
    assert len(course.days) == 8
    assert course.days[-1].effect == pytest.approx(one(found, "plays").effect)
    assert course.days[-1].ci95 == pytest.approx(one(found, "plays").ci95)
    assert course.days[-1].always_valid == pytest.approx(one(found, "plays").always_valid.ci95)
    assert course.days[0].units < course.days[-1].units == 2000
    assert "nothing shows that the effect changes" in course.said


def test_the_course_of_a_ratio_and_of_a_proportion() -> None:
    units, days = daily(3000, lifts=(0.2,) * 8)
    plays = days["plays"].to_numpy()
    for name, values in (("r.numerator", plays), ("r.denominator", np.ones(len(plays))), ("busy", plays > 4)):
        days = with_column(days, name, values)
    sums = days.group_by("unit").aggregate(
        [("r.numerator", "sum"), ("r.denominator", "sum"), ("busy", "max")]
    )
    sums = sums.sort_by("unit").rename_columns(["unit", "r.numerator", "r.denominator", "busy"])
    for name in sums.column_names[1:]:
        units = with_column(units, name, sums[name])
    found = analyze(units, [Metric("r", kind="ratio"), Metric("busy", kind="proportion")], days=days)
    for name in ("r", "busy"):
        course = found.metrics[name].courses[0]
        assert course.days[-1].effect == pytest.approx(one(found, name).effect)
        assert course.days[-1].ci95 == pytest.approx(one(found, name).ci95)
    steady = found.metrics["r"].courses[0]
    assert steady.days[3].relative == pytest.approx(0.2, abs=0.1)
    assert "nothing shows" in steady.said


def test_rows_by_day_that_cannot_be_placed_are_left_out() -> None:
    units, days = daily(500)
    clean = analyze(units, [PLAYS], days=days).metrics["plays"].courses[0]
    strangers = pa.table({"unit": [9_999, 3], "day": pa.array([2, None], pa.int64()), "plays": [50.0, 70.0]})
    assert (
        analyze(units, [PLAYS], days=pa.concat_tables([days, strangers])).metrics["plays"].courses[0] == clean
    )


@pytest.mark.parametrize(
    "write",
    [
        lambda day: day,
        str,
        lambda day: f"{day:02d}",
        lambda day: f"2026-{11 + day // 20}-{day % 20 + 10}",
        lambda day: date(2026, 11, 25) + timedelta(days=day),
    ],
)
def test_days_have_the_order_of_numbers_and_dates(write: Callable[[int], object]) -> None:
    units, days = daily(500, days=25)
    wanted = _with_days(units, days).metrics["plays"].courses[0]
    named = with_column(days, "day", [write(day) for day in days["day"].to_pylist()])
    found = _with_days(units, named).metrics["plays"].courses[0]
    assert [one.effect for one in found.days] == [one.effect for one in wanted.days]
    assert found.later == wanted.later


@pytest.mark.parametrize(
    ("lifts", "said"),
    [
        ((0.6, 0.5, 0.4, 0.3, 0.1, 0.0, 0.0, 0.0), "fades"),
        ((0.0, 0.0, 0.1, 0.1, 0.4, 0.5, 0.6, 0.7), "grows"),
    ],
)
def test_novelty_and_learning_are_told_from_days(lifts: tuple[float, ...], said: str) -> None:
    units, days = daily(4000, lifts=lifts)
    assert said in analyze(units, [PLAYS], days=days).metrics["plays"].courses[0].said


def test_steady_effects_are_seldom_said_to_change() -> None:
    changed = [
        "nothing shows"
        not in _with_days(*daily(400, lifts=(0.2,) * 8, seed=seed)).metrics["plays"].courses[0].said
        for seed in range(60)
    ]
    assert np.mean(changed) < 0.15


def test_the_more_courses_are_looked_at_the_surer_one_must_be() -> None:
    """Twenty metrics without an effect, each looked at by itself: one of them would seldom stand still."""
    names = [f"m{n}" for n in range(20)]
    seen = 0
    for seed in range(10):
        made = [daily(200, seed=100 * seed + n) for n in range(20)]
        units, days = made[0][0].select(["unit", "variant"]), made[0][1].select(["unit", "day"])
        rng = np.random.default_rng(seed)
        for name in names:
            values = rng.poisson(3.0, days.num_rows).astype(float)
            days = with_column(days, name, values)
            sums = np.bincount(days["unit"].to_numpy(), values, minlength=units.num_rows)
            units = with_column(units, name, sums)
        found = analyze(units, [Metric(name, role="info") for name in names], days=days)
        courses = [one.courses[0] for one in found.metrics.values()]
        assert [one.later_p_adjusted for one in courses] == pytest.approx(
            holm([one.later_p or 0.0 for one in courses])
        )
        assert "corrected for 20 such looks" in courses[0].said
        seen += any("nothing shows" not in one.said for one in courses)
    assert seen <= 3  # of 10, where without a correction 6 are to be expected


def _with_days(units: pa.Table, days: pa.Table) -> Analysis:
    return analyze(units, [PLAYS], days=days)


# --- what must be refused or said


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda t: t.slice(0, 0), InvalidData, "no rows"),
        (lambda t: t.filter(pc.equal(t["variant"], "control")), InvalidData, "one variant only"),
        (
            lambda t: with_column(t, "variant", [str(n) for n in range(t.num_rows)]),
            InvalidInput,
            "too many for variants",
        ),
        (lambda t: t.drop_columns(["unit"]), InvalidInput, "no column 'unit'"),
        (lambda t: t.drop_columns(["minutes"]), InvalidInput, "no column 'minutes'"),
        (lambda t: with_column(t, "minutes", ["many"] * t.num_rows), InvalidData, "not numbers"),
        (lambda t: with_column(t, "minutes", [float("inf")] * t.num_rows), InvalidData, "infinite"),
        (lambda t: with_column(t, "minutes", [None] * t.num_rows), InvalidData, "no value in any row"),
        (lambda t: with_column(t, "stayed", t["minutes"]), InvalidData, "other than 0 and 1"),
        (lambda t: with_column(t, "unit", [7] * t.num_rows), InvalidData, "more than one variant"),
    ],
)
def test_tables_that_cannot_be_analysed(change: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        analyze(change(table(200)), [MINUTES, STAYED])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"control": "kontrol"}, "no variant 'kontrol'"),
        ({"shares": {"control": 1.0}}, "says nothing of the variants treatment"),
        ({"shares": {"control": 1.0, "treatment": 0.0}}, "above 0"),
        ({"alpha": 0.0}, "alpha"),
        ({"planned": 1}, "planned"),
        ({"segments": ["contry"]}, "no column 'contry'"),
        ({"stratify": "contry"}, "no column 'contry'"),
    ],
)
def test_what_is_asked_for_must_be_there(asked: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        analyze(table(200), [MINUTES], **asked)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no metric"):
        analyze(table(200), [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "guardrail"},
        {"kind": "quantile"},
        {"quantile": 0.9},
        {"margin": -0.1},
        {"winsorize": 1.0},
        {"kind": "proportion", "winsorize": 0.99},
        {"mde": 0.0},
    ],
)
def test_metrics_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="metric m"):
        Metric("m", **wrong)  # type: ignore[arg-type]


def test_a_unit_in_two_variants_is_left_out_and_too_many_stop_it() -> None:
    units = table(2000, lift=0.2)
    torn = units.slice(0, 5)
    flipped = with_column(
        torn, "variant", ["treatment" if v == "control" else "control" for v in torn["variant"].to_pylist()]
    )
    found = analyze(pa.concat_tables([units, flipped]), [MINUTES])
    assert found.twice == 5
    assert sum(found.units.values()) == 1995
    assert "in more than one variant" in found.warnings[0]
    assert found.decision.verdict == "ship"
    many = units.slice(0, 60)
    flipped = with_column(
        many, "variant", ["treatment" if v == "control" else "control" for v in many["variant"].to_pylist()]
    )
    stopped = analyze(pa.concat_tables([units, flipped]), [MINUTES])
    assert stopped.decision.verdict == "stop"
    assert "3.00% of the units are in more than one variant" in stopped.decision.reasons


def test_no_variance_is_no_number() -> None:
    found = analyze(with_column(table(500), "minutes", [3.0] * 500).drop_columns(["minutes.pre"]), [MINUTES])
    change = one(found, "minutes")
    assert (change.effect, change.ci95, change.p, change.relative) == (0.0, None, None, None)
    assert any("no variance" in warning for warning in found.metrics["minutes"].warnings)
    assert found.decision.verdict == "wait"
    assert "could not be compared" in found.decision.reasons[0]


def test_a_relative_effect_of_few_is_of_what_was_observed() -> None:
    """The interval counts one more unit with it and one without; the effect must not."""
    has = np.zeros(2000, bool)
    has[[0, 2, 4, *range(1, 19, 2)]] = True  # 3 of control, 9 of treatment
    units = pa.table({"unit": np.arange(2000), "variant": ["control", "treatment"] * 1000, "stayed": has})
    one = analyze(units, [Metric("stayed", "proportion")]).metrics["stayed"].comparisons[0]
    assert one.method.startswith("agresti-caffo")
    assert (one.effect, one.relative) == (pytest.approx(0.006), pytest.approx(2.0))


def test_nobody_in_either_variant_has_it() -> None:
    found = analyze(with_column(table(500), "stayed", [False] * 500), [STAYED])
    change = one(found, "stayed")
    assert change.effect == 0.0
    assert change.method == "agresti-caffo"
    assert change.p == 1.0
    assert change.relative is None or change.relative == 0


def test_heavy_tails_are_said_and_the_winsorized_stands_beside() -> None:
    units = table(2000, lift=0.2).drop_columns(["minutes.pre"])
    minutes = units["minutes"].to_numpy().copy()
    minutes[0] = 50_000.0
    found = analyze(with_column(units, "minutes", minutes), [MINUTES])
    assert any("heavy tails" in warning for warning in found.metrics["minutes"].warnings)
    change = one(found, "minutes")
    assert change.p > 0.05
    assert change.winsorized is not None
    assert change.winsorized.p < 0.001
    assert change.winsorized.cap < 100
    asked = analyze(with_column(units, "minutes", minutes), [Metric("minutes", winsorize=0.999)])
    assert one(asked, "minutes").p == pytest.approx(change.winsorized.p)
    assert one(asked, "minutes").winsorized is None


def test_few_units_are_not_heavy_tails() -> None:
    few = np.random.default_rng(1).random(100)
    found = analyze(with_column(table(100).drop_columns(["minutes.pre"]), "minutes", few), [MINUTES])
    assert not any("heavy tails" in warning for warning in found.metrics["minutes"].warnings)


def test_missing_values_are_left_out_and_said() -> None:
    units = table(2000)
    minutes = units["minutes"].to_numpy().copy()
    minutes[:100] = np.nan
    found = analyze(with_column(units, "minutes", minutes), [MINUTES, STAYED])
    assert sum(level.n for level in found.metrics["minutes"].variants.values()) == 1900
    assert sum(level.n for level in found.metrics["stayed"].variants.values()) == 2000
    assert "missing in 100 rows" in found.metrics["minutes"].warnings[0]


def test_a_metric_that_is_missing_in_one_variant_only_decides_nothing_but_to_stop() -> None:
    units = table(4000)
    minutes, treated = units["minutes"].to_numpy().copy(), units["variant"].to_numpy() == "treatment"
    minutes[treated & (minutes < np.quantile(minutes, 0.3))] = (
        np.nan
    )  # no effect: who did badly did not report
    found = analyze(with_column(units, "minutes", minutes), [MINUTES])
    assert found.metrics["minutes"].comparisons[0].p < 1e-6
    assert found.decision.verdict == "stop"
    assert "missing more often in one variant" in found.decision.reasons[0]
    # The same where every unit has two rows.
    twice = pa.concat_tables([with_column(units, "minutes", minutes)] * 2)
    found = analyze(twice, [MINUTES])
    assert found.decision.verdict == "stop"
    assert "missing more often in one variant" in found.decision.reasons[0]


def test_rows_of_a_unit_that_are_missing_together_are_counted_once() -> None:
    """Whole units report nothing, in either variant alike: were each row its own, one test in four would say torn."""
    stopped = 0
    for seed in range(60):
        units = table(300)
        minutes = units["minutes"].to_numpy().copy()
        minutes[np.random.default_rng(seed).random(300) < 0.2] = np.nan
        many = pa.concat_tables([with_column(units, "minutes", minutes).drop_columns(["minutes.pre"])] * 20)
        stopped += "cannot be compared" in " ".join(analyze(many, [MINUTES]).decision.reasons)
    assert stopped <= 1


def test_a_pre_period_that_is_missing_adjusts_nothing() -> None:
    units = table(2000)
    before = units["minutes.pre"].to_numpy().copy()
    before[:400] = np.nan
    found = analyze(with_column(units, "minutes.pre", before), [MINUTES])
    assert "no pre-period in 400 rows (20.0%)" in found.metrics["minutes"].warnings[0]
    assert one(found, "minutes").method == "welch+cuped"
    none = analyze(with_column(units, "minutes.pre", [None] * 2000), [MINUTES])
    assert "it is not adjusted" in none.metrics["minutes"].warnings[0]
    assert one(none, "minutes").method == "welch"


def test_rows_without_a_variant_are_said() -> None:
    units = table(1000)
    variants = [None if n < 10 else v for n, v in enumerate(units["variant"].to_pylist())]
    found = analyze(with_column(units, "variant", variants), [MINUTES])
    assert sum(found.units.values()) == 990
    assert "10 rows without" in found.warnings[0]


def test_too_few_units_are_not_compared() -> None:
    units = table(40).slice(0, 3)
    units = with_column(units, "variant", ["control", "control", "treatment"])
    found = analyze(units, [MINUTES], shares={"control": 2, "treatment": 1})
    assert one(found, "minutes").effect is None
    assert "too few units" in found.metrics["minutes"].warnings[-1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.drop_columns(["day"]), "no column 'day'"),
        (lambda d: d.drop_columns(["plays"]), "no column 'plays'"),
        (lambda d: with_column(d, "unit", [-1] * d.num_rows), "no unit of the table by days"),
        (lambda d: with_column(d, "unit", ["x7"] * d.num_rows), "calls units otherwise"),
        (lambda d: with_column(d, "plays", ["x"] * d.num_rows), "not numbers"),
        (
            lambda d: with_column(d, "day", [f"day {n}" for n in d["day"].to_pylist()]),
            "neither a whole number nor a date",
        ),
        (
            lambda d: with_column(d, "day", range(10_000, 10_000 + d.num_rows)),
            "different days; is it the day",
        ),
    ],
)
def test_a_table_by_days_must_fit(change: object, says: str) -> None:
    units, days = daily(300)
    with pytest.raises((InvalidInput, InvalidData), match=says):
        analyze(units, [PLAYS], days=change(days))  # type: ignore[operator]
