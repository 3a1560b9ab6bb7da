"""Segments: every target in exactly one of them, and their numbers against slow readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_split import AT, made_catalogue, made_split
from scipy import stats

from segue.evaluation.beyond import Items
from segue.evaluation.bootstrap import interval
from segue.evaluation.protocols import (
    HOME,
    HOME_NEW,
    NEXT_UP,
    Evaluation,
    Plays,
    Task,
    evaluate,
    temporal_split,
)
from segue.evaluation.segments import (
    Countries,
    Partition,
    cautious_interval,
    measure_segments,
    partitions,
)
from segue.models.sessions import DAY_US


def evaluated(task: Task, n_items: int, keep: int = 10**6) -> Evaluation:
    def scorer(task: Task, rows: slice) -> np.ndarray:
        cases = np.arange(rows.start, rows.stop)[:, None]
        out = np.full((len(cases), task.cut), -1, np.int32)
        out[:, : min(task.cut, 20)] = ((cases * 3 + np.arange(min(task.cut, 20))) % n_items).astype(np.int32)
        return out

    return evaluate(task, scorer, keep=keep)


@pytest.mark.parametrize("name", [HOME, HOME_NEW, NEXT_UP])
def test_every_target_lies_in_one_segment_and_listeners_are_never_divided(name: str) -> None:
    split, items, countries = made_split()
    task = split.tasks[name]
    found = partitions(split, task, items, countries)
    assert {"target popularity", "target age", "country"} <= set(found)
    sizes = np.diff(task.target_indptr)
    for part_name, part in found.items():
        assert part.code.shape == task.targets.shape
        assert part.code.min() >= 0
        assert part.code.max() < len(part.segments)
        evaluation = evaluated(task, len(split.tracks))
        segments = measure_segments(task, {"m": evaluation}, part)
        assert list(segments) == [s for i, (s, _) in enumerate(part.segments) if (part.code == i).any()]
        if part_name in ("listener history", "country") or name == NEXT_UP:
            assert sum(s.cases for s in segments.values()) == task.n_cases
            for metric, values in evaluation.per_case.items():
                if metric in next(iter(segments.values())).models["m"]:
                    total = sum(s.cases * s.models["m"][metric].value for s in segments.values())
                    assert total == pytest.approx(values.sum())
    by_case = np.split(found["country"].code, task.target_indptr[1:-1])
    assert all(len(set(codes.tolist())) == 1 for codes in by_case)
    assert len(by_case) == len(sizes)


def test_the_classes_are_what_their_names_say() -> None:
    split, items, countries = made_split()
    task = split.tasks[NEXT_UP]
    found = partitions(split, task, items, countries)

    plays = {i: int((split.train.items == i).sum()) for i in range(len(split.tracks))}
    ordered = sorted(plays.values(), reverse=True)
    held = np.cumsum(ordered) / sum(ordered)
    head, mid = (next(p for p, h in zip(ordered, held, strict=True) if h >= x) for x in (1 / 3, 2 / 3))
    for case, target in enumerate(task.targets.tolist()):
        popularity = found["target popularity"].segments[found["target popularity"].code[case]][0]
        age = found["target age"].segments[found["target age"].code[case]][0]
        if target < 0:
            assert (popularity, age) == ("outside", "outside")
        else:
            n = plays[target]
            assert popularity == ("head" if n >= head else "mid" if n >= mid else "tail")
            first = split.train.ts[split.train.items == target].min()
            fresh = first >= AT - 28 * DAY_US or items.uploaded_at[target] >= AT - 28 * DAY_US
            assert age == ("new" if fresh else "older")
        user = int(task.user[case])
        place = found["country"].code[case]
        known = dict(zip(countries.user.tolist(), countries.code.tolist(), strict=True)).get(user, -1)
        label = found["country"].segments[place][0]
        assert label in ("unknown" if known < 0 else countries.names[known], "other" if known >= 0 else "")
    listeners = {name: set() for name in countries.names}
    for user in np.unique(task.user).tolist():
        if (known := int(countries.of(np.array([user]))[0])) >= 0:
            listeners[countries.names[known]].add(user)
    top = [name for name, _ in found["country"].segments]
    sizes = [len(listeners[name]) for name in top[:5]]
    assert sizes == sorted((len(v) for v in listeners.values()), reverse=True)[:5]
    assert top[-2:] == ["other", "unknown"]
    assert len(top) == 7


def test_histories_are_short_below_10_plays_and_long_from_100() -> None:
    sizes = [0, 1, 9, 10, 99, 100, 300]
    user = np.repeat(np.arange(7), sizes)
    before = Plays(user, np.arange(len(user)) % 3, np.arange(len(user)), np.zeros(len(user), np.int64))
    # After the split, everybody plays two tracks.
    again = np.repeat(np.arange(7), 2)
    after = Plays(again, np.arange(14) % 3, AT + np.arange(14), np.ones(14, np.int64))
    columns = ("user", "track", "ts", "session")
    both = Plays(*(np.concatenate([getattr(before, c), getattr(after, c)]) for c in columns))
    split = temporal_split(both, AT, AT + DAY_US)
    items = Items.of(split, made_catalogue(), np.zeros((60, 2), np.float32))
    part = partitions(split, split.tasks[NEXT_UP], items, made_split()[2])["listener history"]
    names = [part.segments[code][0] for code in part.code]
    assert names == ["new", "short", "short", "medium", "medium", "long", "long"]


@pytest.mark.parametrize("keep", [10**6, 11])
def test_a_segment_that_cuts_cases_asks_for_its_own_targets_only(keep: int) -> None:
    split, items, countries = made_split()
    task = split.tasks[HOME]
    part = partitions(split, task, items, countries)["target popularity"]
    evaluation = evaluated(task, len(split.tracks), keep)
    assert evaluation.lists is not None
    segments = measure_segments(task, {"m": evaluation}, part)
    for code, (name, _) in enumerate(part.segments):
        recalls, gains = [], []
        for row, case in zip(evaluation.lists.top, evaluation.lists.cases, strict=True):
            span = slice(task.target_indptr[case], task.target_indptr[case + 1])
            mine = set(task.targets[span][part.code[span] == code].tolist())
            if mine:
                hits = [at for at, item in enumerate(row.tolist()) if item in mine]
                recalls.append(len(hits) / len(mine))
                ideal = sum(1 / math.log2(at + 2) for at in range(min(50, len(mine))))
                gains.append(sum(1 / math.log2(at + 2) for at in hits) / ideal)
        if recalls:
            assert segments[name].cases == len(recalls)
            assert segments[name].models["m"]["recall@50"].value == pytest.approx(np.mean(recalls))
            assert segments[name].models["m"]["ndcg@50"].value == pytest.approx(np.mean(gains))
        else:
            assert name not in segments


def test_a_model_without_lists_is_left_out_where_cases_are_cut_and_kept_where_not() -> None:
    split, items, countries = made_split()
    task = split.tasks[HOME]
    lists, bare = evaluated(task, len(split.tracks)), evaluated(task, len(split.tracks), 0)
    found = partitions(split, task, items, countries)
    both = {"lists": lists, "bare": bare}
    cut = measure_segments(task, both, found["target popularity"])
    assert all(set(segment.models) == {"lists"} for segment in cut.values())
    whole = measure_segments(task, both, found["country"])
    assert all(segment.models["bare"] == segment.models["lists"] for segment in whole.values())
    assert measure_segments(task, {"bare": bare}, found["target popularity"]) == {}


def test_a_partition_of_one_segment_is_left_out() -> None:
    split, items, _ = made_split()
    nobody = Countries(np.empty(0, np.int64), np.empty(0, np.int32), ())
    found = partitions(split, split.tasks[HOME], items, nobody)
    assert "country" not in found
    part = Partition((("a", ""), ("b", "")), np.zeros(len(split.tasks[HOME].targets), np.int64))
    found_segments = measure_segments(
        split.tasks[HOME], {"m": evaluated(split.tasks[HOME], len(split.tracks))}, part
    )
    assert list(found_segments) == ["a"]


def test_small_segments_get_wide_intervals_and_large_ones_the_usual() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.random(8), rng.random(4_000)
    assert cautious_interval(few[:4], np.arange(4)) == (0.0, 1.0)
    lo, hi = cautious_interval(few, np.arange(8))
    plain = interval(few, np.arange(8))
    level = 1 - 2 * stats.norm.cdf(stats.t.ppf(0.025, 7) * math.sqrt(8 / 7))
    assert (lo, hi) == pytest.approx(interval(few, np.arange(8), level=level))
    assert lo < plain[0] < plain[1] < hi
    wide, usual = cautious_interval(many, np.arange(4_000)), interval(many, np.arange(4_000))
    np.testing.assert_allclose(wide, usual, atol=1e-3)
    lo, hi = cautious_interval(np.zeros(20), np.arange(20))
    assert lo == 0.0
    assert (1 - hi) ** 20 == pytest.approx(
        0.025
    )  # with a share above `hi`, twenty misses are rarer than that
    assert cautious_interval(np.ones(20), np.arange(20)) == (pytest.approx(1 - hi), 1.0)
    # Groups count, not cases.
    assert cautious_interval(np.repeat(few[:3], 50), np.repeat(np.arange(3), 50)) == (0.0, 1.0)


def test_the_cautious_interval_covers_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(1)
    plain = cautious = 0
    for seed in range(300):
        values = (rng.random(8) < 0.25).astype(np.float64)  # skewed and small, as hits are
        lo, hi = interval(values, np.arange(8), seed=seed, draws=300)
        plain += lo <= 0.25 <= hi
        lo, hi = cautious_interval(values, np.arange(8), seed=seed)
        cautious += lo <= 0.25 <= hi
    assert cautious > plain
    assert cautious / 300 >= 0.93
