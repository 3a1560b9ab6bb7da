"""Off-policy estimates on simulated logs of known truth, beside Open Bandit Pipeline's on the same rows.

    make .obp/.ready && python -m benchmarks.bandit_logs --logs 40
    python -m benchmarks.bandit_logs --logs 400 --alone

The real logs of `bench_ope` are one draw of 38 and 42 clicks: which of two estimators is nearer there is mostly chance. Here
each pair of logs has their size, their rate of clicks and columns of their form, in a world of its own: a uniform policy and a
skewed one, which in every other world knows what is clicked and in the rest does not. The truth is the worlds' own. Errors are
root mean squares over the worlds, relative to the truth; an interval of their difference is drawn from the worlds anew. 10 s of
CPU a world, nearly all of it obp's model of the reward; with --alone ours are held against themselves with the one parameter
of the least estimated error (`tuning` averages over all), 1 s a world.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import csv  # noqa: E402
import gzip  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from argparse import ArgumentParser  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table as Grid  # noqa: E402

from benchmarks.bench_ope import PYTHON  # noqa: E402
from benchmarks.harness import ROOT  # noqa: E402
from segue.experiments.offpolicy.estimators import ESTIMATORS  # noqa: E402
from segue.experiments.offpolicy.logged import Floats  # noqa: E402
from segue.experiments.offpolicy.openbandit import against, compare, read  # noqa: E402
from segue.experiments.offpolicy.tuning import blended, parameters, squared_error  # noqa: E402

ROWS, ITEMS, POSITIONS, RATE = 10_000, 80, 3, 0.004
POLICIES = ("bts", "random")
USER_FEATURES = (3, 6, 10, 10)
ITEM_FEATURES = 8
DRAWS = 2_000
Errors = dict[tuple[str, str], tuple[float, float]]
"""By policy and estimator: ours and the other's."""


def main() -> None:
    """Print a line for each policy and estimator."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=40, help="pairs of logs [40]")
    parser.add_argument(
        "--alone", action="store_true", help="without obp: beside the parameter of least error"
    )
    asked = parser.parse_args()
    if not asked.alone and not PYTHON.exists():
        parser.error("Open Bandit Pipeline is not set up: `make .obp/.ready` does it")
    other, world = ("least error", _alone) if asked.alone else ("obp", _beside_obp)
    names = [name for name in ESTIMATORS if not asked.alone or ESTIMATORS[name].power]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        worlds = pool.map(partial(world, Path(folder)), range(asked.logs))
        found = list(track(worlds, "worlds", total=asked.logs, console=Console(stderr=True)))
    grid = Grid(
        "policy",
        "estimator",
        "ours, %",
        f"{other}, %",
        "difference, 95%",
        title=f"{asked.logs} pairs of logs",
    )
    rng = np.random.default_rng(0)
    for policy in POLICIES:
        for name in names:
            squares = np.array([one[policy, name] for one in found]) ** 2  # [worlds, 2]
            drawn = squares[rng.integers(0, len(squares), (DRAWS, len(squares)))].mean(axis=1) ** 0.5
            low, high = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]), (2.5, 97.5))
            ours, theirs = 100 * squares.mean(axis=0) ** 0.5
            grid.add_row(policy, name, f"{ours:.1f}", f"{theirs:.1f}", f"{low:+.1f} to {high:+.1f}")
    Console(width=100).print(grid)


def _beside_obp(root: Path, number: int) -> Errors:
    """One pair of logs: each estimate of ours and of obp's as a share of the truth, less 1."""
    folder, truth = _made(root, number)
    logs = read(folder)
    chances = folder / "chances.json"
    chances.write_text(json.dumps({log.name: log.chances(POSITIONS, ITEMS).tolist() for log in logs}))
    script = ROOT / "tests" / "reference" / "obp_open_bandit.py"
    command = [str(PYTHON), str(script), str(folder), str(chances)]
    peer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        (policy, name): (found.value / truth[policy] - 1, peer[policy]["same"][name] / truth[policy] - 1)
        for policy, report in compare(folder).policies.items()
        for name, found in report.estimates.items()
    }


def _alone(root: Path, number: int) -> Errors:
    """The same of our estimators with a parameter: averaged over it, and with the one of the least estimated error."""
    folder, truth = _made(root, number)
    logs = read(folder)
    errors: Errors = {}
    for judged, log in (logs, logs[::-1]):
        seen, _ = against(log, judged.chances(POSITIONS, ITEMS))
        for name, estimator in ESTIMATORS.items():
            if not estimator.power:
                continue
            tried = [estimator.terms(seen, t) for t in parameters(estimator, seen.weight)]
            least = tried[int(np.argmin([squared_error(terms, tried[0]) for terms in tried]))]
            truly = truth[judged.name]
            errors[judged.name, name] = blended(estimator, seen).value / truly - 1, least.value / truly - 1
    return errors


def _made(root: Path, number: int) -> tuple[Path, dict[str, float]]:
    folder = root / f"{number:03d}"
    folder.mkdir()
    return folder, _write(folder, number)


def _write(folder: Path, number: int) -> dict[str, float]:
    """The two logs and the items' table, as the Open Bandit Dataset has them; what each policy truly earns."""
    rng = np.random.default_rng(5_000 + number)
    item, place = rng.normal(size=ITEMS), np.array([0.1, 0.0, -0.1])[:, None]
    clicks = np.exp(0.6 * item + place + 0.2 * rng.normal(size=(POSITIONS, ITEMS)))
    clicks *= RATE / clicks.mean()
    knows = float(number % 2 == 0)
    tilt = np.exp(knows * np.log(clicks / clicks.mean()) + rng.normal(size=(POSITIONS, ITEMS)))
    skewed = tilt / tilt.sum(axis=1, keepdims=True)
    uniform = np.full((POSITIONS, ITEMS), 1 / ITEMS)
    for name, chances in (("random", uniform), ("bts", skewed)):
        pq.write_table(_log(clicks, chances, rng), folder / f"{name}-all.parquet")
    columns = [rng.normal(size=ITEMS), *(rng.integers(0, ITEM_FEATURES, ITEMS) for _ in range(3))]
    with gzip.open(folder / "item_context-all.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "item_id", *(f"item_feature_{n}" for n in range(4))])
        writer.writerows((n, n, *row) for n, row in enumerate(zip(*columns, strict=True)))
    return {"bts": float((skewed * clicks).sum(axis=1).mean()), "random": float(clicks.mean())}


def _log(clicks: Floats, chances: Floats, rng: np.random.Generator) -> pa.Table:
    position = rng.integers(0, POSITIONS, ROWS)
    below = chances[position].cumsum(axis=1)
    item = (rng.random(ROWS)[:, None] > below).sum(axis=1).clip(0, ITEMS - 1)
    columns = {
        "item_id": item,
        "position": position + 1,
        "click": (rng.random(ROWS) < clicks[position, item]).astype(np.int64),
        "propensity_score": chances[position, item],
    }
    for n, values in enumerate(USER_FEATURES):
        columns[f"user_feature_{n}"] = [f"{value}" for value in rng.integers(0, values, ROWS)]
    return pa.table(columns)


if __name__ == "__main__":
    main()
