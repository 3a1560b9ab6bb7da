"""The mask scorer against LightGBM itself, which is the definition of the right answer."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData, InvalidInput
from segue.models.trees import TreeScorer

Matrix = npt.NDArray[np.float32]


def train(x: Matrix, y: npt.NDArray[np.float64], rounds: int = 12, **params: object) -> lgb.Booster:
    defaults: dict[str, object] = {
        "objective": "regression",
        "verbose": -1,
        "num_threads": 1,
        "min_data_in_leaf": 1,
        "min_data_in_bin": 1,
        "min_sum_hessian_in_leaf": 0.0,
        "feature_pre_filter": False,
        "seed": 7,
        "deterministic": True,
    }
    return lgb.train({**defaults, **params}, lgb.Dataset(x, y, free_raw_data=True), rounds)


def reference(booster: lgb.Booster, x: Matrix) -> npt.NDArray[np.float64]:
    return np.asarray(booster.predict(x, raw_score=True, num_threads=1), np.float64)


def messy(rng: np.random.Generator, rows: int, features: int, oddities: float) -> Matrix:
    """Numbers of many scales with ties, and a share of NaN, zeros, infinities, denormals and huge values."""
    x = rng.normal(size=(rows, features)).astype(np.float32) * np.float32(10) ** rng.integers(-3, 4, features)
    x[:, 0] = np.round(x[:, 0], 1)
    odd = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-35, -1e-36, 1e-45, 3e38, -3e38], np.float32)
    return np.where(rng.random(x.shape) < oddities, rng.choice(odd, x.shape), x).astype(np.float32)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 200),
    features=st.integers(1, 9),
    leaves=st.integers(2, 80),
    zero_as_missing=st.booleans(),
    use_missing=st.booleans(),
    train_oddities=st.sampled_from([0.0, 0.05, 0.5]),
    score_oddities=st.sampled_from([0.0, 0.05, 0.5]),
    constant=st.booleans(),
)
def test_equals_lightgbm_on_anything(
    seed: int,
    rows: int,
    features: int,
    leaves: int,
    zero_as_missing: bool,
    use_missing: bool,
    train_oddities: float,
    score_oddities: float,
    constant: bool,
) -> None:
    rng = np.random.default_rng(seed)
    x = messy(rng, 300, features, train_oddities)
    if constant:
        x[:, -1] = 3.0
    y = np.nan_to_num(x, nan=5.0, posinf=9.0, neginf=-9.0).clip(-9, 9).sum(1) + rng.normal(size=300)
    booster = train(
        x, y.astype(np.float64), num_leaves=leaves, zero_as_missing=zero_as_missing, use_missing=use_missing
    )
    fresh = messy(rng, rows, features, score_oddities)
    np.testing.assert_allclose(
        TreeScorer.from_lightgbm(booster).score(fresh), reference(booster, fresh), rtol=0, atol=1e-12
    )


def paths_by_hand(booster: lgb.Booster, row: Matrix) -> npt.NDArray[np.float64]:
    """Saabas' contributions of one row, walking LightGBM's own dump; the last entry is the roots'."""
    credit = np.zeros(len(row) + 1)

    def mean(node: dict[str, Any]) -> tuple[float, float]:
        if "leaf_value" in node:
            return node["leaf_value"], max(node.get("leaf_count", 1), 1)
        (a, n), (b, m) = mean(node["left_child"]), mean(node["right_child"])
        return (a * n + b * m) / (n + m), n + m

    for tree in booster.dump_model()["tree_info"]:
        node = tree["tree_structure"]
        credit[-1] += mean(node)[0]
        while "leaf_value" not in node:
            value = row[node["split_feature"]]
            left = bool(node["default_left"]) if np.isnan(value) else value <= node["threshold"]
            below = node["left_child"] if left else node["right_child"]
            credit[node["split_feature"]] += mean(below)[0] - mean(node)[0]
            node = below
    return credit


def test_contributions_follow_the_paths() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    booster = train(x, np.nan_to_num(x[:, 0] * x[:, 1] + x[:, 2]).astype(np.float64), num_leaves=8)
    got = TreeScorer.from_lightgbm(booster).contributions(x[:20])
    np.testing.assert_allclose(got, [paths_by_hand(booster, row) for row in x[:20]], rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    zero_as_missing=st.booleans(),
    use_missing=st.booleans(),
    oddities=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_contributions_sum_to_the_score_on_anything(
    seed: int, zero_as_missing: bool, use_missing: bool, oddities: float
) -> None:
    rng = np.random.default_rng(seed)
    x = messy(rng, 300, 5, oddities)
    y = np.nan_to_num(x, nan=5.0, posinf=9.0, neginf=-9.0).clip(-9, 9).sum(1) + rng.normal(size=300)
    boosters = [
        train(x, y * sign, num_leaves=12, zero_as_missing=zero_as_missing, use_missing=use_missing)
        for sign in (1.0, -1.0)
    ]
    scorer = TreeScorer.from_lightgbm(*boosters)
    fresh = messy(rng, 50, 5, oddities)
    for model, expected in enumerate(scorer.score_many(fresh)):
        sums = scorer.contributions(fresh, model).sum(axis=1)
        np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-9)


