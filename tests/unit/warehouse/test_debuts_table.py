"""The table of new uploads against counts made by hand."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

import ibis
import pyarrow as pa
import pytest
from made import computed, given_rows

from segue.contracts.schema import Table
from segue.contracts.tables import DEBUTS, EXPOSURES, OUTCOMES, TRACKS
from segue.contracts.vocabulary import DAY
from segue.warehouse.debuts import debuts

TODAY = 20_700
Row = dict[str, object]


def day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)


def track(track_id: int, born: int, **changed: object) -> Row:
    known = {"artist_id": 7, "genre": "a", "uploaded_at": born * DAY + 5, "explicit": False, "public": True}
    return _filled(TRACKS.arrow, known | {"track_id": track_id} | changed)


def _filled(schema: pa.Schema, known: Row) -> Row:
    return {name: known.get(name) for name in schema.names}


class Log:
    """Exposures, and what became of them."""

    def __init__(self) -> None:
        self.exposures: list[Row] = []
        self.outcomes: list[Row] = []

    def show(
        self, track_id: int, number: int, user: int | None, sources: list[str] | None, did: str = ""
    ) -> None:
        key = {
            "day": day(number),
            "request_id": len(self.exposures).to_bytes(16, "big"),
            "ts": number * DAY + 1_000,
            "user_id": user,
            "surface": "home",
            "position": 3,
            "track_id": track_id,
        }
        acts: Row = {w: w == did for w in ("played", "listened", "skipped", "liked", "hidden")}
        self.exposures.append(_filled(EXPOSURES.arrow, key | {"sources": sources}))
        self.outcomes.append(_filled(OUTCOMES.arrow, key | acts | {"ms_played": 0}))

    def debuts(self, *tracks: Row, since: int = 0, until: int = TODAY * 2) -> list[Row]:
        def given(table: Table, rows: list[Row]) -> ibis.Table:
            return given_rows(table, [row for row in rows if day(since) <= row["day"] <= day(until)])  # type: ignore[operator]

        return computed(
            DEBUTS,
            debuts(
                given(OUTCOMES, self.outcomes),
                given(EXPOSURES, self.exposures),
                given_rows(TRACKS, list(tracks)),
            ),
        )


def test_counts_add_up_and_a_listener_counts_once() -> None:
    log = Log()
    log.show(1, TODAY, 5, ["fresh"], "listened")
    log.show(1, TODAY + 1, 5, ["debuts", "popular"], "skipped")
    log.show(1, TODAY + 1, 6, ["popular"])  # popular with everybody says nothing of this listener
    log.show(1, TODAY + 1, None, ["fresh"])  # nobody knows whom a stranger suits
    log.show(1, TODAY + 1, 8, None)
    first, second = log.debuts(track(1, TODAY))
    names = ("day", "days_left", "exposures", "relevant", "listeners", "listens", "skips", "paused")
    assert [first[n] for n in names] == [day(TODAY), 13, 1, 1, 1, 1, 0, None]
    assert [second[n] for n in names] == [day(TODAY + 1), 12, 5, 2, 1, 1, 1, None]


def test_only_public_uploads_of_the_last_fourteen_days_are_debuts() -> None:
    log = Log()
    for number in range(1, 6):
        log.show(number, TODAY, 5, ["fresh"])
    found = log.debuts(
        track(1, TODAY - 13),
        track(2, TODAY - 14),
        track(3, TODAY, public=False),
        track(4, TODAY, uploaded_at=None),
        track(5, TODAY + 1),
    )
    assert [(r["track_id"], r["days_left"]) for r in found] == [(1, 0)]


def test_a_day_comes_out_of_its_two_weeks_as_out_of_all_that_was_shown() -> None:
    dice, log = Random(4), Log()
    tracks = [track(n, TODAY - 28 + n, genre="ab"[n % 2]) for n in range(50)]
    for number in range(TODAY - 15, TODAY + 15):
        for _ in range(20):
            source, did = dice.choice(["fresh", "popular"]), dice.choice(["listened", "skipped", ""])
            log.show(dice.randrange(50), number, dice.randrange(6), [source], did)
    whole = log.debuts(*tracks)
    for number in range(TODAY, TODAY + 15):
        of_day = [row for row in whole if row["day"] == day(number)]
        assert sorted(row["track_id"] for row in of_day) == [
            n for n in range(50) if 0 <= number - TODAY + 28 - n < 14
        ]
        assert sum(row["listeners"] for row in of_day) > 14
        alone = log.debuts(*tracks, since=number - 13, until=number)
        assert [row for row in alone if row["day"] == day(number)] == of_day


def test_what_is_shown_to_nobody_is_owed_all() -> None:
    log = Log()
    log.show(1, TODAY, 5, ["fresh"])
    unseen = next(r for r in log.debuts(track(1, TODAY), track(2, TODAY, genre=None)) if r["track_id"] == 2)
    assert (unseen["exposures"], unseen["listeners"], unseen["paused"]) == (0, 0, None)
    assert unseen["rate"] == pytest.approx(unseen["prior"])


def test_the_guard_pauses_what_is_listened_to_far_less_than_its_genre() -> None:
    log = Log()
    for user in range(100):
        log.show(1, TODAY, user, ["fresh"], "listened" if user % 2 else "")
        log.show(2, TODAY, user, ["fresh"])
        if user < 10:
            log.show(3, TODAY, user, ["fresh"])
    found = {r["track_id"]: r for r in log.debuts(track(1, TODAY), track(2, TODAY), track(3, TODAY))}
    good, bad, few = (found[number] for number in (1, 2, 3))
    overall = (50 + 20 * 0.1) / (210 + 20)
    prior = (50 + 20 * overall) / (210 + 20)
    assert good["prior"] == pytest.approx(prior)
    assert bad["rate"] == pytest.approx(20 * prior / 120)
    assert good["paused"] is None
    assert few["paused"] is None, "ten exposures are too few to be judged by"
    assert bad["paused"] == "listened to far less than its genre"
    assert bad["upper"] < 0.5 * prior
