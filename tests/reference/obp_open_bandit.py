"""Open Bandit Pipeline on the two logs, as its own example for this data set runs it; in its own environment, .obp.

Prints, for each policy, its estimates with the action probabilities it is given (`same`), and with those it would take itself
(`own`: Thompson sampling drawn anew from ZOZOTOWN's prior). `python obp_open_bandit.py FOLDER CHANCES.json`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import obp_import  # noqa: F401 - first, in torch's place
import pandas as pd
from obp import ope
from obp.policy import BernoulliTS
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelEncoder

SEED = 12345
LAMBDAS = [10, 50, 100, 500, 1000, 5000, 10000, np.inf]
DRAWS = 100_000


def main(folder: Path, chances: dict) -> dict:
    """Estimates by policy and by whose action probabilities were used."""
    items = pd.read_csv(folder / "item_context-all.csv.gz", index_col=0)
    labels = items[[f"item_feature_{n}" for n in (1, 2, 3)]].apply(LabelEncoder().fit_transform)
    action_context = pd.concat([labels, items["item_feature_0"]], axis=1).values
    logs = {name: pd.read_parquet(folder / f"{name}-all.parquet") for name in ("random", "bts")}
    redrawn = BernoulliTS(
        n_actions=len(items), len_list=3, is_zozotown_prior=True, campaign="all", random_state=SEED
    ).compute_batch_action_dist(n_rounds=1, n_sim=DRAWS)[0]
    uniform = np.full_like(redrawn, 1 / len(items))
    found = {}
    for judged, log in (("bts", logs["random"]), ("random", logs["bts"])):
        model = fitted(log, action_context)
        given = np.array(chances[judged]).T  # [items, positions]
        own = redrawn if judged == "bts" else uniform
        found[judged] = {"same": estimates(log, given, model), "own": estimates(log, own, model)}
    return found


def fitted(log: pd.DataFrame, action_context: np.ndarray) -> np.ndarray:
    """The reward model of obp's example, cross-fitted in three parts."""
    features = log.loc[:, log.columns.str.contains("user_feature")]
    model = ope.RegressionModel(
        n_actions=len(action_context),
        len_list=3,
        action_context=action_context,
        base_model=LogisticRegression(max_iter=10_000, C=100, random_state=SEED),
    )
    return model.fit_predict(
        context=pd.get_dummies(features, drop_first=True).values.astype(float),
        action=log["item_id"].values,
        reward=log["click"].values,
        position=log["position"].values - 1,
        pscore=log["propensity_score"].values,
        n_folds=3,
        random_state=SEED,
    )


def estimates(log: pd.DataFrame, chances: np.ndarray, model: np.ndarray) -> dict:
    """obp's value by estimator, under our names."""
    columns = {
        "reward": log["click"].values,
        "action": log["item_id"].values,
        "position": log["position"].values - 1,
        "pscore": log["propensity_score"].values,
        "action_dist": np.tile(chances, (len(log), 1, 1)),
        "estimated_rewards_by_reg_model": model,
    }
    estimators = {
        "dm": ope.DirectMethod(),
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "clipped-ips": ope.InverseProbabilityWeightingTuning(lambdas=LAMBDAS),
        "dr": ope.DoublyRobust(),
        "sndr": ope.SelfNormalizedDoublyRobust(),
        "switch-dr": ope.SwitchDoublyRobustTuning(lambdas=LAMBDAS),
        "dros": ope.DoublyRobustWithShrinkageTuning(lambdas=LAMBDAS),
    }
    return {name: float(e.estimate_policy_value(**columns)) for name, e in estimators.items()}


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())), sys.stdout)
