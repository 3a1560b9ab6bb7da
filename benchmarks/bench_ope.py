"""Off-policy estimates on the Open Bandit Dataset's small logs, beside Open Bandit Pipeline's on the same rows.

Each of two policies is estimated from the other's log, and the error is relative to the click rate in its own. obp runs as its
own example for these data does (its reward model, its grid of parameters), in its own environment; both are given the same
chances of the judged policy. 38 and 42 clicks: the rate in a policy's own log is itself known to 16% only, so differences of
some percent are chance, and the coverage of our intervals (the last rows) says more.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, Goal, Row, at_least
from segue.experiments.offpolicy.estimators import ESTIMATORS
from segue.experiments.offpolicy.interval import bca, gamma
from segue.experiments.offpolicy.logged import Floats, logged
from segue.experiments.offpolicy.openbandit import compare, read

FOLDER = Path(os.environ.get("BENCH_OPEN_BANDIT", ROOT.parent / "shared" / "data" / "open-bandit-all"))
PYTHON = ROOT / ".obp" / "bin" / "python"
WORLDS, LOGS, ROWS, ITEMS, MOMENTS = 4, 50, 10_000, 80, 60


def run() -> list[Row]:
    """Errors of each estimator for each policy, where the data and obp are here; coverage of the intervals."""
    return [*(_errors() if FOLDER.is_dir() and PYTHON.exists() else []), *_coverage()]


def _errors() -> list[Row]:
    logs = read(FOLDER)
    items = 1 + max(int(log.item.max()) for log in logs)
    positions = 1 + max(int(log.position.max()) for log in logs)
    with tempfile.TemporaryDirectory() as folder:
        chances = Path(folder) / "chances.json"
        chances.write_text(json.dumps({log.name: log.chances(positions, items).tolist() for log in logs}))
        command = [
            str(PYTHON),
            str(ROOT / "tests" / "reference" / "obp_open_bandit.py"),
            str(FOLDER),
            str(chances),
        ]
        peer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = []
    for name, policy in compare(FOLDER).policies.items():
        for estimator, found in policy.estimates.items():
            ours, theirs, redrawn = (
                100 * abs(value / policy.truth - 1)
                for value in (found.value, peer[name]["same"][estimator], peer[name]["own"][estimator])
            )
            own = f"; obp {redrawn:.1f}% with probabilities redrawn from the prior" if name == "bts" else ""
            low, high = found.ci95
            rows.append(
                Row(
                    f"{name} from the log of {policy.from_log}, {estimator}",
                    ours,
                    theirs,
                    theirs / max(ours, 1e-9),
                    "% off",
                    f"{found.value:.5f} [{low:.5f}, {high:.5f}], its own log {policy.truth:.5f}{own}",
                    Goal("at most obp's", ours <= theirs + 1e-6),
                )
            )
    return rows


def _coverage() -> list[Row]:
    """How often the 95% intervals of ips hold the truth in simulated logs of 40 clicks, for a judged uniform policy."""
    held: dict[str, list[bool]] = {"gamma": [], "bootstrap": []}
    for world in range(WORLDS):
        rng = np.random.default_rng(world)
        clicks = 0.004 * np.exp(0.6 * rng.normal(size=(3, ITEMS)))
        skew = np.full(ITEMS, 0.15)
        chances = 0.95 * rng.dirichlet(skew, (MOMENTS, 3)) + 0.05 / ITEMS
        truth = float(clicks.mean())
        for seed in range(LOGS):
            reward, propensity = _log(clicks, chances, rng)
            log = logged(reward, propensity, np.full(ROWS, 1 / ITEMS))
            terms = ESTIMATORS["ips"].terms(log)
            low, high = gamma(terms, log.reward)
            held["gamma"].append(low <= truth <= high)
            low, high = bca(terms.influence()[:, None], log.unit, seed=seed, draws=400)[0]
            held["bootstrap"].append(low <= truth <= high)
    detail = (
        f"{WORLDS * LOGS} logs of {ROWS:,} rows by a policy that learns, weights up to 20, about 40 clicks"
    )
    return [
        Row(
            f"95% interval of ips holds the truth, {kind}",
            100 * float(np.mean(found)),
            None,
            None,
            "%",
            detail,
            at_least(100 * float(np.mean(found)), 93.0, "%") if kind == "gamma" else None,
        )
        for kind, found in held.items()
    ]


def _log(clicks: Floats, chances: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    moment, position = rng.integers(0, MOMENTS, ROWS), rng.integers(0, 3, ROWS)
    below = chances[moment, position].cumsum(axis=1)
    item = (rng.random(ROWS)[:, None] > below).sum(axis=1).clip(0, ITEMS - 1)
    return (rng.random(ROWS) < clicks[position, item]).astype(np.float64), chances[moment, position, item]
