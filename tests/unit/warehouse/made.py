"""Small tables for the tests of this folder, and the textbook way to compute each table of the warehouse from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import ibis
import pyarrow as pa

from segue.contracts.ids import uuid7
from segue.contracts.schema import Table
from segue.contracts.tables import EXPOSURES, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import DAY, END_MS, LISTEN_MS, MINUTE, SESSION_GAP, EventType

Row = dict[str, Any]
START = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]
_TYPES = [
    "play",
    "play",
    "play",
    "skip",
    "impression",
    "like",
    "hide",
    "follow",
    "playlist_add",
    "block_artist",
]


def day_of(ts: int) -> date:
    return datetime.fromtimestamp(ts // 1_000_000, tz=UTC).date()


def event(n: int, at: int, **known: Any) -> Row:
    """A raw event; `at` is microseconds behind START."""
    ts = START + at
    row: Row = dict.fromkeys(RAW_EVENTS.names)
    row |= {
        "day": day_of(ts),
        "event_id": uuid7(ts // 1000, n.to_bytes(10, "big")),
        "ts": ts,
        "received_at": ts,
    }
    row |= {"user_id": 1, "type": "play", "track_id": 1}
    return row | known


def track(track_id: int, artist_id: int | None = None, duration_ms: int | None = None) -> Row:
    row: Row = dict.fromkeys(TRACKS.names)
    return row | {
        "track_id": track_id,
        "artist_id": artist_id,
        "duration_ms": duration_ms,
        "explicit": False,
        "public": True,
    }


def exposure(n: int, at: int, **known: Any) -> Row:
    ts = START + at
    row: Row = dict.fromkeys(EXPOSURES.names)
    row |= {"day": day_of(ts), "request_id": uuid7(ts // 1000, n.to_bytes(10, "big")), "ts": ts, "user_id": 1}
    return row | {"surface": "home", "position": 0, "track_id": 1, "propensity": 0.5} | known


def arrow(table: Table, rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), table.arrow)


def given_rows(table: Table, rows: Iterable[Row]) -> ibis.Table:
    return ibis.memtable(arrow(table, rows))


def computed(table: Table, rows: ibis.Table) -> list[Row]:
    """The rows of an expression, in an order that does not depend on it."""
    return ordered(rows.select(*table.names).to_pyarrow().to_pylist())


def ordered(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [(row[name] is not None, str(row[name])) for name in sorted(row)])


TRACK_ROWS = [track(1, 11, 200_000), track(2, 11, 20_000), track(3, 12, None), track(4), track(5, 13, 0)]


def raw_events(seed: int, listeners: int = 150) -> list[Row]:
    """Four days of events, thick around midnight, the session gap and the 30 seconds, with copies, in no order.

    Every listener is a small case of their own.
    """
    dice = Random(seed)
    rows: list[Row] = []
    for user in range(listeners):
        for _ in range(dice.randint(1, 14)):
            near = dice.choice([0, DAY, DAY, 2 * DAY, 2 * DAY, 3 * DAY])
            steps = dice.randint(-8, 8) * dice.choice([MINUTE, SESSION_GAP, SESSION_GAP - 1, 1])
            kind = dice.choice(_TYPES)
            of_track = kind not in ("follow", "block_artist")
            row = event(len(rows), min(max(near + steps, 0), 4 * DAY - 1), user_id=user, type=kind)
            row["session_id"] = dice.choice([None, None, None, 7, 8])
            row["track_id"] = dice.randint(1, 5) if of_track else None
            row["artist_id"] = dice.choice([None, 11]) if of_track else 12
            if kind in ("play", "skip"):
                row["ms_played"] = dice.choice([None, 0, LISTEN_MS - 1, LISTEN_MS, 18_000, 17_999])
            rows.append(row)
    for row in dice.choices(rows, k=listeners // 2):
        later = row["received_at"] + dice.randint(0, 2)
        rows.append({**row, "received_at": later, "device": dice.choice([None, "phone"])})
    dice.shuffle(rows)
    return rows


def by_day(make: Callable[[date], list[Row]]) -> list[Row]:
    """Every day built alone."""
    return ordered(row for day in DAYS for row in make(day))


def clean_events(raw: list[Row], tracks: list[Row], day: date) -> list[Row]:
    """The events of one day, from that day and the one before."""
    catalogue = {row["track_id"]: row for row in tracks}
    seen = [row for row in raw if day - timedelta(days=1) <= row["day"] <= day]
    copies: dict[tuple[date, bytes], list[Row]] = defaultdict(list)
    for row in seen:
        copies[row["day"], row["event_id"]].append(row)
    rows = [min(same, key=_copy_order) for same in copies.values()]
    starts = _session_starts(rows)
    done: list[Row] = []
    for row in rows:
        if row["day"] == day:
            known = catalogue.get(row["track_id"], track(-1))
            listened = _listened(row, known["duration_ms"])
            done.append(
                {
                    **row,
                    "artist_id": row["artist_id"] if row["artist_id"] is not None else known["artist_id"],
                    "session_start": starts[row["event_id"]],
                    "listened": listened,
                    "skipped": row["type"] == "skip" or (row["type"] == "play" and not listened),
                }
            )
    return done


def _copy_order(row: Row) -> tuple[Any, ...]:
    # Copies differ in received_at and device only; a missing device comes last.
    return (row["received_at"], row["device"] is None, row["device"] or "")


def _session_starts(rows: list[Row]) -> dict[bytes, int]:
    starts: dict[bytes, int] = {}
    named: dict[tuple[int, int], int] = {}
    last: dict[int, tuple[int, int]] = {}
    for row in sorted(rows, key=lambda r: (r["ts"], r["event_id"])):
        if row["session_id"] is not None:
            starts[row["event_id"]] = named.setdefault((row["user_id"], row["session_id"]), row["ts"])
        else:
            ts, start = last.get(row["user_id"], (-(2**62), 0))
            start = start if row["ts"] - ts < SESSION_GAP else row["ts"]
            last[row["user_id"]] = (row["ts"], start)
            starts[row["event_id"]] = start
    return starts


def _listened(row: Row, duration: int | None) -> bool:
    if row["type"] != "play":
        return False
    ms = row["ms_played"]
    return (
        ms is None or ms >= LISTEN_MS or (duration is not None and duration > 0 and ms >= duration - END_MS)
    )


def sessions(events: list[Row]) -> list[Row]:
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in events:
        groups[row["user_id"], row["session_start"]].append(row)
    return [
        {
            "day": day_of(start),
            "user_id": user,
            "session_start": start,
            "session_end": max(r["ts"] for r in rows),
            "events": len(rows),
            "plays": sum(r["type"] == "play" for r in rows),
            "listens": sum(r["listened"] for r in rows),
            "skips": sum(r["skipped"] for r in rows),
            "tracks": len({r["track_id"] for r in rows if r["type"] == "play"}),
            "ms_played": sum(r["ms_played"] or 0 for r in rows if r["type"] in ("play", "skip")),
        }
        for (user, start), rows in groups.items()
    ]


def _counts(rows: list[Row]) -> Row:
    kinds = Counter(r["type"] for r in rows)
    return {
        "plays": kinds["play"],
        "listens": sum(r["listened"] for r in rows),
        "skips": sum(r["skipped"] for r in rows),
        "ms_played": sum(r["ms_played"] or 0 for r in rows if r["type"] in ("play", "skip")),
        "impressions": kinds["impression"],
        "likes": kinds["like"],
        "reposts": kinds["repost"],
        "adds": kinds["playlist_add"],
        "hides": kinds["hide"] + kinds["block_artist"],
    }


def _played(rows: list[Row], column: str) -> int:
    return len({r[column] for r in rows if r["type"] == "play" and r[column] is not None})


def _grouped(events: list[Row], column: str) -> Iterable[tuple[date, int, list[Row]]]:
    groups: dict[tuple[date, int], list[Row]] = defaultdict(list)
    for row in events:
        if row[column] is not None:
            groups[row["day"], row[column]].append(row)
    return [(day, key, rows) for (day, key), rows in groups.items()]


def daily_tracks(events: list[Row]) -> list[Row]:
    return [
        {
            "day": day,
            "track_id": key,
            "artist_id": max((r["artist_id"] for r in rows if r["artist_id"] is not None), default=None),
            **_counts(rows),
            "listeners": _played(rows, "user_id"),
        }
        for day, key, rows in _grouped(events, "track_id")
    ]


def daily_artists(events: list[Row]) -> list[Row]:
    return [
        {
            "day": day,
            "artist_id": key,
            **_counts(rows),
            "follows": sum(r["type"] == "follow" for r in rows),
            "listeners": _played(rows, "user_id"),
        }
        for day, key, rows in _grouped(events, "artist_id")
    ]


def daily_listeners(events: list[Row]) -> list[Row]:
    return [
        {
            "day": day,
            "user_id": key,
            **_counts(rows),
            "sessions": len({r["session_start"] for r in rows if day_of(r["session_start"]) == day}),
            "tracks": _played(rows, "track_id"),
            "artists": _played(rows, "artist_id"),
        }
        for day, key, rows in _grouped(events, "user_id")
    ]


def co_listens(listens: list[Row]) -> list[Row]:
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in listens:
        groups[row["user_id"], row["session_start"]].append(row)
    weight: dict[tuple[date, int, int], float] = defaultdict(float)
    pairs: Counter[tuple[date, int, int]] = Counter()
    for rows in groups.values():
        rows.sort(key=lambda r: (r["ts"], r["track_id"]))
        for n, one in enumerate(rows):
            for distance, other in enumerate(rows[n + 1 : n + 6], 1):
                a, b = one["track_id"], other["track_id"]
                for key in [(other["day"], a, b), (other["day"], b, a)] if a != b else []:
                    weight[key] += 1 / distance
                    pairs[key] += 1
    return [
        {"day": day, "track_id": a, "other_id": b, "weight": weight[day, a, b], "pairs": count}
        for (day, a, b), count in pairs.items()
    ]


def outcomes(exposures: list[Row], events: list[Row]) -> list[Row]:
    kept = ("day", "request_id", "ts", "user_id", "surface", "position", "track_id", "propensity")
    done: list[Row] = []
    for shown in exposures:
        answers = [
            e
            for e in events
            if e["user_id"] == shown["user_id"]
            and e["track_id"] == shown["track_id"]
            and shown["ts"] <= e["ts"] < shown["ts"] + DAY
            and (
                e["request_id"] == shown["request_id"]
                or (e["request_id"] is None and e["surface"] == shown["surface"])
            )
        ]
        kinds = {e["type"] for e in answers}
        listened = any(e["listened"] for e in answers)
        done.append(
            {name: shown[name] for name in kept}
            | {
                "played": EventType.PLAY in kinds,
                "listened": listened,
                "skipped": any(e["skipped"] for e in answers) and not listened,
                "liked": EventType.LIKE in kinds,
                "hidden": EventType.HIDE in kinds,
                "ms_played": sum(e["ms_played"] or 0 for e in answers if e["type"] in ("play", "skip")),
            }
        )
    return done
