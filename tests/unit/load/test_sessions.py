"""What a session does, and when."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from segue.contracts.vocabulary import EventType, Surface
from segue.load.generator import arrivals
from segue.load.plan import Address, Plan
from segue.load.sessions import EVENTS, REQUESTS, Session, Step, timetable

ITEMS = [
    {"track_id": 70 + n, "position": n, "artist_id": 7 if n else None, "duration_ms": 60_000, "title": "x"}
    for n in range(2)
]
ANSWER = msgspec.json.encode(
    {"request_id": "r-1", "surface": "home", "user_id": 3, "items": ITEMS, "trace": {}}
)
PLAY = Step(1.0, None, 250_000)


def session() -> Session:
    return Session(3, 20, iter(()))


def events(session: Session, step: Step) -> Any:
    request = session.request(step)
    assert request.kind == EVENTS
    assert request.body is not None
    return msgspec.json.decode(request.body)


def plan(**changes: Any) -> Plan:
    given: dict[str, Any] = {
        "address": Address("localhost", 1, False, "localhost"),
        "listeners": (1,),
        "rate": 100.0,
    }
    return Plan(**given | {"duration_s": 100.0} | changes)


def test_sessions_have_as_many_requests_as_the_rate_is_computed_with() -> None:
    steps = [len(list(timetable(Random(seed), 0.0, 1.0))) for seed in range(3_000)]
    assert sum(steps) / len(steps) == pytest.approx(REQUESTS, rel=0.06)


def test_the_same_seed_makes_the_same_session_and_speed_only_compresses_it() -> None:
    slow, fast = (list(timetable(Random(5), 2.0, speed)) for speed in (1.0, 30.0))
    assert slow == list(timetable(Random(5), 2.0, 1.0))
    assert [step[1:] for step in slow] == [step[1:] for step in fast]
    assert [2 + (step.at - 2) / 30 for step in slow] == pytest.approx([step.at for step in fast])
    assert slow[0] == Step(2.0, Surface.HOME)


def test_without_anything_to_play_home_is_opened() -> None:
    for step in (PLAY, *(Step(1.0, surface) for surface in Surface)):
        assert session().request(step).path == "/v1/recommendations/home?user_id=3&k=20"


def test_tracks_are_played_in_order_and_told_with_what_led_to_them() -> None:
    mine = session()
    mine.show(ANSWER)
    sent = [events(mine, PLAY) for _ in range(2)]
    assert [[event["track_id"], event["position"]] for (event,) in sent] == [[70, 0], [71, 1]]
    for (event,) in sent:
        assert (event["type"], event["user_id"], event["surface"], event["request_id"]) == (
            "play",
            3,
            "home",
            "r-1",
        )
        assert event["ms_played"] == 60_000, "no longer than the track"
    assert mine.request(PLAY).kind == Surface.HOME, "the page is played to its end"


def test_marks_name_their_track_or_artist() -> None:
    mine = session()
    mine.show(ANSWER)
    mine.request(PLAY)
    marks = (EventType.LIKE, EventType.HIDE, EventType.BLOCK_ARTIST, EventType.FOLLOW)
    sent = events(mine, PLAY._replace(marks=marks))
    assert [(e["type"], e.get("track_id"), e.get("artist_id")) for e in sent] == [
        ("play", 71, None),
        ("like", 71, None),
        ("hide", 71, None),
        ("block_artist", None, 7),
        ("follow", None, 7),
    ]
    assert len({event["event_id"] for event in sent}) == 5


def test_nobody_blocks_an_artist_the_answer_does_not_name() -> None:
    mine = session()
    mine.show(ANSWER)
    assert [e["type"] for e in events(mine, PLAY._replace(marks=(EventType.BLOCK_ARTIST,)))] == ["play"]


def test_next_up_is_told_the_session_and_a_station_its_seed() -> None:
    mine = session()
    mine.show(ANSWER)
    mine.request(PLAY)
    mine.request(PLAY)
    assert (
        mine.request(Step(1.0, Surface.NEXT_UP)).path
        == "/v1/recommendations/next-up?user_id=3&k=20&session=70,71"
    )
    for surface in (Surface.STATION, Surface.RELATED):
        assert (
            mine.request(Step(1.0, surface)).path
            == f"/v1/recommendations/{surface}?user_id=3&k=20&track_id=71"
        )


def test_another_answer_than_a_page_is_noticed() -> None:
    for body in (b"", b"[]", b'{"items": []}'):
        with pytest.raises(msgspec.DecodeError):
            session().show(body)


def test_sessions_arrive_at_the_rate_of_every_process_together() -> None:
    per_process = [
        sum(at >= 0 for at in arrivals(plan(rate=1_000.0, processes=2), Random(n))) for n in range(2)
    ]
    expected = 1_000 * 100 / REQUESTS
    assert sum(per_process) == pytest.approx(expected, abs=5 * expected**0.5)


def test_arrivals_are_poisson() -> None:
    found = [at for at in arrivals(plan(rate=1_000.0), Random(1)) if at >= 0]
    counts = [sum(second <= at < second + 1 for at in found) for second in range(100)]
    mean = sum(counts) / 100
    variance = sum((count - mean) ** 2 for count in counts) / 99
    assert variance == pytest.approx(mean, rel=0.5), (
        "as large as the mean, where evenly spaced ones have none"
    )


def test_a_shape_moves_arrivals_but_not_their_number() -> None:
    found = [at for at in arrivals(plan(rate=1_000.0, shape=(1.0, 3.0)), Random(1)) if at >= 0]
    first = sum(at < 50 for at in found)
    expected = 1_000 * 100 / REQUESTS
    assert len(found) == pytest.approx(expected, abs=5 * expected**0.5)
    assert first == pytest.approx(expected / 4, abs=5 * (expected / 4) ** 0.5)
