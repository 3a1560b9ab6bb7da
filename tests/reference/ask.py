"""What gbstats (GrowthBook's engine) and statsmodels answer on `reference_data.py`'s tables: `answers.json`, beside this file.

Run by `make reference`, in their own environment. `tests/unit/experiments/test_reference.py` holds ours against it.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from gbstats.frequentist.tests import (
    FrequentistConfig,
    SequentialConfig,
    SequentialTwoSidedTTest,
    TwoSidedTTest,
)
from gbstats.models.statistics import (
    ProportionStatistic,
    QuantileClusteredStatistic,
    QuantileStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
)
from gbstats.utils import check_srm
from reference_data import COOKIE_CATS, EFFECTS, PS, RARE, rows, units
from scipy.stats import chi2
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

QUANTILE = 0.75
Z = 1.959963984540054


def mean(values):
    values = np.array(values)
    return SampleMeanStatistic(n=len(values), sum=values.sum(), sum_squares=(values**2).sum())


def gb(pair, sequential=None):
    """Absolute and relative: effect, interval, p."""
    out = {}
    for kind in ("absolute", "relative"):
        if sequential is None:
            test = TwoSidedTTest(*pair(), FrequentistConfig(difference_type=kind))
        else:
            test = SequentialTwoSidedTTest(
                *pair(), SequentialConfig(difference_type=kind, sequential_tuning_parameter=sequential)
            )
        found = test.compute_result()
        assert found.error_message is None
        out[kind] = {
            "effect": float(found.expected),
            "ci": [float(x) for x in found.ci],
            "p": float(found.p_value),
        }
    return out


def ratio(plays, skips):
    plays, skips = np.array(plays), np.array(skips)
    return RatioStatistic(
        n=len(plays),
        m_statistic=mean(skips),
        d_statistic=mean(plays),
        m_d_sum_of_products=(plays * skips).sum(),
    )


def adjusted(value, pre):
    return RegressionAdjustedStatistic(
        n=len(value),
        post_statistic=mean(value),
        pre_statistic=mean(pre),
        post_pre_sum_of_products=float(np.dot(value, pre)),
        theta=0,
    )


def quantile(values, of_unit=None):
    values = np.array(values)
    n = len(values)
    reach = Z * np.sqrt(QUANTILE * (1 - QUANTILE) / n)
    level, low, high = np.quantile(values, [QUANTILE, QUANTILE - reach, QUANTILE + reach])
    known = {
        "n": n,
        "n_star": n,
        "nu": QUANTILE,
        "quantile_hat": level,
        "quantile_lower": low,
        "quantile_upper": high,
    }
    if of_unit is None:
        return QuantileStatistic(**known)
    count = np.bincount(of_unit).astype(float)
    below = np.bincount(of_unit, weights=values <= level)
    return QuantileClusteredStatistic(
        **known,
        main_sum=below.sum(),
        main_sum_squares=(below**2).sum(),
        denominator_sum=count.sum(),
        denominator_sum_squares=(count**2).sum(),
        main_denominator_sum_product=(below * count).sum(),
        n_clusters=len(count),
    )


def proportions(counts):
    (n1, x1), (n2, x2) = counts  # control, treatment; statsmodels takes the first minus the second
    wald = test_proportions_2indep(x2, n2, x1, n1, method="wald", compare="diff")
    return {
        "effect": float(wald.diff),
        "p": float(wald.pvalue),
        "wald": [float(x) for x in confint_proportions_2indep(x2, n2, x1, n1, method="wald", compare="diff")],
        "agresti-caffo": [
            float(x)
            for x in confint_proportions_2indep(x2, n2, x1, n1, method="agresti-caffo", compare="diff")
        ],
    }


def clustered(made):
    frame = pd.concat(
        pd.DataFrame({"y": values, "unit": np.array(of_unit) + 1_000_000 * variant, "t": variant})
        for variant, (values, of_unit) in enumerate(made)
    )
    fit = smf.ols("y ~ t", frame).fit(
        cov_type="cluster", cov_kwds={"groups": frame["unit"], "use_correction": False}
    )
    return {"effect": float(fit.params["t"]), "error": float(fit.bse["t"])}


def main():
    table, many = units(), rows()
    value, pre, plays, skips = (table[name] for name in ("value", "pre", "plays", "skips"))
    welch = CompareMeans(DescrStatsW(value[1]), DescrStatsW(value[0]))
    effects, errors = np.array(EFFECTS).T
    answers = {
        "versions": {name: version(name) for name in ("gbstats", "statsmodels", "scipy", "numpy")},
        "gbstats": {
            "mean": gb(lambda: (mean(value[0]), mean(value[1]))),
            "mean, sequential": gb(lambda: (mean(value[0]), mean(value[1])), sequential=4000),
            "cuped": gb(lambda: (adjusted(value[0], pre[0]), adjusted(value[1], pre[1]))),
            "ratio": gb(lambda: (ratio(plays[0], skips[0]), ratio(plays[1], skips[1]))),
            "quantile": gb(lambda: (quantile(value[0]), quantile(value[1]))),
            "clustered quantile": gb(lambda: tuple(quantile(*side) for side in many)),
            **{
                name: gb(lambda counts=counts: tuple(ProportionStatistic(n=n, sum=x) for n, x in counts))
                for name, counts in COOKIE_CATS.items()
            },
            "srm": float(check_srm([n for n, _ in COOKIE_CATS["retention_1"]], [0.5, 0.5])),
            "srm of three": float(check_srm([1000, 1090, 2010], [0.25, 0.25, 0.5])),
        },
        "statsmodels": {
            "welch": {
                "p": float(welch.ttest_ind(usevar="unequal")[1]),
                "ci": [float(x) for x in welch.tconfint_diff(usevar="unequal")],
            },
            **{name: proportions(counts) for name, counts in COOKIE_CATS.items()},
            "rare": proportions(RARE),
            "clustered": clustered(many),
            "holm": [float(p) for p in multipletests(PS, method="holm")[1]],
            "benjamini-hochberg": [float(p) for p in multipletests(PS, method="fdr_bh")[1]],
            "units of one variant": float(
                NormalIndPower().solve_power(effect_size=0.1, power=0.9, alpha=0.05, ratio=2.0)
            ),
            "effects are the same": float(chi2.sf(combine_effects(effects, errors**2).q, len(effects) - 1)),
        },
    }
    Path(__file__).with_name("answers.json").write_text(
        json.dumps(answers, indent=1) + "\n", encoding="utf-8"
    )


main()
