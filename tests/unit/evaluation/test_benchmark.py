"""The benchmark on tiny data sets of the published formats, with numbers that can be computed by hand."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose

from segue.contracts.errors import InvalidData, NotFound
from segue.evaluation import benchmark
from segue.evaluation.benchmark import DATASETS, Report, run
from segue.models.ials import IALSConfig

N_USERS, N_ITEMS = 60, 40
Lists = dict[int, list[int]]


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table as it is, but for the size of the factors."""
    for name, spec in DATASETS.items():
        families = dict(spec.families)
        if "ials" in families:
            small = [IALSConfig(8, 3, alpha, 0.01) for alpha in (0.05, 0.2)]
            families["ials"] = dataclasses.replace(families["ials"], grid=small, enlarge=None)
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(spec, families=families))


def lists(seed: int, per_user: int, taken: tuple[Lists, ...] = ()) -> Lists:
    """Two tastes: even users like the low items, odd ones the high."""
    rng = np.random.default_rng(seed)
    out: Lists = {}
    for user in range(N_USERS):
        half = np.arange(N_ITEMS // 2) + (user % 2) * (N_ITEMS // 2)
        free = np.setdiff1d(half, [item for earlier in taken for item in earlier[user]])
        out[user] = sorted(rng.choice(free, per_user, replace=False).tolist())
    return out


def write(path: Path, content: Lists) -> None:
    with gzip.open(path, "wt") as file:
        for user, items in content.items():
            file.write(" ".join(map(str, [user, *items])) + "\n")


def three_files(path: Path, *, valid_in_train: bool) -> tuple[Lists, Lists, Lists]:
    rest = lists(0, 6)
    valid = lists(1, 2, (rest,))
    test = lists(2, 3, (rest, valid))
    train = {user: sorted(rest[user] + valid[user]) for user in rest} if valid_in_train else rest
    for name, content in (("train", train), ("valid", valid), ("test", test)):
        write(path / f"{name}.txt.gz", content)
    return train, valid, test


def popular_by_hand(train: Lists, test: Lists, cut: int) -> tuple[float, float]:
    counts = np.bincount([item for items in train.values() for item in items], minlength=N_ITEMS)
    recalls, ndcgs = [], []
    for user, targets in test.items():
        ranked = [item for item in np.argsort(-counts, kind="stable") if item not in train[user]][:cut]
        gains = [1 / np.log2(rank + 2) for rank, item in enumerate(ranked) if item in targets]
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(cut, len(targets))))
        recalls.append(len(gains) / len(targets))
        ndcgs.append(sum(gains) / ideal)
    return float(np.mean(recalls)), float(np.mean(ndcgs))


@pytest.mark.parametrize(
    ("name", "cut", "valid_in_train"), [("gowalla-lightgcn", 20, True), ("lightgcnpp-lastfm", 10, False)]
)
def test_numbers_and_shape(tmp_path: Path, name: str, cut: int, valid_in_train: bool) -> None:
    train, _, test = three_files(tmp_path, valid_in_train=valid_in_train)
    report = run(name, tmp_path)
    document = msgspec.json.decode(msgspec.json.encode(report))
    assert list(document) == ["dataset", "models", "published"]
    assert document["dataset"] == name
    assert set(report.models) == {*DATASETS[name].families, "blend"}
    for row in report.models.values():
        assert set(row) == {f"recall@{cut}", f"ndcg@{cut}", "fit_seconds"}
    for row in report.published.values():
        assert set(row) == {f"recall@{cut}", f"ndcg@{cut}"}
    popular = report.models["popular"]
    assert_allclose((popular[f"recall@{cut}"], popular[f"ndcg@{cut}"]), popular_by_hand(train, test, cut))
    assert report.models["graph-filter"][f"ndcg@{cut}"] > 1.3 * popular[f"ndcg@{cut}"]


def test_test_data_choose_nothing(tmp_path: Path) -> None:
    """Another test file changes what is measured, and no setting and no weight."""
    said: list[list[str]] = []
    reports: list[Report] = []
    for seed in (2, 3):
        train, valid, _ = three_files(tmp_path, valid_in_train=True)
        write(tmp_path / "test.txt.gz", lists(seed, 3, (train, valid)))
        lines: list[str] = []
        reports.append(run("gowalla-lightgcn", tmp_path, lines.append))
        said.append([line for line in lines if "fit_seconds" not in line])
    assert said[0] == said[1]
    assert len(said[0]) == 2 + len(DATASETS["gowalla-lightgcn"].families)
    assert reports[0].models["ials"]["ndcg@20"] != reports[1].models["ials"]["ndcg@20"]


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_files(tmp_path, valid_in_train=False)
    whole = run("lightgcnpp-ml-1m", tmp_path)
    monkeypatch.setattr(benchmark, "BATCH", 7)
    parts = run("lightgcnpp-ml-1m", tmp_path)
    for name, row in whole.models.items():
        assert_allclose(parts.models[name]["ndcg@10"], row["ndcg@10"], rtol=1e-9)


def test_sequences_predict_the_last_item_from_all_before_it(tmp_path: Path) -> None:
    """Everyone walks the same circle, so the next item is certain once the order is learnt."""
    circle = {user: [1 + (user + step) % 30 for step in range(8)] for user in range(60)}
    write(tmp_path / "sequences.txt.gz", circle)
    report = run("s3rec-beauty", tmp_path)
    assert report.models["markov"]["hr@10"] == 1.0
    assert report.models["markov"]["ndcg@10"] > 0.99
    assert set(report.models["popular"]) == {"hr@10", "ndcg@10", "fit_seconds"}


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="known: gowalla-lightgcn"):
        run("gowalla", tmp_path)
    with pytest.raises(NotFound, match=r"train\.txt\.gz is missing"):
        run("gowalla-lightgcn", tmp_path)
    three_files(tmp_path, valid_in_train=True)
    whole = (tmp_path / "test.txt.gz").read_bytes()
    words = (b"1 2 x\n", b"1 -2\n", b"\xff")
    for broken in (whole[:-20], b"not gzip", *map(gzip.compress, words)):
        (tmp_path / "test.txt.gz").write_bytes(broken)
        with pytest.raises(InvalidData, match=r"test\.txt\.gz"):
            run("gowalla-lightgcn", tmp_path)
