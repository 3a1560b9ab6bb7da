"""What may happen to a day of events on its way: faults, and changes that are none.

Each is a function of one day's rows (RAW_EVENTS) and a source of randomness. Checks of data quality are measured with them:
a fault should be found on the day it happens, a change should stop nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ids import uuid7_column
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY, HOUR, EventType, Surface

__all__ = ["CHANGES", "FAULTS", "Happening"]

Expected = Literal["stop", "tell", "pass"]
Dice = np.random.Generator
Change = Callable[[pa.Table, Dice], pa.Table]
_STRANGERS: Final = 50_000_000
"""Listeners from this id on are nobody's."""


@dataclass(frozen=True)
class Happening:
    """Something that happens to a day. `expected`: the flow should stop, tell of it, or (at most tell of it and) go on."""

    name: str
    doc: str
    expected: Expected
    change: Change


FAULTS: dict[str, Happening] = {}
"""What should be found."""
CHANGES: dict[str, Happening] = {}
"""What should stop nothing."""


def _fault(doc: str, expected: Expected = "stop") -> Callable[[Change], Change]:
    return _listed(FAULTS, doc, expected)


def _change(doc: str) -> Callable[[Change], Change]:
    return _listed(CHANGES, doc, "pass")


def _listed(into: dict[str, Happening], doc: str, expected: Expected) -> Callable[[Change], Change]:
    def listed(change: Change) -> Change:
        name = change.__name__.replace("_", "-")
        into[name] = Happening(name, doc, expected, change)
        return change

    return listed


@_fault("no event of one client (speaker, a ninth of all) arrives")
def dead_client(rows: pa.Table, dice: Dice) -> pa.Table:
    """A release that cannot send."""
    return rows.filter(pc.not_equal(rows["device"], "speaker"))


@_fault("no event of half of the phones, which have one version of the client, arrives", "tell")
def dead_version(rows: pa.Table, dice: Dice) -> pa.Table:
    """A release that cannot send, and events do not name it."""
    return rows.filter(_mask(~(_some(rows, 0.5, dice) & _is(rows["device"], "phone"))))


@_fault("every event arrives twice, with a new id")
def doubled_events(rows: pa.Table, dice: Dice) -> pa.Table:
    """A retry that forgot the id."""
    return pa.concat_tables([rows, _with(rows, event_id=_ids(rows["ts"].to_numpy(), dice))])


@_fault("every event of one client (desktop, a quarter of all) arrives twice, with a new id")
def doubled_events_of_a_client(rows: pa.Table, dice: Dice) -> pa.Table:
    """A retry that forgot the id, in one release."""
    twice = rows.filter(pc.equal(rows["device"], "desktop"))
    return pa.concat_tables([rows, _with(twice, event_id=_ids(twice["ts"].to_numpy(), dice))])


@_fault("ms_played is in seconds")
def seconds_for_ms(rows: pa.Table, dice: Dice) -> pa.Table:
    """A unit changed."""
    return _with(rows, ms_played=pc.divide(rows["ms_played"], pa.scalar(1_000, pa.int32())))


@_fault("ms_played of one client (speaker, a ninth of all) is in seconds")
def seconds_of_a_client(rows: pa.Table, dice: Dice) -> pa.Table:
    """A unit changed in one release."""
    seconds = pc.divide(rows["ms_played"], pa.scalar(1_000, pa.int32()))
    return _with(
        rows, ms_played=pc.if_else(_mask(_is(rows["device"], "speaker")), seconds, rows["ms_played"])
    )


@_fault("ms_played is in microseconds")
def us_for_ms(rows: pa.Table, dice: Dice) -> pa.Table:
    """A unit changed the other way."""
    return _with(rows, ms_played=pc.multiply(rows["ms_played"], pa.scalar(1_000, pa.int32())))


