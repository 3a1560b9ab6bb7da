"""Training iALS: `segue.models.ials` against `implicit`, CPU seconds to the same NDCG@100.

Same objective (uniform regularization, one weight for all unobserved pairs) up to a constant: with unobserved weight a
and regularization l of ours, `implicit` solves the same normal equations with confidence 1 + 1/a and regularization
l/a, except that it aims at 1 + 1/a where we aim at 1/a. Both use 32-bit floats and conjugate gradients: `implicit` three
steps, as it ships, and ours two, as it ships. Settings were chosen for each on a validation split, from the same grid
(`python -m benchmarks.bench_ials 64` prints that search); the best of neither lies at an edge of it.

The clock stops while NDCG is measured, after every epoch, on held-out tracks of listeners folded in exactly by each
library itself. The goal is 99.5% of what the worse of the two reaches in the end.

Data: 35,000 listeners x 12,000 tracks, 1.6 million plays. Popularity is Zipf (0.9), history lengths are log-normal
(median 32, 10 to 500), tastes are 24-dimensional with a falling spectrum; a listener's tracks are the best of
taste . track + log popularity + Gumbel noise, that is, drawn without replacement from a softmax.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares

from benchmarks.harness import Row, at_least, less_is_better
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions

USERS, ITEMS, TASTE = 35_000, 12_000, 24
EPOCHS = 8
REPEATS = 3
CUT, JUDGED = 100, 2_000
NEAR = 0.995
GOALS = {64: 3.0, 128: 2.0}
"""How many times faster than `implicit`, by dimensions."""
WEIGHTS = (5.0, 10.0, 20.0, 40.0)
REGULARIZATIONS = (100.0, 150.0, 200.0, 300.0, 400.0, 600.0)
"""The grid of the search, in the words of `implicit`."""

Curve = list[tuple[float, float]]  # CPU seconds so far, NDCG@100


@dataclass(frozen=True)
class Setting:
    """One objective in the words of `implicit`: weight of an observed pair above the others, regularization."""

    weight: float
    regularization: float


OURS = {64: Setting(20.0, 300.0), 128: Setting(20.0, 300.0)}
PEER = {64: Setting(20.0, 300.0), 128: Setting(20.0, 300.0)}


@dataclass(frozen=True)
class Split:
    train: sp.csr_matrix
    judged: npt.NDArray[np.int64]
    held_out: sp.csr_matrix  # one row per judged listener


def run() -> list[Row]:
    """64 and 128 dimensions."""
    split = _split(plays(), seed=2)
    _fit_ours(split, 16, OURS[64], epochs=1)  # compiles
    return [_compare(split, d) for d in GOALS]


def _compare(split: Split, d: int) -> Row:
    ours: list[Curve] = []
    peer: list[Curve] = []
    for _ in range(REPEATS):
        ours.append(_fit_ours(split, d, OURS[d]))
        peer.append(_fit_peer(split, d, PEER[d]))
    goal = NEAR * min(max(ndcg for _, ndcg in curve) for curve in (*ours, *peer))
    our_seconds, our_epochs = _until(ours, goal)
    peer_seconds, peer_epochs = _until(peer, goal)
    plateaus = [max(ndcg for _, ndcg in curves[0]) for curves in (ours, peer)]
    return less_is_better(
        f"ials: {d} dimensions",
        our_seconds,
        peer_seconds,
        "s",
        f"{USERS:,} x {ITEMS:,}, {split.train.nnz:,} pairs, to NDCG@{CUT} {goal:.4f} in {our_epochs} and {peer_epochs} epochs;"
        f" best {plateaus[0]:.4f} and {plateaus[1]:.4f}; one epoch {ours[0][-1][0] / len(ours[0]):.2f} and"
        f" {peer[0][-1][0] / len(peer[0]):.2f} s",
        at_least(peer_seconds / our_seconds, GOALS[d], "x"),
    )


def _until(curves: list[Curve], goal: float) -> tuple[float, int]:
    """Median seconds to the goal, and the epochs that took."""
    firsts = [next(i for i, (_, ndcg) in enumerate(curve) if ndcg >= goal) for curve in curves]
    return float(np.median([curve[i][0] for curve, i in zip(curves, firsts, strict=True)])), firsts[0] + 1


def _fit_ours(split: Split, d: int, setting: Setting, epochs: int = EPOCHS) -> Curve:
    unobserved = 1.0 / setting.weight
    config = IALSConfig(
        factors=d,
        epochs=epochs,
        unobserved_weight=unobserved,
        regularization=setting.regularization * unobserved,
        regularization_exponent=0.0,
    )
    train = _interactions(split.train)
    histories = _interactions(split.train[split.judged])
    watch = _Stopwatch(split)

    def after_epoch(epoch: int, model: IALS) -> bool:
        watch.lap(lambda: (model.fold_in_batch(histories, steps=32), model.item_factors))
        return False

    watch.start()
    IALS.fit(train, config, after_epoch)
    return watch.curve


def _fit_peer(split: Split, d: int, setting: Setting, epochs: int = EPOCHS) -> Curve:
    model = AlternatingLeastSquares(
        factors=d,
        regularization=setting.regularization,
        alpha=1.0 + setting.weight,
        iterations=epochs,
        num_threads=1,
        random_state=0,
    )
    histories = split.train[split.judged]
    watch = _Stopwatch(split)

    def after_epoch(*_: object) -> None:
        model._YtY = None  # else the folding-in would use the Gram matrix of the first epoch
        watch.lap(
            lambda: (model.recalculate_user(np.arange(len(split.judged)), histories), model.item_factors)
        )

    watch.start()
    model.fit(split.train, show_progress=False, callback=after_epoch)
    return watch.curve


class _Stopwatch:
    """CPU seconds of training, without those of measuring."""

    def __init__(self, split: Split) -> None:
        self.curve: Curve = []
        self._split = split
        self._spent = 0.0
        self._since = 0.0

    def start(self) -> None:
        self._since = time.process_time()

    def lap(self, factors: Callable[[], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> None:
        self._spent += time.process_time() - self._since
        users, items = factors()
        self.curve.append((self._spent, _ndcg(users @ items.T, self._split)))
        self._since = time.process_time()


def _ndcg(scores: npt.NDArray[np.float32], split: Split) -> float:
    """Mean NDCG@100 over the judged listeners; what they already played is not ranked."""
    known = split.train[split.judged]
    rows = np.repeat(np.arange(len(scores)), np.diff(known.indptr))
    scores[rows, known.indices] = -np.inf
    top = np.argpartition(-scores, CUT, axis=1)[:, :CUT]
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1), axis=1)
    wanted = split.held_out.toarray().astype(bool)
    hits = np.take_along_axis(wanted, top, axis=1)
    discount = 1.0 / np.log2(np.arange(2, CUT + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(wanted.sum(1), CUT)]
    return float(((hits * discount).sum(1) / ideal).mean())


def _interactions(matrix: sp.csr_matrix) -> Interactions:
    matrix.sort_indices()
    return Interactions(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        np.ones(matrix.nnz, np.float32),
        ITEMS,
    )


def plays(seed: int = 0) -> sp.csr_matrix:
    """Listeners x tracks, ones, as the module's docstring says."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, TASTE + 1) ** -0.5
    tracks = (rng.normal(size=(ITEMS, TASTE)) * spectrum).astype(np.float32)
    popularity = (-0.9 * np.log(rng.permutation(ITEMS) + 1.0)).astype(np.float32)
    lengths = np.exp(rng.normal(np.log(32), 0.8, USERS)).clip(10, 500).astype(int)
    columns = []
    for first in range(0, USERS, 500):
        taste = (rng.normal(size=(500, TASTE)) * spectrum).astype(np.float32) * 2
        appeal = taste @ tracks.T + popularity
        appeal -= np.log(
            rng.standard_exponential((500, ITEMS), np.float32) + np.float32(1e-30)
        )  # Gumbel noise
        for row, length in zip(appeal, lengths[first : first + 500], strict=True):
            columns.append(np.argpartition(-row, length)[:length])
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate(columns)
    return sp.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=(USERS, ITEMS))