def test_contributions_of_a_model_that_is_not_there() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    scorer = TreeScorer.from_lightgbm(train(x, x[:, 0].astype(np.float64), rounds=2))
    with pytest.raises(InvalidInput, match="no model 1"):
        scorer.contributions(x, 1)


def test_values_on_the_thresholds_themselves_go_the_same_way() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 3)).astype(np.float32)
    booster = train(x, x.sum(1).astype(np.float64), num_leaves=31)
    thresholds = np.array(booster.trees_to_dataframe()["threshold"].dropna(), np.float64)
    near = thresholds.astype(np.float32)
    steps = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    exact = np.repeat(np.concatenate(steps)[:, None], 3, axis=1)
    np.testing.assert_array_equal(TreeScorer.from_lightgbm(booster).score(exact), reference(booster, exact))


@pytest.mark.parametrize("leaves", [255, 256, 257, 700])
def test_many_leaves(leaves: int) -> None:
    rng = np.random.default_rng(leaves)
    x = rng.normal(size=(4_000, 5)).astype(np.float32)
    booster = train(x, rng.normal(size=4_000), rounds=3, num_leaves=leaves)
    scorer = TreeScorer.from_lightgbm(booster)
    assert np.diff(scorer.tree_leaves).max() == leaves
    np.testing.assert_allclose(scorer.score(x[:333]), reference(booster, x[:333]), rtol=0, atol=1e-12)


def test_more_thresholds_than_a_byte_can_count() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5_000, 2)).astype(np.float32)
    booster = train(x, rng.normal(size=5_000), rounds=20, num_leaves=63, max_bin=5_000)
    scorer = TreeScorer.from_lightgbm(booster)
    assert scorer.node_cut.dtype == np.uint16
    assert scorer.column_count.max() > 255
    np.testing.assert_allclose(scorer.score(x[:500]), reference(booster, x[:500]), rtol=0, atol=1e-12)


def test_exactly_255_thresholds_fit_a_byte() -> None:
    x = np.arange(256, dtype=np.float32)[:, None]
    rng = np.random.default_rng(0)
    booster = train(x, rng.normal(size=256), rounds=2, num_leaves=256, max_bin=300)
    scorer = TreeScorer.from_lightgbm(booster)
    assert scorer.column_count.max() == 255
    assert scorer.node_cut.dtype == np.uint8
    np.testing.assert_allclose(scorer.score(x), reference(booster, x), rtol=0, atol=1e-12)


def test_trees_of_one_leaf() -> None:
    x = np.ones((50, 2), np.float32)
    booster = train(x, np.full(50, 2.5), rounds=3)
    scorer = TreeScorer.from_lightgbm(booster)
    assert len(scorer.node_cut) == 0
    np.testing.assert_allclose(scorer.score(x), reference(booster, x), rtol=0, atol=1e-12)


