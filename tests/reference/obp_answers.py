"""What Open Bandit Pipeline answers on small made-up logs: `make obp-answers` writes obp_answers.json, which tests compare with.

Runs in .obp, an environment of its own: obp is tied to libraries of 2023.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import obp_import  # noqa: F401 - first, in torch's place
from obp import ope

OUT = Path(__file__).with_name("obp_answers.json")
THRESHOLD = 2.0


def bandit(seed: int, n: int = 60, actions: int = 5) -> dict:
    """A log of one choice a row, and obp's estimates from it."""
    rng = np.random.default_rng(seed)
    logging, target = rng.dirichlet(np.ones(actions), n), rng.dirichlet(np.ones(actions), n)
    action = np.array([rng.choice(actions, p=p) for p in logging])
    rows = np.arange(n)
    reward = (rng.random(n) < 0.4).astype(float)
    model = rng.random((n, actions))
    log = {
        "reward": reward,
        "action": action,
        "pscore": logging[rows, action],
        "action_dist": target[:, :, None],
        "position": np.zeros(n, int),
        "estimated_rewards_by_reg_model": model[:, :, None],
    }
    estimators = {
        "dm": ope.DirectMethod(),
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "clipped-ips": ope.InverseProbabilityWeighting(lambda_=THRESHOLD),
        "dr": ope.DoublyRobust(),
        "sndr": ope.SelfNormalizedDoublyRobust(),
        "switch-dr": ope.SwitchDoublyRobust(lambda_=THRESHOLD),
        "dros": ope.DoublyRobustWithShrinkage(lambda_=THRESHOLD),
    }
    return {
        "reward": reward.tolist(),
        "propensity": log["pscore"].tolist(),
        "target": target[rows, action].tolist(),
        "modelled": model[rows, action].tolist(),
        "expected": (model * target).sum(axis=1).tolist(),
        "threshold": THRESHOLD,
        "answers": {name: float(e.estimate_policy_value(**log)) for name, e in estimators.items()},
        "errors": {
            name: float(estimators[name]._estimate_mse_score(**log, use_bias_upper_bound=False))
            for name in ("clipped-ips", "switch-dr", "dros")
        },
    }


def slates(seed: int, n: int = 40, length: int = 3, actions: int = 4) -> dict:
    """A log of pages, and obp's estimates from it."""
    rng = np.random.default_rng(seed)
    shape = (n, length)
    logging, target = rng.uniform(0.1, 0.9, shape), rng.uniform(0.0, 0.9, shape)
    marginal = rng.uniform(0.0, 0.9, shape)
    action = rng.integers(0, actions, shape)
    reward = (rng.random(shape) < 0.4).astype(float)
    model = rng.random((n, length, actions))
    chances = rng.dirichlet(np.ones(actions), shape)
    common = {
        "slate_id": np.repeat(np.arange(n), length),
        "reward": reward.ravel(),
        "position": np.tile(np.arange(length), n),
        "action": action.ravel(),
        "pscore": np.repeat(logging.prod(axis=1), length),
        "evaluation_policy_pscore": np.repeat(target.prod(axis=1), length),
        "pscore_item_position": logging.ravel(),
        "evaluation_policy_pscore_item_position": marginal.ravel(),
        "pscore_cascade": logging.cumprod(axis=1).ravel(),
        "evaluation_policy_pscore_cascade": target.cumprod(axis=1).ravel(),
        "q_hat": model.ravel(),
        "evaluation_policy_action_dist": chances.ravel(),
    }
    estimators = {
        "iips": ope.SlateIndependentIPS(len_list=length),
        "rips": ope.SlateRewardInteractionIPS(len_list=length),
        "cascade-dr": ope.SlateCascadeDoublyRobust(len_list=length, n_unique_action=actions),
        "sniips": ope.SelfNormalizedSlateIndependentIPS(len_list=length),
        "snrips": ope.SelfNormalizedSlateRewardInteractionIPS(len_list=length),
    }
    return {
        "request": common["slate_id"].tolist(),
        "position": common["position"].tolist(),
        "reward": reward.ravel().tolist(),
        "propensity": logging.ravel().tolist(),
        "target": target.ravel().tolist(),
        "marginal": marginal.ravel().tolist(),
        "modelled": np.take_along_axis(model, action[:, :, None], 2).ravel().tolist(),
        "expected": (model * chances).sum(axis=2).ravel().tolist(),
        "answers": {name: float(e.estimate_policy_value(**common)) for name, e in estimators.items()},
    }


if __name__ == "__main__":
    answers = {"bandits": [bandit(seed) for seed in (1, 2)], "slates": [slates(seed) for seed in (3, 4)]}
    OUT.write_text(json.dumps(answers) + "\n", encoding="utf-8")
