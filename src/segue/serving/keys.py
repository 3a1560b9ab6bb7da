"""Keys: who may ask and who may only tell, and how many events each may send.

A key is a random text that the caller keeps; the settings hold its SHA-256 only, so that who reads them cannot call. A key in
an app or a web page is no secret: give it the scope `write`, with which nothing can be read, and a limit. Without any key in
the settings everybody may do everything, which suits a server that only its own machine can reach.

The limit is a token bucket (a second's worth may come at once) in each worker, which gets its share of the rate.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request as HttpRequest

from segue.contracts.errors import InvalidInput, Overloaded
from segue.settings.tree import Scope, Serving

_BEARER: Final = "bearer "
BURST_S: Final = 1.0
"""Seconds' worth of events that may come at once."""


class Unauthorized(InvalidInput):
    """The caller gave no key, or one that is not known."""


class Forbidden(InvalidInput):
    """The caller's key does not allow this."""


class Bucket:
    """Events that may still come now. Filled at `rate` a second up to a burst; a batch may overdraw it once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate * BURST_S
        self._at = clock()

    def admit(self) -> float:
        """Seconds until the next batch may come: 0 for now."""
        now = self._clock()
        self._left = min(self._rate * BURST_S, self._left + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self._left / self._rate)

    def spend(self, events: int) -> None:
        """Take what a batch held."""
        self._left -= events


class Keys:
    """The keys of the settings, for one worker. Used from one event loop."""

    def __init__(self, serving: Serving) -> None:
        self._keys = {key.sha256.lower(): (name, key) for name, key in serving.keys.items()}
        self._buckets = {
            name: Bucket(key.events_per_s / serving.workers)
            for name, key in serving.keys.items()
            if key.events_per_s
        }

    def admit(self, request: HttpRequest, scope: Scope | None) -> str | None:
        """The name of the caller's key; None where no key is needed.

        Raises Unauthorized without a known key, Forbidden for one without the scope, Overloaded where its events came too fast.
        """
        if not self._keys or scope is None:
            return None
        given = _given(request)
        found = self._keys.get(hashlib.sha256(given.encode()).hexdigest()) if given else None
        if found is None:
            raise Unauthorized(
                "this server asks for a key: send `Authorization: Bearer KEY`",
                field="Authorization",
                limit="a known key",
            )
        name, key = found
        if scope not in key.scopes:
            raise Forbidden(
                f"the key {name!r} may not do this; it has the scope {', '.join(key.scopes) or 'of nothing'}",
                field="Authorization",
                limit=f"the scope {scope}",
            )
        wait = self._buckets[name].admit() if scope == "write" and name in self._buckets else 0.0
        if wait > 0:
            raise Overloaded(
                f"the key {name!r} sent more than its {key.events_per_s:,} events a second; come again in {wait:.1f} s",
                field="Authorization",
                limit=f"{key.events_per_s} events a second (serving.keys.{name}.events_per_s)",
                retry_after_s=wait,
            )
        return name

    def spend(self, name: str | None, events: int) -> None:
        """Count what a key sent."""
        if name in self._buckets:
            self._buckets[name].spend(events)


def _given(request: HttpRequest) -> str:
    """The key in the header, or, since `sendBeacon` cannot set one, in the query."""
    header = request.headers.get("authorization", "")
    return (
        header[len(_BEARER) :].strip()
        if header.lower().startswith(_BEARER)
        else request.query_params.get("key", "")
    )
