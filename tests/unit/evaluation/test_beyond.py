"""Beyond-accuracy numbers against slow readings of their definitions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_split import HOSTILE, made_catalogue, made_split

from segue.contracts.errors import InvalidData
from segue.evaluation.beyond import SHARES, Items, beyond, concentration
from segue.evaluation.protocols import HOME, NEXT_UP, Lists, Task, evaluate


def some_lists(n_items: int, n: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    top = np.full((n, width), -1, np.int32)
    for row in range(n):
        size = int(rng.integers(0, width + 1))
        top[row, :size] = rng.choice(n_items, size, replace=False)
    return top


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_every_number_follows_its_definition(seed: int) -> None:
    split, items, _ = made_split()
    task = split.tasks[HOME]
    n_items = len(split.tracks)
    top = some_lists(n_items, 15, 6, seed)
    cases = np.sort(np.random.default_rng(seed).choice(task.n_cases, 15, replace=False))
    found = beyond(Lists(cases, top), task.user, split, items)
    assert found is not None

    lists = [[int(i) for i in row if i >= 0] for row in top]
    shown = Counter(i for row in lists for i in row)
    places = sum(shown.values())
    assert found.filled == pytest.approx(places / top.size)
    assert found.coverage == pytest.approx(len(shown) / n_items)
    counts = [shown[i] for i in range(n_items)]
    pairs = sum(abs(a - b) for a in counts for b in counts)
    assert found.gini == pytest.approx(pairs / (2 * n_items * places))
    plays = np.bincount(split.train.items, minlength=n_items) + 1.0
    some = [row for row in lists if len(row) > 1]
    bits = [np.mean([-math.log2(plays[i] / plays.sum()) for i in row]) for row in some]
    assert found.novelty.value == pytest.approx(np.mean(bits))
    apart = [
        np.mean([1 - cosine(items.vectors[a], items.vectors[b]) for a in row for b in row if a != b])
        for row in some
    ]
    assert found.intra_list_diversity.value == pytest.approx(np.mean(apart), abs=1e-5)
    artists = [len({int(split.tracks[i]) // 7 % 9 for i in row}) / len(row) for row in some]
    assert found.artist_diversity is not None
    assert found.artist_diversity.value == pytest.approx(np.mean(artists))
    for measured in (found.novelty, found.intra_list_diversity, found.artist_diversity):
        assert measured.ci95[0] <= measured.value <= measured.ci95[1]
    best = max(counts)
    assert found.most_shown[0].share == pytest.approx(best / 15)
    assert shown[list(split.tracks).index(found.most_shown[0].track_id)] == best
    assert [s.share for s in found.most_shown] == sorted((s.share for s in found.most_shown), reverse=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_concentration_reads_the_lorenz_curve_from_its_rich_end(counts: list[int]) -> None:
    curve = dict(concentration(np.array(counts)))
    assert tuple(curve) == SHARES
    ordered = sorted(counts, reverse=True)
    for share, held in curve.items():
        whole = math.floor(share * len(counts) + 1e-9)
        part = share * len(counts) - whole
        want = sum(ordered[:whole]) + (part * ordered[whole] if whole < len(ordered) else 0)
        assert held == pytest.approx(want / max(sum(counts), 1), abs=1e-9)


def test_items_know_titles_artists_uploads_and_first_plays() -> None:
    split, items, _ = made_split()
    for item, track in enumerate(split.tracks.tolist()):
        mine = split.train.ts[split.train.items == item]
        assert items.first_play[item] == mine.min()
        assert items.plays[item] == len(mine)
        assert (items.uploaded_at[item] >= 0) == (track // 7 % 11 == 0)
        assert items.artist_name(item) == f"Artist {track // 7 % 9} & <b>"
    assert items.title(0) == HOSTILE


def test_without_artists_there_is_no_artist_diversity_and_nothing_breaks() -> None:
    split, items, _ = made_split()
    bare = Items.of(split, made_catalogue(artists=False), np.zeros((60, 2), np.float32))
    lists = Lists(np.arange(3), some_lists(len(split.tracks), 3, 5, 8) | 1)
    found = beyond(lists, split.tasks[HOME].user, split, bare)
    assert found is not None
    assert found.artist_diversity is None
    assert found.intra_list_diversity.value == pytest.approx(1.0)
    with pytest.raises(InvalidData, match="vectors"):
        Items.of(split, items.catalogue, np.zeros((3, 2), np.float32))


def test_a_model_that_answers_nothing_has_no_properties() -> None:
    split, items, _ = made_split()
    nothing = Lists(np.arange(4), np.full((4, 5), -1, np.int32))
    assert beyond(nothing, split.tasks[HOME].user, split, items) is None


def test_kept_lists_are_bounded_spread_and_the_same_for_any_batch() -> None:
    split, _, _ = made_split()
    task = split.tasks[NEXT_UP]

    def scorer(task: Task, rows: slice) -> np.ndarray:
        cases = np.arange(rows.start, rows.stop)[:, None]
        return ((cases + np.arange(25)) % len(split.tracks)).astype(np.int32)

    whole = evaluate(task, scorer, keep=10**6).lists
    assert whole is not None
    np.testing.assert_array_equal(whole.cases, np.arange(task.n_cases))
    assert whole.top.shape == (task.n_cases, task.cut)
    for batch in (7, 64, 4096):
        some = evaluate(task, scorer, batch=batch, keep=50).lists
        assert some is not None
        assert len(np.unique(some.cases)) == len(some.top) == 50
        assert np.diff(some.cases).max() <= -(-task.n_cases // 50) + 1
        np.testing.assert_array_equal(some.top, whole.top[some.cases])
    assert evaluate(task, scorer).lists is None
    ranks = evaluate(task, lambda task, rows: np.ones(rows.stop - rows.start), keep=50)
    assert ranks.lists is None
