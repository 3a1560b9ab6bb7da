"""Every table against its textbook version, and built at once against built day by day."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import ibis
import ibis.expr.types as ir
import made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.config import Config
from made import DAYS, START, TRACK_ROWS, Row, arrow, by_day, computed, event, exposure, given_rows, ordered

from segue.contracts.tables import (
    CO_LISTENS,
    DAILY_ARTISTS,
    DAILY_LISTENERS,
    DAILY_TRACKS,
    DEBUTS,
    EVENTS,
    EXPOSURES,
    LISTENS,
    OUTCOMES,
    RAW_EVENTS,
    SESSIONS,
    TRACKS,
)
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SESSION_GAP
from segue.warehouse.co_listens import co_listens
from segue.warehouse.daily import daily_artists, daily_listeners, daily_tracks
from segue.warehouse.debuts import debuts
from segue.warehouse.events import clean_events
from segue.warehouse.listens import listens
from segue.warehouse.outcomes import outcomes
from segue.warehouse.sessions import sessions

few = settings(max_examples=3, deadline=None)
seeds = st.integers(0, 2**32)


def cleaned(raw: list[Row]) -> list[Row]:
    return computed(EVENTS, clean_events(given_rows(RAW_EVENTS, raw), given_rows(TRACKS, TRACK_ROWS)))


def brute_events(raw: list[Row]) -> list[Row]:
    return by_day(lambda day: made.clean_events(raw, TRACK_ROWS, day))


def on_days(rows: ir.Table, first: int, last: int) -> ir.Table:
    return rows.filter(rows.day.between(DAYS[first], DAYS[last]))


@few
@given(seeds)
def test_events_built_at_once_are_those_of_each_day_built_alone_by_hand(seed: int) -> None:
    raw = made.raw_events(seed)
    assert cleaned(raw) == brute_events(raw)


@few
@given(seeds)
def test_what_is_counted_is_what_a_loop_counts(seed: int) -> None:
    raw = made.raw_events(seed)
    events = brute_events(raw)
    rows = given_rows(EVENTS, events)
    assert computed(DAILY_TRACKS, daily_tracks(rows)) == ordered(made.daily_tracks(events))
    assert computed(DAILY_ARTISTS, daily_artists(rows)) == ordered(made.daily_artists(events))
    assert computed(DAILY_LISTENERS, daily_listeners(rows)) == ordered(made.daily_listeners(events))
    assert computed(SESSIONS, sessions(rows)) == ordered(made.sessions(events))


@few
@given(seeds)
def test_sessions_of_a_day_need_that_day_and_the_next_only(seed: int) -> None:
    raw = made.raw_events(seed)
    rows = given_rows(EVENTS, brute_events(raw))
    at_once = computed(SESSIONS, sessions(rows))
    alone = [
        row
        for n in range(4)
        for row in computed(SESSIONS, on_days(sessions(on_days(rows, n, min(n + 1, 3))), n, n))
    ]
    assert ordered(alone) == at_once


@few
@given(seeds)
def test_pairs_weigh_the_sum_of_one_over_distance_and_do_not_depend_on_the_chunk(seed: int) -> None:
    dice = Random(seed)
    rows: list[Row] = []
    for user in range(100):
        for _ in range(dice.randint(1, 12)):
            midnight = START + dice.randint(1, 3) * DAY
            ts = midnight + dice.randint(-40, 39) * MINUTE
            row: Row = dict.fromkeys(LISTENS.names)
            row |= {
                "day": made.day_of(ts),
                "ts": ts,
                "user_id": user,
                "session_start": midnight - 40 * MINUTE,
            }
            rows.append(row | {"track_id": dice.randint(1, 6)})
    wanted = ordered(made.co_listens(rows))
    given_listens = given_rows(LISTENS, rows)
    at_once = computed(CO_LISTENS, co_listens(given_listens))
    assert [{**r, "weight": None} for r in at_once] == [{**r, "weight": None} for r in wanted]
    assert [r["weight"] for r in at_once] == pytest.approx([r["weight"] for r in wanted])
    alone = [
        row
        for n in range(4)
        for row in computed(CO_LISTENS, on_days(co_listens(on_days(given_listens, max(n - 1, 0), n)), n, n))
    ]
    assert ordered(alone) == at_once


def test_pairs_are_mirrored_and_never_of_a_track_with_itself() -> None:
    rows = [
        dict.fromkeys(LISTENS.names)
        | {"day": DAYS[0], "ts": START + n, "user_id": 1, "track_id": track, "session_start": START}
        for n, track in enumerate([1, 1, 2, 3, 4, 5, 6, 7])
    ]
    pairs = {
        (r["track_id"], r["other_id"]): r for r in computed(CO_LISTENS, co_listens(given_rows(LISTENS, rows)))
    }
    assert pairs[1, 2]["weight"] == 1 + 1 / 2
    assert pairs[1, 2]["pairs"] == 2
    assert pairs[1, 6]["weight"] == 1 / 5
    assert (1, 7) not in pairs
    assert (1, 1) not in pairs
    assert all(pairs[b, a]["weight"] == row["weight"] for (a, b), row in pairs.items())


@few
@given(seeds)
def test_outcomes_are_those_of_a_nested_loop(seed: int) -> None:
    dice = Random(seed)
    shown: list[Row] = []
    acts: list[Row] = []
    for user in range(100):
        first = exposure(2 * user, HOUR, user_id=user, track_id=1)
        again = exposure(2 * user + 1, DAY - 1, user_id=user, track_id=1)
        again["surface"] = dice.choice(["home", "station"])
        shown += [first, {**first, "position": 1, "track_id": 2}, again]
        for n in range(dice.randint(0, 8)):
            after = dice.choice([-1, 0, 1, HOUR, DAY - 1, DAY, DAY + 1])
            kind = dice.choice(["play", "skip", "like", "hide", "impression", "click"])
            act = event(1000 * user + n, HOUR + after, user_id=user, track_id=dice.randint(1, 2), type=kind)
            act["request_id"] = dice.choice([None, first["request_id"], again["request_id"], b"elsewhere"])
            act["surface"] = dice.choice([None, "home", "station", "search"])
            act["ms_played"] = n
            long = dice.random() < 0.5
            act |= {"session_start": START, "listened": long and kind == "play"}
            acts.append(act | {"skipped": kind == "skip" or (kind == "play" and not long)})
    rows = outcomes(given_rows(EXPOSURES, shown), given_rows(EVENTS, acts))
    wanted = [a for a in acts if a["type"] in ("play", "skip", "like", "hide")]
    assert computed(OUTCOMES, rows) == ordered(made.outcomes(shown, wanted))


def test_a_silence_of_exactly_the_gap_ends_a_session() -> None:
    """As in listener state: see test_thirty_minutes_of_silence_end_a_session."""
    apart = [event(1, 0), event(2, SESSION_GAP - 1), event(3, 2 * SESSION_GAP - 1)]
    assert [r["session_start"] - START for r in sorted(cleaned(apart), key=lambda r: r["ts"])] == [
        0,
        0,
        2 * SESSION_GAP - 1,
    ]


def test_a_session_that_crosses_midnight_keeps_its_start_and_counts_once() -> None:
    raw = [event(1, DAY - MINUTE), event(2, DAY + MINUTE)]
    events = cleaned(raw)
    assert {r["session_start"] for r in events} == {START + DAY - MINUTE}
    listeners = computed(DAILY_LISTENERS, daily_listeners(given_rows(EVENTS, events)))
    assert [r["sessions"] for r in sorted(listeners, key=lambda r: r["day"])] == [1, 0]


def test_a_client_session_lasts_through_a_long_silence() -> None:
    raw = [event(1, 0, session_id=5), event(2, 5 * HOUR, session_id=5), event(3, 5 * HOUR)]
    starts = [
        r["session_start"] - START for r in sorted(cleaned(raw), key=lambda r: (r["ts"], r["event_id"]))
    ]
    assert starts == [0, 0, 5 * HOUR]


def test_a_play_is_judged_by_thirty_seconds_or_the_end_of_the_track() -> None:
    cases = [(1, 30_000, True), (1, 29_999, False), (2, 18_000, True), (2, 17_999, False), (3, None, True)]
    cases += [(3, 29_999, False), (5, 0, False), (4, 30_000, True)]
    raw = [event(n, n * MINUTE, track_id=track, ms_played=ms) for n, (track, ms, _) in enumerate(cases)]
    rows = sorted(cleaned(raw), key=lambda r: r["ts"])
    assert [r["listened"] for r in rows] == [listened for _, _, listened in cases]
    assert [r["skipped"] for r in rows] == [not listened for _, _, listened in cases]
    skip = cleaned([event(1, 0, type="skip", ms_played=90_000)])[0]
    assert (skip["listened"], skip["skipped"]) == (False, True)


def test_an_unknown_artist_is_filled_from_the_catalogue_and_a_known_one_kept() -> None:
    rows = cleaned([event(1, 0, track_id=1), event(2, 1, track_id=1, artist_id=99), event(3, 2, track_id=77)])
    assert [r["artist_id"] for r in sorted(rows, key=lambda r: r["ts"])] == [11, 99, None]


def test_listens_are_the_listened_plays() -> None:
    events = cleaned([event(n, n * MINUTE, ms_played=ms) for n, ms in enumerate([40_000, 5_000, None])])
    rows = computed(LISTENS, listens(given_rows(EVENTS, events)))
    assert sorted(r["ts"] - START for r in rows) == [0, 2 * MINUTE]


class _SparkOptions(Config):
    treat_nan_as_null: bool = False


@pytest.mark.parametrize("dialect", ["duckdb", "pyspark", "bigquery"])
def test_every_table_compiles_for_every_engine(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Why: without Spark installed, Ibis lacks the options its Spark compiler asks for; this is their default.
    monkeypatch.setattr(ibis.options, "pyspark", _SparkOptions())

    def unbound(table: object) -> ir.Table:
        return ibis.table(ibis.schema(table.arrow), name=table.name)  # type: ignore[attr-defined]

    raw, tracks, events, heard, shown, answered = map(
        unbound, (RAW_EVENTS, TRACKS, EVENTS, LISTENS, EXPOSURES, OUTCOMES)
    )
    built = [
        clean_events(raw, tracks),
        sessions(events),
        listens(events),
        co_listens(heard),
        outcomes(shown, events),
        debuts(answered, shown, tracks),
    ]
    built += [daily_tracks(events), daily_artists(events), daily_listeners(events)]
    for expression in built:
        assert "SELECT" in ibis.to_sql(expression, dialect=dialect)


def test_expressions_have_the_types_of_the_contract() -> None:
    raw, tracks = given_rows(RAW_EVENTS, [event(1, 0)]), given_rows(TRACKS, TRACK_ROWS)
    events = given_rows(EVENTS, made.clean_events([event(1, 0)], TRACK_ROWS, DAYS[0]))
    heard, shown = given_rows(LISTENS, []), given_rows(EXPOSURES, [exposure(1, 0)])
    built = {
        EVENTS: clean_events(raw, tracks),
        SESSIONS: sessions(events),
        LISTENS: listens(events),
        DAILY_TRACKS: daily_tracks(events),
        DAILY_ARTISTS: daily_artists(events),
        DAILY_LISTENERS: daily_listeners(events),
        CO_LISTENS: co_listens(heard),
        OUTCOMES: outcomes(shown, events),
        DEBUTS: debuts(given_rows(OUTCOMES, []), shown, tracks),
    }
    for table, expression in built.items():
        got = {name: kind.copy(nullable=True) for name, kind in expression.schema().items()}
        wanted = {n: k.copy(nullable=True) for n, k in ibis.schema(table.arrow).items()}
        assert got == wanted, table.name


def test_made_rows_hold_the_contract() -> None:
    # The tests above lean on these rows; a typo in them must not pass as a finding.
    assert arrow(RAW_EVENTS, [event(1, 0)]).schema.equals(RAW_EVENTS.arrow)
    assert DAYS[0] + timedelta(days=3) == DAYS[3]
