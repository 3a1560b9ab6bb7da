"""`segue benchmark`: our models on published splits, beside the published numbers.

Every data set is full-catalogue ranking with the items of train left out. A model's settings are chosen by NDCG
on held-out interactions that are never those of test, from the small grids below, with the models fit on what
is left of train; then one fit with the chosen settings is scored once on test. Blend weights are chosen the same
way, on the same held-out sample. `fit_seconds` is that last fit alone.

    gowalla-lightgcn    He et al.: LightGCN, SIGIR 2020 (NGCF's split); final fit on all of train
    lightgcnpp-*        Lee, Kim, Shin: Revisiting LightGCN, RecSys 2024 (7:1:2); final fit on train without valid
    s3rec-beauty        Zhou et al.: S3-Rec, CIKM 2020; leave-one-out, final fit on all but the last two items

A data set is a row of `DATASETS`: how to read it, which models compete with which grids, and what was published.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData, NotFound
from segue.evaluation.metrics import top_k_metrics
from segue.models.blend import Scorer, choose_weights, combine
from segue.models.ease import EASE, EASEConfig
from segue.models.graph_filter import GraphFilter, GraphFilterConfig
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions, top_k
from segue.models.item_knn import ItemKNNConfig, fit_item_knn
from segue.models.popularity import Popular
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.sessions import Sessions

Floats = npt.NDArray[np.float32]
Progress = Callable[[str], None]

BATCH = 512
"""Listeners scored at once: BATCH * items * 4 bytes a model."""
TUNING_SCORES = 80_000_000
"""Settings are chosen on as many listeners as give this many scores of one model (320 MB), drawn with a fixed
seed: all of a small data set, 1,950 of Gowalla's."""


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Our models and the published ones: metrics by model (shares between 0 and 1), and seconds to fit ours."""

    dataset: str
    models: dict[str, dict[str, float]]
    published: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Histories:
    """What models see of listeners: their items, and in order where the data set has an order."""

    items: Interactions
    sequences: Sessions | None = None

    def select(self, users: npt.NDArray[np.int64]) -> Histories:
        """These listeners only, in this order."""
        return Histories(
            self.items.select(users),
            None if self.sequences is None else _select_sessions(self.sequences, users),
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Fit on `fit`, rank for the listeners of `histories`, be measured on `targets` (users x items)."""

    fit: Histories
    histories: Histories
    targets: Interactions


@dataclass(frozen=True, slots=True)
class Split:
    """One problem to choose settings on, one to report."""

    tuning: Problem
    final: Problem


Score = Callable[[Histories], Floats]
"""A fitted model: float32[n, n_items] for any listeners' histories."""


