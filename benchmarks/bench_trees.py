"""Scoring boosted trees: `segue.models.trees` against LightGBM's own predictor.

500 candidates, 60 features, 500 trees of 63 leaves: one ranking request. The features are standard normal with one
in ten values replaced by zero; the target is a noisy nonlinear function of them, so that the trees grow full.
"""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from benchmarks.harness import Goal, Row, interleaved, less_is_better
from segue.models.trees import TreeScorer

ROWS, FEATURES, TREES, LEAVES = 500, 60, 500, 63
OBJECTIVES = 3
REPEATS = 40
RATIO, ERROR = 8.0, 1e-5
"""Goals."""


def run() -> list[Row]:
    """One model, then several objectives of one ranker at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, FEATURES)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = 0.0
    models = [_train(x, rng) for _ in range(OBJECTIVES)]
    candidates = np.ascontiguousarray(x[:ROWS])
    one, all_of_them = TreeScorer.from_lightgbm(models[0]), TreeScorer.from_lightgbm(*models)
    expected = np.stack([_lightgbm(model, candidates) for model in models])
    ours, peer, ours_all, peer_all = interleaved(
        [
            lambda: one.score(candidates),
            lambda: _lightgbm(models[0], candidates),
            lambda: all_of_them.score_many(candidates),
            lambda: [_lightgbm(model, candidates) for model in models],
        ],
        REPEATS,
    )
    error = float(np.abs(one.score(candidates) - expected[0]).max())
    error_all = float(np.abs(all_of_them.score_many(candidates) - expected).max())
    shape = f"{ROWS} rows, {FEATURES} features, {TREES} trees of {LEAVES} leaves"
    return [
        less_is_better(
            "trees: one model",
            ours * 1e3,
            peer * 1e3,
            "ms",
            f"{shape}; largest error {error:.1e}",
            _goal(peer / ours, error),
        ),
        less_is_better(
            f"trees: {OBJECTIVES} models at once",
            ours_all * 1e3,
            peer_all * 1e3,
            "ms",
            f"{shape} each; largest error {error_all:.1e}",
            _goal(peer_all / ours_all, error_all),
        ),
    ]


def _goal(ratio: float, error: float) -> Goal:
    return Goal(f"at least {RATIO:g} x, error below {ERROR:g}", bool(ratio >= RATIO) and bool(error < ERROR))


def _train(x: npt.NDArray[np.float32], rng: np.random.Generator) -> lgb.Booster:
    signal = x @ rng.normal(size=FEATURES) + 3 * np.sin(3 * x[:, :10]).sum(1)
    y = signal + 3 * rng.normal(size=len(x)) > 0
    params = {
        "objective": "binary",
        "num_leaves": LEAVES,
        "learning_rate": 0.05,
        "verbose": -1,
        "num_threads": 1,
    }
    return lgb.train(params, lgb.Dataset(x, y), TREES)


def _lightgbm(model: lgb.Booster, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(model.predict(x, raw_score=True, num_threads=1))
