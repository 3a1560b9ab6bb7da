"""From an event to its effect: how long until an answer heeds what a listener just said, as a client sees it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from segue.contracts.ids import format_id, new_id

STRANGERS: Final = 10_000_000
"""Listeners nobody knows, from here on."""
PATIENCE_S: Final = 10.0


@dataclass(frozen=True)
class Effect:
    """One event. `seconds` from sending it to having the answer that heeds it, of which the processes waited `starved`
    seconds for a processor that others held (threads that waited side by side counted each). `asked` answers came until one
    heeded it."""

    kind: str
    seconds: float
    starved: float
    asked: int


def p99_ms(effects: Sequence[Effect]) -> float:
    """Milliseconds that 99 % of the effects took at most, without what the machine kept the processes waiting."""
    return float(np.percentile([max(e.seconds - e.starved, 0) * 1000 for e in effects], 99))


def measure(url: str, pid: int, rounds: int, first: int = 0) -> Iterator[Effect]:
    """In each round one event of each kind, by listeners of whom nothing else is known. `pid` is the server's; `first` is the
    number of the first round, where others were before."""
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(first, first + rounds):
            yield from _round(client, pid, STRANGERS + 2 * number)


def _round(client: httpx.Client, pid: int, user: int) -> Iterator[Effect]:
    first, second, third = _items(client, user)[:3]
    other = user + 1  # whose first word is a play
    yield _effect(
        client,
        pid,
        {"type": "like", "user_id": user, "track_id": first["track_id"]},
        lambda: first["track_id"] in _marked(client, user),
    )
    yield _effect(
        client,
        pid,
        {"type": "hide", "user_id": user, "track_id": second["track_id"]},
        lambda: second["track_id"] not in {item["track_id"] for item in _items(client, user)},
    )
    yield _effect(
        client,
        pid,
        {"type": "block_artist", "user_id": user, "artist_id": third["artist_id"]},
        lambda: third["artist_id"] not in {item["artist_id"] for item in _items(client, user)},
    )
    assert not _home(client, other)["trace"]["personalized"]
    yield _effect(
        client,
        pid,
        {"type": "play", "user_id": other, "track_id": first["track_id"], "ms_played": 200_000},
        lambda: _home(client, other)["trace"]["personalized"],
    )


def _effect(client: httpx.Client, pid: int, event: dict[str, Any], heeded: Callable[[], bool]) -> Effect:
    body = {"event_id": format_id(new_id()), "ts": time.time_ns() // 1000} | event
    processes = [os.getpid(), pid, *_children(pid)]
    starved, began, asked = _starved(processes), time.monotonic(), 1
    answer = client.post("/v1/events", json=[body])
    assert answer.status_code == 202, answer.text
    while not heeded():
        asked += 1
        assert time.monotonic() - began < PATIENCE_S, f"{event} has no effect"
    took = time.monotonic() - began
    return Effect(str(event["type"]), took, _starved(processes) - starved, asked)


def _home(client: httpx.Client, user: int) -> Any:
    answer = client.get("/v1/recommendations/home", params={"user_id": user, "k": 20})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _items(client: httpx.Client, user: int) -> list[dict[str, Any]]:
    page = _home(client, user)
    return [*page["items"], *(item for shelf in page["shelves"] for item in shelf["items"])]


def _marked(client: httpx.Client, user: int) -> set[int]:
    answer = client.get(f"/v1/listeners/{user}")
    assert answer.status_code == 200, answer.text
    return {mark["target_id"] for mark in answer.json().get("marks", ())}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _starved(processes: Sequence[int]) -> float:
    """Seconds that threads of these processes have waited for a processor so far, all together (Linux, /proc)."""
    waited = 0
    for pid in processes:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e9