@dataclass(frozen=True, slots=True)
class Family:
    """A model with the settings to try.

    `enlarge` turns the chosen settings into the reported ones, where trying the reported size takes too long.
    """

    fit: Callable[[Histories, Any], Score]  # the second is of the grid's own type
    grid: Sequence[msgspec.Struct]
    enlarge: Callable[[Any], msgspec.Struct] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A row of the table of data sets. Every family competes alone, then `blend` of those named."""

    load: Callable[[Path], Split]
    families: dict[str, Family]
    blend: tuple[str, ...]
    metrics: tuple[str, ...]
    published: dict[str, tuple[float, float]]

    @property
    def cut(self) -> int:
        """The K of the metrics."""
        return int(self.metrics[0].split("@")[1])


def run(dataset: str, path: Path, progress: Progress = lambda line: None) -> Report:
    """Choose, fit and measure every model of `dataset` on the files in the directory `path`.

    Raises NotFound for an unknown data set or a missing file, InvalidData for a file that is not what it
    should be.
    """
    if dataset not in DATASETS:
        raise NotFound(f"no benchmark named {dataset}; known: {', '.join(DATASETS)}", field="dataset")
    spec = DATASETS[dataset]
    split = spec.load(path)
    progress(f"{dataset}: {_describe(split.final)}")
    sample = _sample(split.tuning)
    chosen: dict[str, msgspec.Struct] = {}
    parts: dict[str, Floats] = {}
    for name, family in spec.families.items():
        chosen[name], part = _choose(family, sample, spec.cut)
        if name in spec.blend:
            parts[name] = part
        progress(f"{name}: {_settings(chosen[name])}")
    weights = choose_weights([parts[name] for name in spec.blend], lambda s: _quality(s, sample, spec.cut))
    del parts
    progress("blend: " + ", ".join(f"{n} {w:g}" for n, w in zip(spec.blend, weights, strict=True)))
    models: dict[str, dict[str, float]] = {}
    fitted: dict[str, Score] = {}
    for name, family in spec.families.items():
        started = time.perf_counter()
        score = family.fit(split.final.fit, chosen[name])
        seconds = time.perf_counter() - started
        models[name] = {**_measure(score, split.final, spec), "fit_seconds": seconds}
        progress(_line(name, models[name]))
        if name in spec.blend:
            fitted[name] = score
    blend = {name: weight for name, weight in zip(spec.blend, weights, strict=True) if weight}
    models["blend"] = {
        **_measure(lambda h: combine((fitted[n](h), w) for n, w in blend.items()), split.final, spec),
        "fit_seconds": sum(models[name]["fit_seconds"] for name in blend),
    }
    progress(_line("blend", models["blend"]))
    published = {name: dict(zip(spec.metrics, row, strict=True)) for name, row in spec.published.items()}
    return Report(dataset, models, published)


def _choose(family: Family, sample: Problem, cut: int) -> tuple[msgspec.Struct, Floats]:
    """The best settings of a family on the tuning problem, and the scores of their model on the sample."""
    best, best_quality, best_scores = family.grid[0], -1.0, np.empty((0, 0), np.float32)
    for config in family.grid:
        scores = np.ascontiguousarray(family.fit(sample.fit, config)(sample.histories))
        quality = _quality(scores, sample, cut)
        if quality > best_quality:
            best, best_quality, best_scores = config, quality, scores
    if family.enlarge is not None:
        best = family.enlarge(best)
        best_scores = np.ascontiguousarray(family.fit(sample.fit, best)(sample.histories))
    return best, best_scores


def _sample(problem: Problem) -> Problem:
    """The listeners who have targets, or a sample of them that TUNING_SCORES allows."""
    users = np.flatnonzero(problem.targets.user_counts())
    most = max(1, TUNING_SCORES // problem.targets.n_items)
    if len(users) > most:
        users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    return Problem(problem.fit, problem.histories.select(users), problem.targets.select(users))


def _quality(scores: Floats, problem: Problem, cut: int) -> float:
    top, _ = top_k(scores, cut, problem.histories.items)
    metrics = top_k_metrics(top, problem.targets.indptr, problem.targets.indices, [cut])
    return float(metrics[f"ndcg@{cut}"].mean())


def _measure(score: Score, problem: Problem, spec: Dataset) -> dict[str, float]:
    users = np.flatnonzero(problem.targets.user_counts())
    top = np.empty((len(users), spec.cut), np.int32)
    for batch in _batches(len(users)):
        histories = problem.histories.select(users[batch])
        top[batch] = top_k(np.ascontiguousarray(score(histories)), spec.cut, histories.items)[0]
    targets = problem.targets.select(users)
    metrics = top_k_metrics(top, targets.indptr, targets.indices, [spec.cut])
    return {name: float(metrics[name].mean()) for name in spec.metrics}


def _batches(size: int) -> Iterator[slice]:
    for start in range(0, size, BATCH):
        yield slice(start, min(start + BATCH, size))


def _describe(problem: Problem) -> str:
    train, targets = problem.fit.items, problem.targets
    return (
        f"{train.n_users} listeners, {train.n_items} items, {train.nnz} pairs to fit, {targets.nnz} to find"
    )


def _settings(config: msgspec.Struct) -> str:
    return (
        "nothing to choose"
        if not config.__struct_fields__
        else ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(config).items())
    )


def _line(name: str, row: dict[str, float]) -> str:
    return f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in row.items())


# --- Reading


def _read_lines(path: Path) -> list[npt.NDArray[np.int64]]:
    """Lines of `user item item ...` from a gzip file."""
    if not path.is_file():
        raise NotFound(f"{path.name} is missing in {path.parent}", field="path")
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            lines = [np.array(line.split(), dtype=np.int64) for line in file]
    except (OSError, EOFError, ValueError) as error:
        raise InvalidData(
            f"{path.name} should be gzip lines of `user item item ...` in integers: {error}", field="path"
        ) from error
    if any(len(line) and int(line.min()) < 0 for line in lines):
        raise InvalidData(f"{path.name} has a negative id", field="path", limit=">= 0")
    return [line for line in lines if len(line)]


def _pairs(lines: list[npt.NDArray[np.int64]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(users, items), one entry a pair."""
    users = np.repeat([line[0] for line in lines], [len(line) - 1 for line in lines])
    return users.astype(np.int64), np.concatenate([line[1:] for line in lines])


