"""Listener state in Redis: one hash per listener, `<prefix>u:<id>`, with the fields `r` (record), `t` (tail), `n` (token).

A write is a Lua script, which Redis runs as a whole and nothing between; each touches one key, so it runs on a Redis
Cluster as well. Scripts are sent as text (EVAL): a few hundred bytes more, and nothing to load again after a failover.
Many listeners share a pipeline: one round trip.

What it promises: on one primary, reads see every write before them. What a primary acknowledged and its disk or its
replica did not have yet is gone after a crash or a failover; the flow fills it in again from the events.

A socket's timeout is a quarter of the deadline: an attempt may connect and then read, and none starts in the second half.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.retry import Retry

from segue.adapters.state.tailed import Kept, Replacement, TailedState, Transient
from segue.contracts.errors import InvalidSettings, Unavailable
from segue.settings.tree import Redis as RedisSettings
from segue.settings.tree import State

Client = Any
"""redis.Redis or redis.RedisCluster: their commands are the same, their types have nothing in common."""

_EXPIRY: Final = """
if ARGV[2] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[2]) else redis.call('PERSIST', KEYS[1]) end
"""
_APPEND: Final = f"""
local tail = (redis.call('HGET', KEYS[1], 't') or '') .. ARGV[3]
redis.call('HSET', KEYS[1], 't', tail, 'n', ARGV[1])
{_EXPIRY}
return #tail
"""
"""ARGV: new token, seconds to live (0: for ever), rows. Returns the length of the tail."""
_REPLACE: Final = f"""
if (redis.call('HGET', KEYS[1], 'n') or '') ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[1])
if not ARGV[4] then return 1 end
redis.call('HSET', KEYS[1], 'r', ARGV[4], 'n', ARGV[1])
{_EXPIRY}
return 1
"""
"""ARGV: new token, seconds to live, token as read (empty: nothing was there), record (absent: delete). Returns 1, or 0."""

_MAY_PASS: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    ClusterDownError,
    ReadOnlyError,
    TryAgainError,
)
_DAY_S: Final = 86_400
_DRAWS: Final = 4
"""Random keys drawn for each listener wanted: some are drawn twice, some are not ours. A scan finds what is missing then."""
_MOST_DRAWS: Final = 100


class RedisState(TailedState):
    """The StateStore port over Redis. Opens no connection before first use; one object serves many threads.

    Raises InvalidSettings for an address that is none.
    """

    reserve = 0.5

    def __init__(self, settings: State) -> None:
        super().__init__(settings, f"Redis at {_address(settings.redis.url)}")
        self._prefix = f"{settings.redis.prefix}u:".encode()
        self._tail_bytes = settings.tail_bytes
        self._live_s = str(settings.expire_days * _DAY_S)
        self._redis = settings.redis

    @cached_property
    def _reads(self) -> Client:
        return _connect(self._redis, self._read_s / 4)

    @cached_property
    def _writes(self) -> Client:
        return _connect(self._redis, self._write_s / 4)

    def _read(self, user_ids: Sequence[int], seconds: float) -> Mapping[int, Kept]:
        with self._guard():
            pipe = (self._reads if len(user_ids) == 1 else self._writes).pipeline(transaction=False)
            for user in user_ids:
                pipe.hmget(self._key(user), "r", "t", "n")
            found = pipe.execute()
        return {
            user: Kept(record, tail or b"", token)
            for user, (record, tail, token) in zip(user_ids, found, strict=True)
        }

    def _append(self, rows: Mapping[int, bytes], seconds: float) -> list[int]:
        with self._guard():
            pipe = self._writes.pipeline(transaction=False)
            for user, some in rows.items():
                pipe.execute_command("EVAL", _APPEND, 1, self._key(user), os.urandom(8), self._live_s, some)
            lengths = pipe.execute()
        return [user for user, length in zip(rows, lengths, strict=True) if length > self._tail_bytes]

    def _replace(self, changes: Mapping[int, Replacement], seconds: float) -> list[int]:
        with self._guard():
            pipe = self._writes.pipeline(transaction=False)
            for user, new in changes.items():
                record = () if new.record is None else (new.record,)
                token = new.token or b""
                pipe.execute_command(
                    "EVAL", _REPLACE, 1, self._key(user), os.urandom(8), self._live_s, token, *record
                )
            done = pipe.execute()
        return [user for user, ok in zip(changes, done, strict=True) if not ok]

    def _sample(self, limit: int, seconds: float) -> list[int]:
        found: dict[int, None] = {}
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", self._prefix) + b"*"
        with self._guard():
            drawn = (self._writes.randomkey() for _ in range(min(_DRAWS * limit, _MOST_DRAWS)))
            for key in chain(drawn, self._writes.scan_iter(pattern, count=1_000)):
                if key is not None and key.startswith(self._prefix):
                    found[int(key.removeprefix(self._prefix))] = None
                if len(found) == limit:
                    break
        return list(found)

    def create(self) -> None:
        """Nothing: a key is made when it is written."""

    def close(self) -> None:
        """Release the connections."""
        self._reads.close()
        self._writes.close()

    def _key(self, user_id: int) -> bytes:
        return self._prefix + str(user_id).encode()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except _MAY_PASS as error:
            raise Transient(str(error)) from error
        except RedisError as error:
            raise Unavailable(f"{self._where} refuses: {error}", field="state.redis") from error


def _connect(settings: RedisSettings, timeout_s: float) -> Client:
    """A client that opens connections when it needs them, for any number of threads; it makes no attempts of its own."""
    kind = redis.RedisCluster if settings.cluster else redis.Redis
    return kind.from_url(
        settings.url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1 if settings.cluster else 0),
    )


def _address(url: str) -> str:
    """The address without its password. Raises InvalidSettings where it is none."""
    try:
        parts = redis.connection.parse_url(url)
    except ValueError as error:
        raise InvalidSettings(f"state.redis.url: {error}", field="state.redis.url") from error
    return str(parts.get("path") or f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}")
