from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.events.columns import single
from segue.events.dedup import first_of_each, rows_by_day
from segue.events.event_ids import NUMBERS, TEXTS, event_ids
from segue.events.idset import IdSet

BASE: dict[str, Any] = {
    "user_id": 1,
    "ts": 1_400_000_000_123_456,
    "track_id": 2,
    "artist_id": None,
    "ms_played": 3,
    "playlist_id": None,
    "type": "play",
    "query": None,
}


def ids(rows: list[dict[str, Any]], source: str = "s") -> list[bytes]:
    columns = {n: pa.array([r[n] for r in rows], pa.int64()) for n in NUMBERS}
    columns |= {n: pa.array([r[n] for r in rows], pa.string()) for n in TEXTS}
    return event_ids(source, pa.table(columns)).to_pylist()  # type: ignore[no-any-return]


def test_an_id_is_a_uuid7_of_the_events_time() -> None:
    found = uuid.UUID(bytes=ids([BASE])[0])
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == BASE["ts"] // 1000


def test_the_id_is_the_same_on_every_machine_and_forever() -> None:
    assert uuid.UUID(bytes=ids([BASE], "30music")[0]) == uuid.UUID(GOLDEN)


@pytest.mark.parametrize("name", [*NUMBERS, *TEXTS])
def test_every_column_counts(name: str) -> None:
    other = "like" if name in TEXTS else 9
    assert len({*ids([BASE, {**BASE, name: other}]), *ids([BASE], "other")}) == 3


def test_absent_is_not_zero() -> None:
    assert len(set(ids([{**BASE, "ms_played": x} for x in (None, 0, -1)]))) == 3


def test_a_million_near_rows_share_no_id() -> None:
    n = 1_000_000
    table = pa.table(
        {
            "user_id": np.arange(n) // 1000,
            "ts": np.full(n, BASE["ts"]),
            "track_id": np.arange(n) % 1000,
            **{name: pa.nulls(n, pa.int64()) for name in ("artist_id", "ms_played", "playlist_id")},
            **{name: pa.nulls(n, pa.string()) for name in TEXTS},
        }
    )
    found = pa.table({"event_id": event_ids("s", table)})
    assert first_of_each(found, "event_id").num_rows == n
    raw = np.frombuffer(single(found["event_id"]).buffers()[2], np.uint8).reshape(n, 16)
    share = np.unpackbits(raw[:, [7, 9, 10, 11, 12, 13, 14, 15]], axis=1).mean(axis=0)
    assert np.abs(share - 0.5).max() < 0.003  # six standard deviations


@settings(deadline=None)
@given(st.lists(st.integers(0, 5)))
def test_the_first_of_each_stays_in_place(keys: list[int]) -> None:
    ids = pa.array([bytes([key] * 16) for key in keys], pa.binary())
    table = pa.table({"event_id": ids, "at": pa.array(range(len(keys)), pa.int64())})
    expected = [at for at, key in enumerate(keys) if key not in keys[:at]]
    assert first_of_each(table, "event_id")["at"].to_pylist() == expected
    assert first_of_each(table.slice(1), "event_id")["at"].to_pylist() == [
        at for at, key in enumerate(keys) if at and key not in keys[1:at]
    ]


def test_rows_by_day_counts() -> None:
    days = pa.array([0, 1, 1], pa.int32()).cast(pa.date32())
    assert {d.isoformat(): n for d, n in rows_by_day(pa.table({"day": days})).items()} == {
        "1970-01-01": 1,
        "1970-01-02": 2,
    }


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-5, 30), max_size=20), max_size=20))
def test_an_idset_is_a_set(batches: list[list[int]]) -> None:
    seen: set[int] = set()
    found = IdSet()
    for batch in batches:
        fresh = found.add(np.array(batch, np.int64))
        assert fresh.tolist() == sorted(set(batch) - seen)
        seen |= set(batch)
        assert len(found) == len(seen)


GOLDEN = "0145f680-b07b-7996-a182-1e9e0a9151f6"