def _load_three_files(path: Path, *, refit_on_valid: bool) -> Split:
    """train, valid and test; where valid is a part of train, it is set aside for tuning only."""
    files = {name: _pairs(_read_lines(path / f"{name}.txt.gz")) for name in ("train", "valid", "test")}
    n_users = max(int(users.max()) for users, _ in files.values()) + 1
    n_items = max(int(items.max()) for _, items in files.values()) + 1
    train, valid, test = (
        Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items).binary()
        for users, items in files.values()
    )
    whole = Histories(train)
    rest = Histories(_without(train, valid)) if refit_on_valid else whole
    return Split(Problem(rest, rest, valid), Problem(whole, whole, test))


def _without(train: Interactions, valid: Interactions) -> Interactions:
    """The pairs of train that are not in valid."""
    keys, dropped = (
        np.repeat(np.arange(part.n_users), part.user_counts()) * part.n_items + part.indices
        for part in (train, valid)
    )
    kept = keys[~np.isin(keys, dropped)]
    users, items = np.divmod(kept, train.n_items)
    return Interactions.from_pairs(users, items, n_users=train.n_users, n_items=train.n_items)


def _load_sequences(path: Path) -> Split:
    """Leave-one-out: the last item is the target, all before it the history; the fit sees all but the last two.

    Settings are chosen one step earlier: fit on all but the last three items, rank the last but one.
    """
    lines = _read_lines(path / "sequences.txt.gz")
    sequences = [line[1:] for line in lines if len(line) > 4]
    n_items = int(max(sequence.max() for sequence in sequences)) + 1
    return Split(_next_item(sequences, 2, n_items), _next_item(sequences, 1, n_items))


def _next_item(sequences: list[npt.NDArray[np.int64]], last: int, n_items: int) -> Problem:
    """Target: the `last` item from the end."""
    targets = np.array([sequence[-last] for sequence in sequences])
    return Problem(
        _histories([sequence[: -last - 1] for sequence in sequences], n_items),
        _histories([sequence[:-last] for sequence in sequences], n_items),
        Interactions.from_pairs(np.arange(len(sequences)), targets, n_users=len(sequences), n_items=n_items),
    )


def _histories(sequences: list[npt.NDArray[np.int64]], n_items: int) -> Histories:
    lengths = np.array([len(sequence) for sequence in sequences])
    users = np.repeat(np.arange(len(sequences)), lengths)
    items = np.concatenate(sequences)
    order = np.concatenate([np.arange(length) for length in lengths])
    return Histories(
        Interactions.from_pairs(users, items, n_users=len(sequences), n_items=n_items).binary(),
        Sessions.from_plays(users, items, order, users, n_items=n_items),
    )


