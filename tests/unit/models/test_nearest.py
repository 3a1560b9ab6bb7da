"""Nearest against a full matrix product: equality where it promises it, recall where it approximates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData, InvalidInput, InvalidSettings
from segue.models.nearest import Nearest, NearestConfig

Vectors = npt.NDArray[np.float32]

ALL_CELLS = NearestConfig(exact_below=0, probe=1.0, rescore=50)


def factors(rng: np.random.Generator, items: int, d: int, scenes: int = 40) -> tuple[Vectors, Vectors]:
    """Item and listener vectors like a factor model's: clustered directions, norms that follow popularity."""
    scene = rng.normal(size=(scenes, d)) / np.sqrt(np.arange(1, d + 1))
    of_item = rng.integers(0, scenes, items)
    vectors = scene[of_item] + rng.normal(size=(items, d)) * 0.3
    popularity = np.log1p(items / rng.permutation(np.arange(1, items + 1)))
    vectors *= (popularity / np.linalg.norm(vectors, axis=1))[:, None]
    queries = scene[rng.integers(0, scenes, 40)] + rng.normal(size=(40, d)) * 0.2
    return vectors.astype(np.float32), queries.astype(np.float32)


def brute(vectors: Vectors, query: Vectors, k: int, allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    scores = np.where(allowed, vectors @ query, -np.inf)
    return np.argsort(-scores, kind="stable")[: min(k, int(allowed.sum()))]


def recall(index: Nearest, queries: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> float:
    everything = np.ones(len(index.vectors), np.bool_) if allowed is None else allowed
    ids, _ = index.search(queries, k, allowed)
    found = [
        len(np.intersect1d(row, brute(index.vectors, query, k, everything)))
        for row, query in zip(ids, queries, strict=True)
    ]
    return float(np.sum(found)) / (k * len(queries))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(0, 300),
    d=st.integers(1, 9),
    k=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    cells=st.booleans(),
)
def test_equals_brute_force_when_everything_is_read(
    seed: int, items: int, d: int, k: int, share: float, cells: bool
) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = (
        rng.normal(size=(items, d)).astype(np.float32),
        rng.normal(size=(3, d)).astype(np.float32),
    )
    vectors[rng.random(items) < 0.1] = 0.0
    allowed = rng.random(items) < share
    index = Nearest.fit(vectors, ALL_CELLS if cells else NearestConfig())
    assert index.is_exact == (not cells or items == 0)
    ids, scores = index.search(queries, k, allowed)
    assert ids.shape == scores.shape == (3, k)
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    for row, score, query in zip(ids, scores, queries, strict=True):
        best = brute(vectors, query, k, allowed)
        assert np.all(row[len(best) :] == -1)
        assert np.all(np.isneginf(score[len(best) :]))
        found = row[: len(best)]
        assert len(set(found.tolist())) == len(found)
        assert allowed[found].all()
        np.testing.assert_allclose(score[: len(best)], (vectors @ query)[best], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose((vectors @ query)[found], score[: len(best)], rtol=1e-5, atol=1e-5)


def test_without_a_mask_is_the_mask_of_all() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = factors(rng, 3_000, 16)
    for index in (Nearest.fit(vectors), Nearest.fit(vectors, NearestConfig(exact_below=10))):
        bare, masked = index.search(queries, 20), index.search(queries, 20, np.ones(3_000, np.bool_))
        np.testing.assert_array_equal(bare[0], masked[0])
        np.testing.assert_array_equal(bare[1], masked[1])


def test_recall_on_factors_reading_a_small_share() -> None:
    vectors, queries = factors(np.random.default_rng(1), 30_000, 32)
    index = Nearest.fit(vectors, NearestConfig(exact_below=1_000, probe=0.2, least=0))
    assert not index.is_exact
    assert recall(index, queries, 50) > 0.99


def test_recall_without_any_help_from_the_norms() -> None:
    rng = np.random.default_rng(2)
    vectors, queries = factors(rng, 30_000, 32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = Nearest.fit(vectors, NearestConfig(exact_below=1_000, probe=0.05, least=0))
    assert recall(index, queries, 50) > 0.99


def test_reading_more_finds_more() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(20_000, 24)).astype(np.float32)  # nothing to cluster: the hardest case
    queries = rng.normal(size=(20, 24)).astype(np.float32)
    arrays = Nearest.fit(vectors, NearestConfig(exact_below=0)).arrays()
    recalls = [
        recall(Nearest.from_arrays(arrays, NearestConfig(exact_below=0, probe=probe, least=0)), queries, 20)
        for probe in (0.02, 0.2, 1.0)
    ]
    assert recalls[0] < recalls[1] < recalls[2]
    assert recalls[2] == 1.0  # 8-bit codes lose nothing that rescoring does not repair


@pytest.mark.parametrize("exact_below", [50_000, 1_000])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_by_cosine_finds_what_an_index_of_unit_vectors_finds(exact_below: int, share: float) -> None:
    rng = np.random.default_rng(10)
    vectors, queries = factors(rng, 30_000, 32)
    vectors[rng.random(30_000) < 0.02] = 0.0
    config = NearestConfig(exact_below=exact_below, probe=0.05, least=0)
    index = Nearest.fit(vectors, config).by_cosine()
    assert index.vectors.base is vectors or index.vectors is vectors
    unit = Nearest.fit(vectors * index.weight[:, None], config)
    allowed = rng.random(30_000) < share
    ids, scores = index.search(queries, 50, allowed)
    product = (vectors @ queries.T * index.weight[:, None]).T
    np.testing.assert_allclose(scores, np.take_along_axis(product, ids, axis=1), rtol=1e-5, atol=1e-6)
    best = [brute(unit.vectors, query, 50, allowed) for query in queries]
    found = np.mean([np.isin(row, true).mean() for row, true in zip(ids, best, strict=True)])
    assert found > (0.9999 if exact_below > 30_000 else 0.99)
    assert found >= recall(unit, queries, 50, allowed) - 0.005
    np.testing.assert_allclose(
        np.linalg.norm(vectors * index.weight[:, None], axis=1), (index.weight > 0).astype(float), rtol=1e-5
    )


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_mask_does_not_cost_recall(share: float) -> None:
    rng = np.random.default_rng(4)
    vectors, queries = factors(rng, 30_000, 32)
    index = Nearest.fit(vectors, NearestConfig(exact_below=1_000, probe=0.2, least=0))
    allowed = rng.random(30_000) < share
    ids, _ = index.search(queries, 50, allowed)
    assert allowed[ids].all()
    assert recall(index, queries, 50, allowed) > 0.98


def test_a_mask_that_leaves_little_is_searched_exactly() -> None:
    rng = np.random.default_rng(5)
    vectors, queries = factors(rng, 5_000, 16)
    index = Nearest.fit(vectors, NearestConfig(exact_below=500, probe=0.01, least=0))
    allowed = np.zeros(5_000, np.bool_)
    allowed[rng.choice(5_000, 400, replace=False)] = True
    assert recall(index, queries, 30, allowed) == 1.0
    nobody, scores = index.search(queries, 5, np.zeros(5_000, np.bool_))
    assert np.all(nobody == -1)
    assert np.all(np.isneginf(scores))


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((500, 4), np.float32),
        np.zeros((500, 4), np.float32),
        np.full((500, 4), 1e-45, np.float32),
        np.repeat(np.eye(4, dtype=np.float32), 125, axis=0),
    ],
)
def test_copies_and_nothings_are_found_all_the_same(vectors: Vectors) -> None:
    query = np.array([[4, 3, 2, 1]], np.float32)
    ids, scores = Nearest.fit(vectors, ALL_CELLS).search(query, 10)
    assert len(set(ids[0].tolist()) - {-1}) == 10
    np.testing.assert_allclose(scores[0], np.sort(vectors @ query[0])[::-1][:10], rtol=1e-6)


