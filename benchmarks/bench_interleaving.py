"""How many listeners an interleaving needs, beside an A/B test of the same two rankings on the same simulated listeners.

The z of a test grows with the root of its listeners: the square of the ratio of two tests' mean z says how many times fewer the
one needs for the same certainty. The treatment sees what listeners like through less noise than the control. How large the
ratio is depends on how much listeners differ from one another, which an A/B test has to average out.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.harness import ROOT, Row

sys.path.insert(0, str(ROOT / "tests"))
from interleaved_trial import AB, METHODS, SLOTS, trial

TRIALS, LISTENERS, PAGES = 150, 200, 7
NOISE = (0.9, 0.4)


def run() -> list[Row]:
    """A row for each method."""
    found = [trial(seed, LISTENERS, NOISE, PAGES).z for seed in range(TRIALS)]
    mean = {name: float(np.mean([z[name] for z in found])) for name in (AB, *METHODS)}
    told = {name: float(np.mean([z[name] > 1.96 for z in found])) for name in (AB, *METHODS)}
    low, high = ((mean[AB] + side * 1.96 / np.sqrt(TRIALS)) ** 2 for side in (-1, 1))
    return [
        Row(
            f"listeners that an A/B test needs, in those of {name}",
            mean[name] ** 2 / mean[AB] ** 2,
            None,
            None,
            "times",
            f"95% interval {mean[name] ** 2 / high:.0f} to {mean[name] ** 2 / low:.0f}; {LISTENERS} listeners, {PAGES} pages of "
            f"{SLOTS} each: the better ranking found in {told[name]:.0%} of {TRIALS} trials, by an A/B test in {told[AB]:.0%}",
        )
        for name in METHODS
    ]
