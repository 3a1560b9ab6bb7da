"""Before a run: is the server ready, and whom does it know?"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import msgspec
from msgspec import Struct

from segue.contracts.errors import InvalidInput, Unavailable
from segue.load.plan import Address

MOST: Final = 2_000
AT_ONCE: Final = 100
PATIENCE_S: Final = 10.0


class _Listener(Struct, frozen=True):
    user_id: int


class _Listeners(Struct, frozen=True):
    listeners: tuple[_Listener, ...]


def known_listeners(address: Address, key: str | None) -> list[int]:
    """Ids of up to MOST listeners that a server knows, ascending.

    Raises Unavailable if it is not ready or does not answer, InvalidInput if it refuses or knows nobody.
    """
    try:
        with closing(_connect(address)) as connection:
            _get(connection, address, "/readyz", key)
            return sorted(set(_drawn(connection, address, key)))
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{address.host}:{address.port} does not answer: {error}", field="url") from error


def _connect(address: Address) -> http.client.HTTPConnection:
    if address.tls:
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=PATIENCE_S, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE_S)


def _drawn(connection: http.client.HTTPConnection, address: Address, key: str | None) -> Iterator[int]:
    """A handful of listeners at a time, some of them more than once."""
    for _ in range(MOST // AT_ONCE):
        body = _get(connection, address, f"/v1/listeners?limit={AT_ONCE}", key)
        found = msgspec.json.decode(body, type=_Listeners).listeners
        if not found:
            raise InvalidInput(
                "the server knows no listeners; say which ids to use with --listeners", field="listeners"
            )
        yield from (listener.user_id for listener in found)


def _get(connection: http.client.HTTPConnection, address: Address, path: str, key: str | None) -> bytes:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connection.request("GET", path, headers={"Host": address.host_header, **headers})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status in (401, 403):
        raise InvalidInput(f"GET {path}: {body.decode(errors='replace')[:300]}; see --key", field="key")
    if answer.status != http.client.OK:
        raise Unavailable(f"GET {path}: {answer.status} {body.decode(errors='replace')[:300]}", field="url")
    return body