def test_saved_and_memory_mapped_answers_are_equal(tmp_path: Path) -> None:
    vectors, queries = factors(np.random.default_rng(6), 4_000, 16)
    config = NearestConfig(exact_below=100)
    index = Nearest.fit(vectors, config)
    opened = {}
    for name, array in index.arrays().items():
        np.save(tmp_path / f"{name}.npy", array)
        opened[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    again = Nearest.from_arrays(opened, config).search(queries, 20)
    for ours, theirs in zip(index.search(queries, 20), again, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_seed_builds_the_same_index() -> None:
    vectors, _ = factors(np.random.default_rng(7), 3_000, 8)
    a, b = (Nearest.fit(vectors, NearestConfig(exact_below=0, seed=3)).arrays() for _ in range(2))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_refusals() -> None:
    vectors, queries = factors(np.random.default_rng(8), 1_000, 8)
    index = Nearest.fit(vectors, ALL_CELLS)
    wrong: list[Any] = [queries[:, :7], queries[0], queries.astype(np.float64), queries * np.float32(np.nan)]
    for bad in wrong:
        with pytest.raises(InvalidInput, match="queries"):
            index.search(bad, 5)
    with pytest.raises(InvalidInput, match="k must"):
        index.search(queries, 0)
    with pytest.raises(InvalidInput, match="allowed"):
        index.search(queries, 5, np.ones(999, np.bool_))
    wrong = [vectors[0], vectors.astype(np.float64), vectors * np.float32(np.inf)]
    for odd in wrong:
        with pytest.raises(InvalidInput, match="vectors"):
            Nearest.fit(odd)
    with pytest.raises(InvalidSettings, match="probe"):
        NearestConfig(probe=0.0)
    with pytest.raises(InvalidSettings, match="rescore"):
        NearestConfig(rescore=0)


@pytest.mark.parametrize("name", ["cell_items", "cell_list", "cell_codes", "directions", "weight"])
def test_refuses_arrays_that_do_not_fit(name: str) -> None:
    vectors, _ = factors(np.random.default_rng(9), 1_000, 8)
    index = Nearest.fit(vectors, ALL_CELLS).by_cosine()
    arrays = {k: v.copy() for k, v in index.arrays().items()}
    with pytest.raises(InvalidData, match="fit"):
        Nearest.from_arrays({**arrays, "vectors": arrays["vectors"][:900, :7]})
    with pytest.raises(InvalidData, match="fit"):
        Nearest.from_arrays({**arrays, name: arrays[name][:-1]})
    with pytest.raises(InvalidData, match=name):
        Nearest.from_arrays({k: v for k, v in arrays.items() if k != name})