@_fault("no event of one country (DE, a twelfth of all) arrives")
def country_missing(rows: pa.Table, dice: Dice) -> pa.Table:
    """A region's collector is down."""
    return rows.filter(pc.fill_null(pc.not_equal(rows["country"], "DE"), True))


@_fault("country codes are in lower case")
def country_lower_case(rows: pa.Table, dice: Dice) -> pa.Table:
    """A normalisation got lost."""
    return _with(rows, country=pc.utf8_lower(rows["country"]))


@_fault("track ids are another system's")
def ids_shifted(rows: pa.Table, dice: Dice) -> pa.Table:
    """None of them is known."""
    return _with(rows, track_id=pc.add(rows["track_id"], 1_000_000_000))


@_fault("track ids are one too high: all known, and of other tracks")
def ids_off_by_one(rows: pa.Table, dice: Dice) -> pa.Table:
    """A join went wrong by a row."""
    return _with(rows, track_id=pc.add(rows["track_id"], 1))


@_fault("listener ids are one too high: all known, and of other listeners")
def listeners_off_by_one(rows: pa.Table, dice: Dice) -> pa.Table:
    """A join went wrong by a row."""
    return _with(rows, user_id=pc.add(rows["user_id"], 1))


@_fault("the clients' clock is an hour ahead")
def clock_ahead(rows: pa.Table, dice: Dice) -> pa.Table:
    """Times lie ahead of when events are received."""
    return _moved(rows, HOUR)


@_fault("all times are an hour late, also when events were received")
def pipeline_shifted(rows: pa.Table, dice: Dice) -> pa.Table:
    """A pipeline took local time for UTC."""
    return _moved(rows, HOUR, received=True)


@_fault("one client (tv, a fourteenth of all) takes local time for UTC, two hours ahead")
def client_time_zone(rows: pa.Table, dice: Dice) -> pa.Table:
    """A release that forgot the time zone."""
    return _moved(rows, np.where(_is(rows["device"], "tv"), 2 * HOUR, 0))


@_fault("one client (desktop, a quarter of all) no longer says how long it played")
def nulls_of_a_client(rows: pa.Table, dice: Dice) -> pa.Table:
    """A field got lost in a release."""
    return _with(rows, ms_played=pc.if_else(_mask(_is(rows["device"], "desktop")), None, rows["ms_played"]))


@_fault("no skip arrives")
def type_missing(rows: pa.Table, dice: Dice) -> pa.Table:
    """An event type that is no longer sent."""
    return rows.filter(pc.not_equal(rows["type"], EventType.SKIP.value))


@_fault("plays are called playback")
def type_renamed(rows: pa.Table, dice: Dice) -> pa.Table:
    """An event type that nobody announced."""
    return _with(
        rows, type=pc.if_else(pc.equal(rows["type"], EventType.PLAY.value), "playback", rows["type"])
    )


@_fault("every position is 0")
def positions_zero(rows: pa.Table, dice: Dice) -> pa.Table:
    """A default instead of a value."""
    return _with(rows, position=pc.if_else(pc.is_valid(rows["position"]), pa.scalar(0, pa.int16()), None))


@_fault("everything comes from the surface home")
def one_surface(rows: pa.Table, dice: Dice) -> pa.Table:
    """A default instead of a value."""
    return _with(rows, surface=pc.if_else(pc.is_valid(rows["surface"]), Surface.HOME.value, None))


@_fault("nothing after noon arrives")
def half_a_day(rows: pa.Table, dice: Dice) -> pa.Table:
    """A day that was taken for over too early."""
    return rows.filter(pc.less(_hour(rows), 12))


@_fault("three hours of the evening are missing")
def hours_missing(rows: pa.Table, dice: Dice) -> pa.Table:
    """An outage of the collector."""
    hour = _hour(rows)
    return rows.filter(pc.or_(pc.less(hour, 17), pc.greater_equal(hour, 20)))