def _split(matrix: sp.csr_matrix, seed: int) -> Split:
    """Hold out a fifth of the plays of the judged listeners."""
    rng = np.random.default_rng(seed)
    judged = np.sort(rng.choice(USERS, JUDGED, replace=False))
    pairs = matrix.tocoo()
    held = np.isin(pairs.row, judged) & (rng.random(pairs.nnz) < 0.2)
    judged = np.unique(pairs.row[held])  # a few with short histories lost nothing and cannot be judged

    def part(mask: npt.NDArray[np.bool_]) -> sp.csr_matrix:
        return sp.csr_matrix((pairs.data[mask], (pairs.row[mask], pairs.col[mask])), shape=matrix.shape)

    return Split(part(~held), judged, part(held)[judged])


def search(d: int) -> None:
    """Print NDCG@100 on a validation split of the training part, for both, over the same grid."""
    split = _split(_split(plays(), seed=2).train, seed=3)
    for weight in WEIGHTS:
        for regularization in REGULARIZATIONS:
            setting = Setting(weight, regularization)
            ours = max(ndcg for _, ndcg in _fit_ours(split, d, setting, 10))
            peer = max(ndcg for _, ndcg in _fit_peer(split, d, setting, 10))
            print(f"{d} {weight:g} {regularization:g}: ours {ours:.4f} implicit {peer:.4f}", flush=True)


if __name__ == "__main__":
    search(int(sys.argv[1]))
