"""Every baseline answers every case of its tasks with tracks of the catalogue, each once."""

from __future__ import annotations

import numpy as np
import pytest
from made_split import made_split

from segue.evaluation.baselines import baselines
from segue.evaluation.protocols import HOME, HOME_NEW, NEXT_UP, Split
from segue.settings.tree import Training

SMALL = Training(factors=8, epochs=2, neighbours=20, threads=1)


@pytest.fixture(scope="module")
def split() -> Split:
    return made_split()[0]


def test_lists_hold_distinct_tracks_of_the_catalogue_and_nothing_forbidden(split: Split) -> None:
    found = baselines(split, SMALL, lambda _: None)
    assert {HOME, HOME_NEW, NEXT_UP} <= found["ease"].keys()
    for scorers in found.values():
        for name, scorer in scorers.items():
            task = split.tasks[name]
            rows = slice(0, min(task.n_cases, 20))
            lists = scorer(task, rows)
            indptr, known = task.known_of(rows)
            assert len(lists) == rows.stop
            for row, items in enumerate(lists):
                items = items[items >= 0]
                assert (
                    len(items) or name != HOME
                )  # who heard everything before, or is unknown, may get nothing
                assert len(set(items.tolist())) == len(items) <= split.train.n_items
                assert items.max(initial=0) < split.train.n_items
                assert not np.isin(items, known[indptr[row] : indptr[row + 1]]).any()


def test_ease_is_left_out_where_the_catalogue_is_too_large_for_it(split: Split) -> None:
    limit = split.train.n_items - 1
    settings = Training(factors=8, epochs=2, neighbours=20, threads=1, ease_tracks=limit)
    assert "ease" not in baselines(split, settings, lambda _: None)