@_fault("every event is of session 1")
def session_constant(rows: pa.Table, dice: Dice) -> pa.Table:
    """A counter that no longer counts."""
    return _with(rows, session_id=pc.if_else(pc.is_valid(rows["session_id"]), pa.scalar(1, pa.int64()), None))


@_fault("searches with letters beyond ASCII are in a wrong encoding")
def wrong_encoding(rows: pa.Table, dice: Dice) -> pa.Table:
    """UTF-8 read as Latin-1."""
    text = [q and q.encode("utf-8").decode("latin-1") for q in rows["query"].to_pylist()]
    return _with(rows, query=pa.array(text, pa.string()))


@_fault("no event names the recommendation it answers")
def requests_lost(rows: pa.Table, dice: Dice) -> pa.Table:
    """A header that a proxy removes."""
    return _with(rows, request_id=pa.nulls(len(rows), pa.binary()))


@_fault("nothing arrives but a hundredth")
def nearly_nothing(rows: pa.Table, dice: Dice) -> pa.Table:
    """An outage."""
    return rows.filter(_mask(dice.random(len(rows)) < 0.01))


@_fault("a third of the events is lost at random", "tell")
def thinned(rows: pa.Table, dice: Dice) -> pa.Table:
    """A broker that drops."""
    return rows.filter(_mask(dice.random(len(rows)) >= 1 / 3))


@_fault("thirty bots play 300 tracks each, around the clock", "tell")
def bots(rows: pa.Table, dice: Dice) -> pa.Table:
    """A farm."""
    n = 9_000
    plays = rows.filter(pc.equal(rows["type"], EventType.PLAY.value))
    made = plays.take(pa.array(dice.integers(0, len(plays), n)))
    ts = _midnight(rows) + dice.integers(0, DAY, n)
    user = _STRANGERS + np.arange(n) % 30
    return pa.concat_tables(
        [rows, _with(made, ts=ts, received_at=ts + 40_000_000, user_id=user, event_id=_ids(ts, dice))]
    )


@_change("four tenths more listening: a holiday")
def holiday(rows: pa.Table, dice: Dice) -> pa.Table:
    """Everybody is at home."""
    return _more(rows, 0.4, dice)


@_change("three tenths less listening: another holiday")
def quiet_day(rows: pa.Table, dice: Dice) -> pa.Table:
    """Everybody is out."""
    return rows.filter(_mask(_some(rows, 0.7, dice)))


@_change("three tenths more listeners from one day to the next, for good")
def growth_step(rows: pa.Table, dice: Dice) -> pa.Table:
    """A campaign that worked."""
    return _more(rows, 0.3, dice)


@_change("the service opens in a new country: a tenth more listeners")
def new_country(rows: pa.Table, dice: Dice) -> pa.Table:
    """A code nobody has seen before."""
    more = _more(rows, 0.1, dice)
    return pa.concat_tables(
        [rows, _with(more.slice(len(rows)), country=pa.repeat("NZ", len(more) - len(rows)))]
    )


@_change("a new client: one listener in ten uses it instead of the phone's")
def new_device(rows: pa.Table, dice: Dice) -> pa.Table:
    """A name nobody has seen before."""
    moved = _some(rows, 0.1, dice) & _is(rows["device"], "phone")
    return _with(rows, device=pc.if_else(_mask(moved), "car", rows["device"]))


@_change("the clocks of Europe change: its days are an hour earlier in UTC")
def summer_time(rows: pa.Table, dice: Dice) -> pa.Table:
    """Twice a year."""
    europe = np.isin(
        rows["country"].to_numpy(zero_copy_only=False),
        ["DE", "GB", "FR", "SE", "NO", "PL", "ES", "IT", "NL", "UA"],
    )
    start = _midnight(rows)
    ts = rows["ts"].to_numpy()
    # Why: what moves out of the day at its start comes into it at its end, as the day after does the same.
    there = start + (ts - start - np.where(europe, HOUR, 0)) % DAY
    return _with(rows, ts=there, received_at=rows["received_at"].to_numpy() + there - ts)


