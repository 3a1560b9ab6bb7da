"""Nearest items by inner product, one query a call: `segue.models.nearest` against faiss.

Both are read at the cheapest setting of a grid that finds at least 97% of the true 100 best, averaged over the
queries. Two kinds of vectors, because the answer depends on them:

* factor-like, after what a factor model makes of a catalogue: 1,500 scenes of Zipf size in 60 genres; directions
  spread around their scene with a spectrum that falls as the square root of the dimension; norms that follow
  log(1 + plays)^0.7 of a Zipf (0.9) popularity, with 15% noise. A listener is the mean of 5 to 40 tracks of 1 to 4
  scenes.
* mixture: 1,000 Gaussian clusters as wide as they are apart. Norms say nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.harness import Goal, Row, at_most, interleaved, less_is_better, more_is_better
from segue.models.nearest import Nearest, NearestConfig

ITEMS, D, QUERIES, K = 1_000_000, 64, 300, 100
RECALL = 0.97
PROBES = (0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4)
NPROBES = (4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384)
PASSES = 5
RATE, BUILD_S = 1_700.0, 10.0
"""Goals: queries a second at RECALL, seconds to build."""

Vectors = npt.NDArray[np.float32]
Built = TypeVar("Built")
Search = Callable[[Vectors], npt.NDArray[Any]]


def run() -> list[Row]:
    """Both kinds of vectors."""
    return [*_compare("factor-like", *factor_like()), *_compare("mixture", *mixture())]


def _compare(kind: str, vectors: Vectors, queries: Vectors) -> list[Row]:
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(D)
    flat.add(vectors)
    truth = flat.search(queries, K)[1]
    index, build = _timed(lambda: Nearest.fit(vectors))
    peer, peer_build = _timed(lambda: _faiss_index(vectors))
    search, recall, probe = _cheapest(lambda value: _our_search(index, value), PROBES, queries, truth)
    peer_search, peer_recall, nprobe = _cheapest(
        lambda value: _faiss_search(peer, value), NPROBES, queries, truth
    )
    ours, theirs = interleaved([lambda: _each(search, queries), lambda: _each(peer_search, queries)], PASSES)
    few = queries[:20]
    ours_few, exact = interleaved(
        [lambda: _each(search, few), lambda: _each(lambda q: flat.search(q, K)[1], few)], PASSES
    )
    return [
        more_is_better(
            f"nearest, {kind}: against faiss IVF1024,SQ8",
            QUERIES / ours,
            QUERIES / theirs,
            "queries/s",
            f"{ITEMS:,} x {D}, k={K}; recall {recall:.3f} (probe {probe}) and {peer_recall:.3f} (nprobe {nprobe})",
            Goal(
                f"at least {RATE:,g} queries/s, recall at least {RECALL:g}",
                bool(QUERIES / ours >= RATE and recall >= RECALL),
            ),
        ),
        more_is_better(
            f"nearest, {kind}: against faiss flat",
            len(few) / ours_few,
            len(few) / exact,
            "queries/s",
            f"recall {recall:.3f} and 1",
        ),
        less_is_better(
            f"nearest, {kind}: build",
            build,
            peer_build,
            "s",
            "against faiss IVF1024,SQ8",
            at_most(build, BUILD_S, "s"),
        ),
    ]


def _timed(function: Callable[[], Built]) -> tuple[Built, float]:
    start = time.process_time()
    return function(), time.process_time() - start


def _faiss_index(vectors: Vectors) -> Any:
    index = faiss.index_factory(D, "IVF1024,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[np.random.default_rng(0).choice(len(vectors), 100_000, replace=False)])
    index.add(vectors)
    return index


def _our_search(index: Nearest, probe: float) -> Search:
    tuned = Nearest.from_arrays(index.arrays(), NearestConfig(probe=probe, least=0))
    return lambda query: tuned.search(query, K)[0]


def _faiss_search(index: Any, nprobe: float) -> Search:
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = int(nprobe)
    return lambda query: index.search(query, K, params=parameters)[1]


def _cheapest(
    search_at: Callable[[float], Search], grid: Sequence[float], queries: Vectors, truth: npt.NDArray[Any]
) -> tuple[Search, float, float]:
    """The first setting that reaches the recall, or the last: (search, recall, setting)."""
    for setting in grid:
        search = search_at(setting)
        found = [
            len(np.intersect1d(ids, best)) for ids, best in zip(_each(search, queries), truth, strict=True)
        ]
        recall = sum(found) / truth.size
        if recall >= RECALL:
            break
    return search, recall, setting


def _each(search: Search, queries: Vectors) -> list[npt.NDArray[Any]]:
    return [search(queries[i : i + 1])[0] for i in range(len(queries))]


def factor_like(seed: int = 0) -> tuple[Vectors, Vectors]:
    """Items and listeners as the module's docstring says."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, D + 1) ** -0.5
    spectrum *= np.sqrt(D / (spectrum**2).sum())
    genres = rng.normal(size=(60, D)) * spectrum
    scenes = 0.8 * genres[rng.integers(0, 60, 1_500)] + 0.7 * rng.normal(size=(1_500, D)) * spectrum
    size = rng.zipf(1.5, 1_500).clip(1, 200).astype(float)
    size /= size.sum()
    around = (0.7 * spectrum).astype(np.float32)
    items = rng.standard_normal((ITEMS, D), np.float32) * around
    items += scenes[rng.choice(1_500, ITEMS, p=size)].astype(np.float32)
    plays = 1e6 * (rng.permutation(ITEMS) + 1.0) ** -0.9
    norms = np.log1p(plays) ** 0.7 * np.exp(0.15 * rng.normal(size=ITEMS))
    items *= (norms / np.linalg.norm(items, axis=1)).astype(np.float32)[:, None]
    queries = np.empty((QUERIES, D), np.float32)
    for query in queries:
        tracks = scenes[rng.choice(rng.choice(1_500, rng.integers(1, 5), p=size), rng.integers(5, 41))]
        query[:] = (tracks + 0.7 * rng.normal(size=tracks.shape) * spectrum).mean(0)
    return items, queries


def mixture(seed: int = 0) -> tuple[Vectors, Vectors]:
    """1,000 Gaussian clusters; queries come from the same clusters."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1_000, D), np.float32)
    items, queries = (
        centres[rng.integers(0, 1_000, n)] + rng.standard_normal((n, D), np.float32) for n in (ITEMS, QUERIES)
    )
    return items, queries
