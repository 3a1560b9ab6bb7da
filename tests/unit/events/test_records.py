from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.events.records import (
    Event,
    Exposure,
    Lost,
    decode_events,
    decode_exposures,
    encode_event,
    encode_exposure,
)

IDS = st.integers(0, MAX_ID)
EVENTS = st.builds(
    Event,
    event_id=st.binary(min_size=16, max_size=16),
    ts=IDS,
    received_at=IDS,
    user_id=IDS,
    type=st.text(),
    query=st.none() | st.text(),
    track_id=st.none() | IDS,
    ms_played=st.none() | st.integers(0, 2**31 - 1),
    request_id=st.none() | st.binary(min_size=16, max_size=16),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=5))
def test_events_come_back_as_they_went(events: list[Event]) -> None:
    table, decoded = decode_events([encode_event(event) for event in events])
    assert decoded.items == events
    assert table.column_names == [name for name in RAW_EVENTS.names if name != "day"]
    assert table.to_pylist() == [
        msgspec.structs.asdict(event) | {"event_id": event.event_id} for event in events
    ]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_bytes_that_are_no_record_are_told_apart(records: list[bytes]) -> None:
    good = encode_event(Event(event_id=b"e" * 16, ts=1, received_at=2, user_id=3, type="play"))
    table, decoded = decode_events([*records, good])
    assert table.num_rows == len(decoded.rows) == 1
    assert decoded.rows == [len(records)]
    assert [at for at, _ in decoded.broken] == list(range(len(records)))
    slots, _, exposures = decode_exposures(records)
    assert (slots.num_rows, len(exposures.broken)) == (0, len(records))


def exposure(**change: Any) -> Exposure:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    fields: dict[str, Any] = {
        "request_id": b"r" * 16,
        "ts": 1_795_000_000_000_000,
        "user_id": 5,
        "surface": "home",
        "track_id": [7, 8],
        "position": [0, 1],
        "bundle": "b1",
        "score": [0.5, 0.25],
        "sources": [["fold-in"], []],
        "propensity": [1.0, None],
        "features": [row.tobytes() for row in vectors],
    }
    return Exposure(**(fields | change))


def test_an_exposure_becomes_a_row_a_slot() -> None:
    table, record, decoded = decode_exposures(
        [encode_exposure(exposure()), b"x", encode_exposure(exposure(features=None, user_id=None))]
    )
    assert table.schema.names == list(EXPOSURES.names)
    assert table["track_id"].to_pylist() == [7, 8, 7, 8]
    assert table["position"].to_pylist() == [0, 1, 0, 1]
    assert table["features"].to_pylist() == [[0, 1, 2], [3, 4, 5], None, None]
    assert table["sources"].to_pylist() == [["fold-in"], []] * 2
    assert table["propensity"].to_pylist() == [1.0, None] * 2
    assert table["user_id"].to_pylist() == [5, 5, None, None]
    assert table["variants"].to_pylist() == [None] * 4
    assert [d.isoformat() for d in table["day"].to_pylist()] == ["2026-11-18"] * 4
    assert record.to_pylist() == [0, 0, 2, 2]
    assert decoded.broken == [(1, "wrong_record")]


@pytest.mark.parametrize(
    "change",
    [
        {"position": [0]},
        {"score": [0.1]},
        {"sources": []},
        {"features": [b"abc", b""]},
        {"lost": Lost(1.0, [1], [0.5, 0.4], [[]])},
    ],
)
def test_uneven_columns_are_refused(change: dict[str, Any]) -> None:
    uneven = exposure(**change)
    fault = next(iter(change)).replace("lost", "lost_score")
    with pytest.raises(InvalidInput, match=fault):
        encode_exposure(uneven)
    _, _, decoded = decode_exposures([msgspec.msgpack.encode(uneven)])
    assert decoded.broken == [(0, f"uneven_{fault}")]
