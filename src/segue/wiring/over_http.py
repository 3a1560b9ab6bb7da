"""The closed loop over HTTP: simulated listeners ask a running server, and their reactions go to its collector.

The server answers as of now by its own clock, so the listeners live through yesterday: all that they do lies in the past, and
each of their requests sees what they did before. Whatever experiments the server runs, they are in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import numpy as np

from segue.contracts.errors import InvalidInput, Unavailable
from segue.contracts.ids import format_id, parse_id
from segue.simulation.columns import EventColumns, Writer, pick
from segue.simulation.environment import Environment
from segue.simulation.session import NEXT_UP, PLAY, SLATE_SIZES, SURFACES, Requests, Slates, empty_slates
from segue.simulation.world import TRACK_BASE, USER_BASE, Crowd
from segue.wiring.closed_loop import World
from segue.wiring.home import Home

__all__ = ["Visited", "visit"]

_AT_ONCE: Final = 500
"""Events of one request."""
_WAIT_S: Final = 30.0
_UNSENT: Final = ("day", "received_at")


class Visited(msgspec.Struct, frozen=True):
    """What a day of listeners at a server came to: what it answered, and how many of the events sent it accepted."""

    listeners: int
    requests: int
    slots: int
    plays_of_slots: int
    events: int
    accepted: int
    bundle: str


class _Item(msgspec.Struct):
    track_id: int
    score: float
    propensity: float | None


class _Page(msgspec.Struct):
    request_id: str
    bundle: str
    items: list[_Item]


class _Result(msgspec.Struct):
    status: str
    reason: str | None = None


class _Receipt(msgspec.Struct):
    results: list[_Result]


class Server:
    """A policy and an observer over one connection to a server."""

    def __init__(self, url: str, writer: Writer) -> None:
        address = urlsplit(url)
        if address.scheme != "http" or address.hostname is None:
            raise InvalidInput(
                f"--against: {url!r}; write it as http://127.0.0.1:8080",
                field="against",
                limit="http://HOST:PORT",
            )
        self._url, self._writer = url, writer
        self._connection = HTTPConnection(address.hostname, address.port or 80, timeout=_WAIT_S)
        self._asked: dict[int, bytes] = {}
        """By listener, the server's id of their latest answer: what they react to in the same wave."""
        self.requests = self.slots = self.sent = self.accepted = self.played = 0
        self.bundle = ""

    def answer(self, requests: Requests, crowd: Crowd) -> Slates:
        """Ask the server for each."""
        slates = empty_slates(len(requests.user))
        slates.by[:] = 0
        for row in range(len(requests.user)):
            surface, user, seed = int(requests.surface[row]), int(requests.user[row]), int(requests.seed[row])
            asked: dict[str, Any] = {"user_id": user + USER_BASE, "k": SLATE_SIZES[surface]}
            if seed >= 0 and surface != NEXT_UP:
                asked["track_id"] = seed + TRACK_BASE
            body = self._call("GET", f"/v1/recommendations/{SURFACES[surface]}?{urlencode(asked)}")
            page = msgspec.json.decode(body, type=_Page)
            self._asked[user], self.bundle = parse_id(page.request_id), page.bundle
            for slot, item in enumerate(page.items[: SLATE_SIZES[surface]]):
                slates.track[row, slot] = item.track_id - TRACK_BASE
                slates.score[row, slot] = item.score
                slates.propensity[row, slot] = np.nan if item.propensity is None else item.propensity
            self.requests += 1
            self.slots += len(page.items)
        return slates

    def observe(self, events: EventColumns) -> None:
        """Send what was done; when this returns, the server's state has it."""
        self.played += int((events.asked & (events.type == PLAY)).sum())
        for start in range(0, len(events.ts), _AT_ONCE):
            some = pick(events, np.arange(start, min(start + _AT_ONCE, len(events.ts))))
            rows = self._writer.events(some, datetime.now(UTC).date()).to_pylist()
            body = msgspec.json.encode({"events": [self._event(row) for row in rows]})
            receipt = msgspec.json.decode(self._call("POST", "/v1/events", body), type=_Receipt)
            self.sent += len(rows)
            self.accepted += sum(result.status == "accepted" for result in receipt.results)

    def _event(self, row: Mapping[str, Any]) -> dict[str, Any]:
        event = {name: value for name, value in row.items() if value is not None and name not in _UNSENT}
        event["event_id"] = format_id(row["event_id"])
        if row["request_id"] is not None:
            event["request_id"] = format_id(self._asked[row["user_id"] - USER_BASE])
        return event

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as error:
            raise Unavailable(
                f"{self._url}: no answer to {method} {path}: {error}", field="against"
            ) from error
        if answer.status >= 400:
            said = content[:300].decode(errors="replace")
            raise Unavailable(
                f"{self._url}: {method} {path.partition('?')[0]} was answered {answer.status}: {said}",
                field="against",
            )
        return content

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


def visit(home: Home, url: str, *, listeners: int, seed: int) -> Visited:
    """Let some of the home's simulated listeners use a server of the same home for a day.

    Raises InvalidInput for an address that is none, Unavailable where the server does not answer or refuses.
    """
    world = World(home)
    server, service = Server(url, Writer(world.catalogue)), world.service()
    service.memory["busy"] = 0  # the history may end after yesterday
    environment = Environment(
        world.config,
        world.catalogue,
        service,
        server,
        seed=seed,
        observer=server,
        present=world.present(listeners),
        first=datetime.now(UTC).date() - timedelta(days=1),
    )
    try:
        users = [np.unique(day.exposures.user) for day in environment.live(1)]
    finally:
        server.close()
    return Visited(
        listeners=sum(map(len, users)),
        requests=server.requests,
        slots=server.slots,
        plays_of_slots=server.played,
        events=server.sent,
        accepted=server.accepted,
        bundle=server.bundle,
    )