def _select_sessions(sessions: Sessions, users: npt.NDArray[np.int64]) -> Sessions:
    """The sessions of these listeners, each having one, at their own index."""
    lengths = np.diff(sessions.indptr)[users]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    source = np.repeat(sessions.indptr[users] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return Sessions(
        indptr, sessions.items[source], sessions.ts[source], sessions.user[users], sessions.n_items
    )


# --- Models


def _fit_popular(histories: Histories, config: msgspec.Struct) -> Score:
    return _scorer(Popular.fit(histories.items))


def _fit_item_knn(histories: Histories, config: ItemKNNConfig) -> Score:
    return _scorer(fit_item_knn(histories.items, config))


def _fit_graph_filter(histories: Histories, config: GraphFilterConfig) -> Score:
    return _scorer(GraphFilter.fit(histories.items, config))


def _fit_ials(histories: Histories, config: IALSConfig) -> Score:
    return _scorer(IALS.fit(histories.items, config))


def _fit_ease(histories: Histories, config: EASEConfig) -> Score:
    return _scorer(EASE.fit(histories.items, config))


def _scorer(model: Scorer) -> Score:
    return lambda histories: model.scores(histories.items)


def _fit_sequence_rules(histories: Histories, config: SequenceRulesConfig) -> Score:
    model = SequenceRules.fit(_ordered(histories), config, now=0)

    def score(seen: Histories) -> Floats:
        sequences = _ordered(seen)
        ids, values = model.score_batch(sequences.indptr, sequences.items, config.neighbours)
        out = np.zeros((len(ids), seen.items.n_items), np.float32)
        rows, places = np.nonzero(ids >= 0)
        out[rows, ids[rows, places]] = values[rows, places]
        return out

    return score


def _ordered(histories: Histories) -> Sessions:
    if histories.sequences is None:
        raise InvalidData("this data set has no order, which the model needs", field="dataset")
    return histories.sequences


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For a model that has none."""


POPULAR = Family(_fit_popular, [NoSettings()])


def _graph_filters(exponents: Sequence[tuple[float, float, float]]) -> Family:
    return Family(_fit_graph_filter, [GraphFilterConfig(*row) for row in exponents])


def _item_knns(neighbours: int) -> Family:
    return Family(_fit_item_knn, [ItemKNNConfig(neighbours, shrink) for shrink in (0.0, 5.0, 20.0)])


# --- The table

GOWALLA = Dataset(
    load=lambda path: _load_three_files(path, refit_on_valid=True),
    families={
        "popular": POPULAR,
        "item-knn": _item_knns(200),
        "graph-filter": _graph_filters(
            [(0.6, 0.6, 0.2), (0.7, 0.6, 0.2), (0.8, 0.6, 0.2), (0.7, 0.7, 0.25), (0.7, 0.6, 0.3)]
        ),
        "ials": Family(
            _fit_ials,
            [IALSConfig(128, 6, alpha, reg) for alpha in (0.01, 0.03) for reg in (0.001, 0.003)],
            enlarge=lambda config: msgspec.structs.replace(config, factors=512),
        ),
    },
    blend=("graph-filter", "ials"),
    metrics=("recall@20", "ndcg@20"),
    published={
        "ItemPop (BARS)": (0.0416, 0.0317),
        "ItemKNN (BARS)": (0.1570, 0.1214),
        "EASE^R (BARS)": (0.1765, 0.1467),
        "LightGCN": (0.1830, 0.1550),
        "UltraGCN": (0.1862, 0.1580),
        "SimpleX": (0.1872, 0.1557),
    },
)

LASTFM = Dataset(
    load=lambda path: _load_three_files(path, refit_on_valid=False),
    families={
        "popular": POPULAR,
        "item-knn": _item_knns(200),
        "graph-filter": _graph_filters([(0.6, 0.6, 0.3), (0.5, 0.7, 0.4), (0.6, 0.8, 0.5)]),
        "ials": Family(
            _fit_ials,
            [IALSConfig(256, 8, *row) for row in ((0.03, 0.01), (0.03, 0.02), (0.06, 0.01), (0.1, 0.01))],
        ),
        "ease": Family(
            _fit_ease,
            [EASEConfig(*row, -0.2) for row in ((100.0, 1.0, 0.0), (50.0, 2.0, 0.3), (40.0, 3.0, 0.4))],
        ),
    },
    blend=("ease", "ials", "item-knn"),
    metrics=("recall@10", "ndcg@10"),
    published={
        "LightGCN": (0.1741, 0.1996),
        "SimGCL": (0.1795, 0.2049),
        "XSimGCL": (0.1801, 0.2062),
        "LightGCN++": (0.1889, 0.2171),
        "NCL++": (0.1894, 0.2177),
    },
)

ML_1M = Dataset(
    load=lambda path: _load_three_files(path, refit_on_valid=False),
    families={
        "popular": POPULAR,
        "item-knn": _item_knns(200),
        "ials": Family(
            _fit_ials,
            [IALSConfig(64, 12, *row) for row in ((0.1, 0.01), (0.2, 0.01), (0.3, 0.01), (0.3, 0.02))],
        ),
        "ease": Family(
            _fit_ease,
            [
                EASEConfig(*row)
                for row in (
                    (150.0, 0.3, 0.3, -0.05),
                    (100.0, 0.3, 0.4, -0.05),
                    (60.0, 0.3, 0.5, -0.1),
                    (60.0, 0.3, 0.5, -0.05),
                    (20.0, 0.3, 0.7, -0.05),
                )
            ],
        ),
    },
    blend=("ease", "ials", "item-knn"),
    metrics=("recall@10", "ndcg@10"),
    published={
        "LightGCN": (0.1495, 0.2977),
        "SimGCL": (0.1647, 0.3186),
        "XSimGCL": (0.1657, 0.3216),
        "LightGCN++": (0.1667, 0.3243),
        "NCL++": (0.1677, 0.3257),
    },
)

RULES = SequenceRulesConfig(
    window=50,
    power=0.5,
    backward=0.2,
    source_damping=0.3,
    target_damping=0.05,
    neighbours=400,
    prefix_window=10,
    prefix_power=1.5,
    seen_weight=0.0,
)

BEAUTY = Dataset(
    load=_load_sequences,
    families={
        "popular": POPULAR,
        "item-knn": _item_knns(400),
        "graph-filter": _graph_filters([(0.7, 0.6, 0.2), (0.8, 0.6, 0.3), (1.0, 0.6, 0.3)]),
        "markov": Family(_fit_sequence_rules, [msgspec.structs.replace(RULES, window=1, prefix_window=1)]),
        "sequence-rules": Family(
            _fit_sequence_rules,
            [
                msgspec.structs.replace(RULES, target_damping=damping, prefix_power=power)
                for damping in (0.0, 0.05, 0.1)
                for power in (1.2, 1.5)
            ],
        ),
    },
    blend=("sequence-rules", "graph-filter", "item-knn"),
    metrics=("hr@10", "ndcg@10"),
    published={
        "PopRec": (0.0152, 0.0068),
        "GRU4Rec": (0.0283, 0.0137),
        "Caser": (0.0347, 0.0176),
        "SASRec": (0.0605, 0.0318),
        "BERT4Rec": (0.0347, 0.0170),
        "S3-Rec": (0.0647, 0.0327),
    },
)

DATASETS: dict[str, Dataset] = {
    "gowalla-lightgcn": GOWALLA,
    "lightgcnpp-lastfm": LASTFM,
    "lightgcnpp-ml-1m": ML_1M,
    "s3rec-beauty": BEAUTY,
}
"""What `segue benchmark` knows, by name."""