def test_trees_of_one_leaf_among_others() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    text = train(x, x[:, 0].astype(np.float64), rounds=3, num_leaves=9).model_to_string()
    stump = "Tree=1\nnum_leaves=1\nnum_cat=0\nleaf_value=0.25\nis_linear=0\nshrinkage=1\n\n\n"
    text = text.replace("Tree=1\n", stump + "Tree=2\n", 1)
    text = "\n".join(line for line in text.split("\n") if not line.startswith("tree_sizes"))
    scorer = TreeScorer.from_lightgbm(text)
    assert list(np.diff(scorer.tree_leaves)) == [9, 1, 9, 9]
    expected = reference(lgb.Booster(model_str=text), x)
    np.testing.assert_allclose(scorer.score(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("boosting", ["gbdt", "dart", "goss"])
def test_boosting_kinds(boosting: str) -> None:
    rng = np.random.default_rng(5)
    x = messy(rng, 500, 6, 0.1)
    y = (rng.random(500) < 0.4).astype(np.float64)
    booster = train(
        x,
        y,
        objective="binary",
        boosting=boosting,
        num_leaves=15,
        rounds=9,
    )
    np.testing.assert_allclose(
        TreeScorer.from_lightgbm(booster).score(x), reference(booster, x), rtol=0, atol=1e-12
    )


def test_only_the_best_iterations_are_read() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    booster = train(x, x[:, 0].astype(np.float64), rounds=20)
    booster.best_iteration = 7  # as early stopping leaves it
    scorer = TreeScorer.from_lightgbm(booster)
    assert len(scorer.tree_leaves) - 1 == 7
    np.testing.assert_allclose(scorer.score(x), reference(booster, x), rtol=0, atol=1e-12)


def test_several_models_at_once() -> None:
    rng = np.random.default_rng(8)
    x = messy(rng, 300, 5, 0.1)
    models = [
        train(x, rng.normal(size=300), rounds=r, num_leaves=n, use_missing=m)
        for r, n, m in [(5, 7, True), (9, 31, False), (1, 300, True)]
    ]
    together = TreeScorer.from_lightgbm(*models)
    got = together.score_many(x[:130])
    assert got.shape == (3, 130)
    for row, model in zip(got, models, strict=True):
        np.testing.assert_allclose(row, reference(model, x[:130]), rtol=0, atol=1e-12)
    with pytest.raises(InvalidInput, match="score_many"):
        together.score(x)


def test_saved_and_memory_mapped_arrays_score_the_same(tmp_path: object) -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    scorer = TreeScorer.from_lightgbm(train(x, x[:, 0].astype(np.float64)))
    opened = {}
    for name, array in scorer.arrays().items():
        np.save(f"{tmp_path}/{name}.npy", array)
        opened[name] = np.load(f"{tmp_path}/{name}.npy", mmap_mode="r")
    np.testing.assert_array_equal(TreeScorer.from_arrays(opened).score(x), scorer.score(x))


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 128, 129])
def test_row_counts_around_a_block(rows: int) -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    booster = train(x, x[:, 1].astype(np.float64))
    got = TreeScorer.from_lightgbm(booster).score(np.asfortranarray(x[:rows]))
    assert got.shape == (rows,)
    if rows:
        np.testing.assert_allclose(got, reference(booster, x[:rows]), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def text() -> str:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    return str(train(x, x[:, 1].astype(np.float64), rounds=2, num_leaves=8).model_to_string())


def test_refuses_categorical_splits() -> None:
    rng = np.random.default_rng(12)
    x = np.column_stack([rng.integers(0, 9, 300), rng.normal(size=300)])
    data = lgb.Dataset(x, x[:, 0] % 3, categorical_feature=[0])
    booster = lgb.train({"verbose": -1, "num_threads": 1, "min_data_per_group": 1}, data, 5)
    with pytest.raises(InvalidData, match="categor"):
        TreeScorer.from_lightgbm(booster)


def test_refuses_linear_leaves_several_classes_and_random_forests() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=(300, 2)).astype(np.float32)
    with pytest.raises(InvalidData, match="linear"):
        TreeScorer.from_lightgbm(train(x, x[:, 0].astype(np.float64), linear_tree=True))
    y = rng.integers(0, 3, 300).astype(np.float64)
    with pytest.raises(InvalidData, match="objective"):
        TreeScorer.from_lightgbm(train(x, y, objective="multiclass", num_class=3))
    with pytest.raises(InvalidData, match="forest"):
        TreeScorer.from_lightgbm(train(x, y, boosting="rf", bagging_freq=1, bagging_fraction=0.6))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tree\n", "bush\n"),
        ("\nend of trees", ""),
        ("left_child=1", "left_child=0"),
        ("left_child=1", "left_child=99"),
        ("split_feature=1", "split_feature=7"),
        ("split_feature=1", "split_feature=x"),
        ("leaf_value=", "leaf_value=0.5 "),
        ("threshold=", "thresh="),
        ("threshold=", "threshold=nan "),
    ],
)
def test_refuses_damaged_text(text: str, old: str, new: str) -> None:
    assert old in text
    with pytest.raises(InvalidData):
        TreeScorer.from_lightgbm(text.replace(old, new, 1))


def test_refuses_text_cut_anywhere(text: str) -> None:
    whole = text.index("\nend of trees")
    for cut in range(0, whole, 97):
        with pytest.raises(InvalidData):
            TreeScorer.from_lightgbm(text[:cut])


@pytest.mark.parametrize(
    "name", ["node_left", "node_right", "node_column", "tree_leaves", "column_start", "model_trees"]
)
def test_refuses_arrays_that_point_outside(text: str, name: str) -> None:
    arrays = {k: v.copy() for k, v in TreeScorer.from_lightgbm(text).arrays().items()}
    arrays[name][-1] = 60_000
    with pytest.raises(InvalidData):
        TreeScorer.from_arrays(arrays)
    del arrays[name]
    with pytest.raises(InvalidData, match=name):
        TreeScorer.from_arrays(arrays)


def test_refuses_wrong_matrices(text: str) -> None:
    scorer = TreeScorer.from_lightgbm(text)
    for bad in (np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float64), np.zeros(3, np.float32)):
        with pytest.raises(InvalidInput, match="float32"):
            scorer.score(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        TreeScorer.from_lightgbm()


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 200), zero_as_missing=st.booleans())
@settings(max_examples=20, deadline=None)
def test_columns_with_one_value_in_all_rows_are_scored_alike(
    seed: int, rows: int, zero_as_missing: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = messy(rng, 300, 6, 0.1)
    booster = train(x, np.nan_to_num(x).clip(-9, 9).sum(1), num_leaves=31, zero_as_missing=zero_as_missing)
    shown = messy(rng, rows, 6, 0.3)
    shown[:, :4] = shown[0, :4]
    np.testing.assert_allclose(
        TreeScorer.from_lightgbm(booster).score(shown), reference(booster, shown), atol=1e-5
    )
