"""Fit a ranker: gradient-boosted trees (LightGBM; Ke et al., 2017), one binary model per objective, on replayed samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue.recommend.ranker import Ranker, RankerSpec
from segue.settings.tree import RankerFit, Training
from segue.training.samples import Samples

MIN_POSITIVES = 50
"""An objective with fewer positives is left out: its trees would be noise."""


def fit_ranker(
    samples: Samples, x: npt.NDArray[np.float32], names: tuple[str, ...], settings: Training
) -> Ranker:
    """A ranker over `x` float32[n, len(names)], rows as in `samples`."""
    growth = settings.rankers.get(samples.surface, RankerFit())
    labels = {"play": samples.played, "like": samples.liked, "skip": samples.skipped}
    texts: dict[str, str] = {}
    for objective, label in labels.items():
        if objective != "play" and int(label.sum()) < MIN_POSITIVES:
            continue
        texts[objective] = _fit(x, label.astype(np.float32), names, settings, growth)
    requests = len(np.unique(samples.request))
    return Ranker.of(RankerSpec(names, tuple(texts), requests), tuple(texts.values()))


def _fit(
    x: npt.NDArray[np.float32],
    label: npt.NDArray[np.float32],
    names: tuple[str, ...],
    settings: Training,
    growth: RankerFit,
) -> str:
    import lightgbm  # here, because it loads pandas, a second that commands which grow no trees need not wait

    parameters = {
        "objective": "binary",
        "num_leaves": growth.leaves,
        "learning_rate": growth.learning_rate,
        "min_data_in_leaf": growth.min_rows,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "max_bin": 63,
        "num_threads": settings.threads,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(x, label, feature_name=list(names), free_raw_data=True)
    booster = lightgbm.train(parameters, data, growth.trees)
    text: str = booster.model_to_string()
    return text
