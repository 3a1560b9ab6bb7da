from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.tables import FRIENDSHIPS, LISTENERS, TRACKS
from segue.events.dimensions import Known, Merged, merge

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_:DeprecationWarning"
)  # Ibis calls DuckDB by older names


def tracks(*rows: dict[str, Any]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({n: pa.array([r.get(n) for r in rows], TRACKS.column(n).type) for n in names})


def test_new_rows_get_defaults(engine: DuckDBDelta, rows: Any) -> None:
    merged = merge(engine, LISTENERS, pa.table({"user_id": [1, 2, 1]}), Known.FILL)
    assert merged == Merged(2, 0, 0)
    assert [(r["user_id"], r["personalization_consent"], r["explicit_ok"]) for r in rows(LISTENERS)] == [
        (1, True, True),
        (2, True, True),
    ]


def test_what_an_event_says_in_passing_never_gives_back_consent(engine: DuckDBDelta, rows: Any) -> None:
    merge(engine, LISTENERS, pa.table({"user_id": [1], "personalization_consent": [False]}), Known.UPDATE)
    merge(engine, LISTENERS, pa.table({"user_id": [1], "external_id": ["bob"]}), Known.FILL)
    merge(engine, LISTENERS, pa.table({"user_id": [1], "external_id": ["eve"]}), Known.FILL)
    merge(engine, LISTENERS, pa.table({"user_id": [1], "plan": ["premium"]}), Known.UPDATE)
    [row] = rows(LISTENERS)
    assert (row["personalization_consent"], row["external_id"], row["plan"]) == (False, "bob", "premium")


def test_filling_completes_and_updating_replaces(engine: DuckDBDelta, rows: Any) -> None:
    first = {"track_id": 1, "title": "a", "tags": ["x"], "duration_ms": None}
    assert merge(engine, TRACKS, tracks(first, {"track_id": 2, "title": "b"}), Known.FILL).added == 2
    again = {"track_id": 1, "title": "z", "tags": ["y"], "duration_ms": 5}
    assert merge(engine, TRACKS, tracks(again), Known.FILL) == Merged(0, 1, 0)
    assert merge(engine, TRACKS, tracks(again), Known.FILL) == Merged(0, 0, 1)
    assert [(r["title"], r["tags"], r["duration_ms"]) for r in rows(TRACKS)] == [
        ("a", ["x"], 5),
        ("b", None, None),
    ]
    assert merge(engine, TRACKS, tracks({**again, "duration_ms": None}), Known.UPDATE) == Merged(0, 1, 0)
    assert [(r["title"], r["tags"], r["duration_ms"]) for r in rows(TRACKS)] == [
        ("z", ["y"], 5),
        ("b", None, None),
    ]


def test_friendships_have_two_keys(engine: DuckDBDelta, rows: Any) -> None:
    pairs = pa.table({"user_id": [1, 1, 2, 1], "friend_id": [2, 3, 1, 2]})
    assert merge(engine, FRIENDSHIPS, pairs, Known.UPDATE) == Merged(3, 0, 0)
    assert merge(engine, FRIENDSHIPS, pairs, Known.UPDATE) == Merged(0, 0, 3)
    assert len(rows(FRIENDSHIPS)) == 3


def test_whoever_must_know_of_a_change_is_told_before_it_and_only_then(
    engine: DuckDBDelta, rows: Any
) -> None:
    told: list[bool] = []

    def changing() -> None:
        told.append(rows(LISTENERS)[0]["personalization_consent"])

    for consent in (True, True, False, False):
        given = pa.table({"user_id": [1], "personalization_consent": [consent]})
        merge(engine, LISTENERS, given, Known.UPDATE, changing=changing)
    assert told == [True]
    assert not rows(LISTENERS)[0]["personalization_consent"]


TRACK = st.fixed_dictionaries(
    {
        "track_id": st.integers(0, 4),
        "title": st.none() | st.sampled_from("ab"),
        "tags": st.none() | st.lists(st.sampled_from("xy"), max_size=2),
        "explicit": st.booleans(),
    }
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(Known), st.lists(TRACK, min_size=1, max_size=5)), max_size=4))
def test_merging_is_what_a_dictionary_would_do(
    engine: DuckDBDelta, batches: list[tuple[Known, list[dict[str, Any]]]]
) -> None:
    engine.overwrite(TRACKS, TRACKS.arrow.empty_table())
    expected: dict[int, dict[str, Any]] = {}
    for known, batch in batches:
        merge(engine, TRACKS, tracks(*batch), known)
        for key in dict.fromkeys(row["track_id"] for row in batch):
            row = next(row for row in batch if row["track_id"] == key)
            before = expected.get(key, {})
            first, second = (row, before) if known is Known.UPDATE else (before, row)
            expected[key] = {n: second.get(n) if first.get(n) is None else first[n] for n in row}
    found = engine.collect(engine.read(TRACKS).select("track_id", "title", "tags", "explicit")).to_pylist()
    assert {row["track_id"]: row for row in found} == expected