@_change("a day ten times as large")
def tenfold(rows: pa.Table, dice: Dice) -> pa.Table:
    """A success, or an attack."""
    return _more(rows, 9.0, dice)


@_change("strangers send twice as many events as everybody else, all of them nonsense")
def flood(rows: pa.Table, dice: Dice) -> pa.Table:
    """Somebody who would like the flow to stop."""
    n = 2 * len(rows)
    made = rows.take(pa.array(dice.integers(0, len(rows), n)))
    ts = _midnight(rows) + dice.integers(0, DAY, n)
    return pa.concat_tables(
        [
            rows,
            _with(
                made,
                ts=ts,
                received_at=ts + dice.integers(0, 40 * HOUR, n),
                event_id=_ids(ts, dice),
                user_id=_STRANGERS + dice.integers(0, 10_000, n),
                track_id=pc.if_else(pc.is_valid(made["track_id"]), 77, None),
                ms_played=pa.nulls(n, pa.int32()),
                country=pa.nulls(n, pa.string()),
                device=pa.array([f"x{k}" for k in dice.integers(0, 5_000, n)]),
                session_id=pa.nulls(n, pa.int64()),
                position=pa.array(np.zeros(n, np.int16)),
            ),
        ]
    )


def _with(rows: pa.Table, **columns: Any) -> pa.Table:
    """The rows with other values in some columns."""
    for name, values in columns.items():
        field = RAW_EVENTS.arrow.field(name)
        array = pa.array(values) if isinstance(values, np.ndarray) else values
        rows = rows.set_column(rows.schema.get_field_index(name), field, array.cast(field.type))
    return rows


def _moved(rows: pa.Table, by: npt.NDArray[np.int64] | int, received: bool = False) -> pa.Table:
    """The rows at other times, each in the day it then is of."""
    ts = rows["ts"].to_numpy() + by
    day = pa.array((ts // DAY).astype(np.int32)).cast(pa.date32())
    moved = _with(rows, ts=ts, day=day)
    return _with(moved, received_at=rows["received_at"].to_numpy() + by) if received else moved


def _more(rows: pa.Table, share: float, dice: Dice) -> pa.Table:
    """The rows, and those of other listeners who did the same a little later; `share` 1 doubles them."""
    parts = [rows]
    left, copy = share, 0
    while left > 1e-9:
        some = rows.filter(_mask(_some(rows, min(left, 1.0), dice)))
        start = _midnight(rows)
        ts = start + (some["ts"].to_numpy() - start + dice.integers(1, HOUR // 4)) % DAY
        copy += 1
        parts.append(
            _with(
                some,
                ts=ts,
                received_at=some["received_at"].to_numpy() + ts - some["ts"].to_numpy(),
                user_id=some["user_id"].to_numpy() + _STRANGERS * copy,
                event_id=_ids(ts, dice),
            )
        )
        left -= 1
    return pa.concat_tables(parts)


def _some(rows: pa.Table, share: float, dice: Dice) -> npt.NDArray[np.bool_]:
    """Rows of a share of the listeners, drawn."""
    listeners, whose = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
    chosen: npt.NDArray[np.bool_] = (dice.random(len(listeners)) < share)[whose]
    return chosen


def _ids(ts: npt.NDArray[np.int64], dice: Dice) -> pa.Array:
    made = uuid7_column(ts, dice.integers(0, 2**64, (len(ts), 2), np.uint64))
    return pa.array([row.tobytes() for row in made], pa.binary())


def _is(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(column, value), False).to_numpy()
    return same


def _mask(rows: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(rows)


def _midnight(rows: pa.Table) -> int:
    return int(rows["ts"][0].as_py()) // DAY * DAY


def _hour(rows: pa.Table) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(rows["ts"].to_numpy() % DAY // HOUR)])
