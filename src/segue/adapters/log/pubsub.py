"""The log on Google Pub/Sub.

Topic `events` is `<prefix>events`, its group `state` the subscription `<prefix>events-state`. A publish is acknowledged when
Pub/Sub has stored it in several zones. Records have no order and no places, a group's records are dealt out among all
that read for it, and each comes at least once.

The calls are Google's, the client is not: its own spends a thread pool and many times the CPU on each record, and knows no
deadline for an acknowledgement. Of a consumer, one thread reads a stream, so that a record arrives when it is published, and
another extends the leases of what has come and is not committed: at most HELD records. (Not unary pulls: one that is
cancelled takes records with it until their lease ends.) The leases of a process that dies end after LEASE_S, and its records
come again; who closes gives back what it holds.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from itertools import count
from typing import Any, Final, NamedTuple

import google.auth.exceptions
import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from segue.adapters.log.names import check_sizes, named
from segue.contracts.errors import InvalidSettings, SegueError, Unavailable
from segue.contracts.ports import Records
from segue.contracts.vocabulary import SECOND
from segue.settings.tree import Log as LogSettings

MAX_RECORD: Final = 9_000_000
"""Bytes of the largest record; Pub/Sub takes ten million in a request."""
LEASE_S: Final = 10
"""For how long a record is somebody's without a word from them; Pub/Sub takes no less."""
HELD: Final = 20_000
"""Records a consumer holds until they are committed; no more come before."""
QUIET_S: Final = 1.0
"""Where nothing has come for so long, the end is taken to be reached: Pub/Sub does not tell."""
FIRST_S: Final = 3.0
"""As long may the first record take."""
_MOST: Final = 1_000
"""Records in a request."""
_HELD_BYTES: Final = 64_000_000
_DAY_S: Final = 86_400
_END_S: Final = 2.0
"""How long a stream may take to end in order."""
_LIVED_S: Final = 5.0
"""A stream that ends after so long did work: Google ends each after some minutes, and another is opened."""
_EMPTY: Final = {"empty": "yes"}
"""Pub/Sub takes no message without data, unless it has an attribute."""
_MAY_PASS: Final = (
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
)
_ANSWERS: Final = {
    "Publisher/CreateTopic": types.Topic.pb(),
    "Publisher/Publish": types.PublishResponse.pb(),
    "Subscriber/Acknowledge": Empty,
    "Subscriber/CreateSubscription": types.Subscription.pb(),
    "Subscriber/DeleteSubscription": Empty,
    "Subscriber/ModifyAckDeadline": Empty,
    "Subscriber/Seek": types.SeekResponse.pb(),
    "Subscriber/StreamingPull": types.StreamingPullResponse.pb(),
}
"""The calls that are made, and the type of each one's answer."""


class PubSubLog:
    """The `Log` port over Pub/Sub. Opens no connection before first use; open it after forking. Serves any number of threads.

    Raises InvalidSettings without a project.
    """

    def __init__(self, settings: LogSettings) -> None:
        if not settings.pubsub.project:
            raise InvalidSettings(
                "log.pubsub.project: is empty; say whose topics to use", field="log.pubsub.project"
            )
        self._keep = Duration(seconds=settings.keep_days * _DAY_S)
        self._prefix = settings.pubsub.prefix
        self._service = _Service(settings)

    def append(self, topic: str, records: Sequence[bytes]) -> None:
        """Publish the records, up to a thousand in a request, and wait until Pub/Sub has them."""
        check_sizes(records, MAX_RECORD)
        path = self._topic(topic)
        for some in _requests(records):
            request = types.PublishRequest.pb()(topic=path)
            for record in some:
                request.messages.add(data=record, attributes={} if record else _EMPTY)
            self._service.call("Publisher/Publish", request, path)

    def consumer(self, topic: str, group: str, *, shared: bool = False) -> PubSubConsumer:
        """A reader of the group's subscription, among others."""
        return PubSubConsumer(self._service, self._subscription(topic, group))

    def reader(self, topic: str, since: int | None = None) -> PubSubReader:
        """A reader of a subscription of its own, which is deleted when it is closed, or expires a day after its process died."""
        path = self._subscription(topic, f"reader-{uuid.uuid4().hex[:16]}")
        alone = types.ExpirationPolicy.pb()(ttl=Duration(seconds=_DAY_S))
        self._subscribe(path, topic, Duration(seconds=_DAY_S), alone)
        self._service.seek(path, since)
        return PubSubReader(self._service, path)

    def passed(self, topic: str, group: str, place: int) -> bool:
        """False: nothing has a place."""
        return False

    def create(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Make topics, which keep their records, and a subscription for each group."""
        for topic, readers in groups.items():
            path = self._topic(topic)
            request = types.Topic.pb()(name=path, message_retention_duration=self._keep)
            self._service.make("Publisher/CreateTopic", request, path)
            for group in readers:
                never = types.ExpirationPolicy.pb()()
                self._subscribe(self._subscription(topic, group), topic, self._keep, never)

    def prune(self, topic: str, groups: Sequence[str], before: int) -> int:
        """Nothing: Pub/Sub removes what is older than the topic's retention."""
        return 0

    def close(self) -> None:
        """Release the connection."""
        self._service.close()

    def _subscribe(self, path: str, topic: str, keep: Duration, expires: Any) -> None:
        request = types.Subscription.pb()(
            name=path,
            topic=self._topic(topic),
            ack_deadline_seconds=LEASE_S,
            message_retention_duration=keep,
            expiration_policy=expires,
        )
        self._service.make("Subscriber/CreateSubscription", request, path)

    def _topic(self, topic: str) -> str:
        return f"projects/{self._service.project}/topics/{self._prefix}{named('topic', topic)}"

    def _subscription(self, topic: str, group: str) -> str:
        name = f"{self._prefix}{named('topic', topic)}-{named('group', group)}"
        return f"projects/{self._service.project}/subscriptions/{name}"


class _Service:
    """Calls to Pub/Sub: each ends at the deadline, and is made again until then where its failure may pass."""

    def __init__(self, settings: LogSettings) -> None:
        self.project = settings.pubsub.project
        self._where = f"Pub/Sub project {self.project}"
        self._deadline_s = settings.deadline_ms / 1000
        self._stubs: dict[str, Any] = {}

    def call(self, method: str, request: Any, path: str, *, once: bool = False) -> Any:
        """The answer to a call about a topic or subscription. Raises Unavailable."""
        ends = time.monotonic() + self._deadline_s
        for attempt in count():
            left = ends - time.monotonic()
            try:
                return self._stub(method)(request, timeout=left, metadata=_routing(path))
            except grpc.RpcError as error:
                pause = random.uniform(0, min(0.01 * 2.0**attempt, 1.0))
                if once or error.code() not in _MAY_PASS or time.monotonic() + pause >= ends:
                    raise self.named(error, path) from error
            time.sleep(pause)
        raise AssertionError("unreachable")

    def make(self, method: str, request: Any, path: str) -> None:
        """Call; that the thing is there already is as good."""
        try:
            self.call(method, request, path)
        except Unavailable as error:
            if _code(error.__cause__) is not grpc.StatusCode.ALREADY_EXISTS:
                raise

    def stream(self, path: str, until: threading.Event) -> Any:
        """A call that brings a subscription's records as they are published, until the event."""

        def requests() -> Iterator[Any]:
            yield types.StreamingPullRequest.pb()(
                subscription=path,
                stream_ack_deadline_seconds=LEASE_S,
                max_outstanding_messages=HELD,
                max_outstanding_bytes=_HELD_BYTES,
            )
            until.wait()  # the end of the requests ends the stream

        return self._stub("Subscriber/StreamingPull", "stream_stream")(requests(), metadata=_routing(path))

    def seek(self, path: str, since: int | None) -> None:
        """Move a subscription to a moment (UTC microseconds), or to the first record that is kept."""
        moment = Timestamp()
        moment.FromMicroseconds(max((since or 0) - SECOND, SECOND))
        self.call("Subscriber/Seek", types.SeekRequest.pb()(subscription=path, time=moment), path)

    def acknowledge(self, path: str, leases: list[str]) -> None:
        """These records are dealt with."""
        request = types.AcknowledgeRequest.pb()(subscription=path, ack_ids=leases)
        self.call("Subscriber/Acknowledge", request, path)

    def lease(self, path: str, leases: list[str], seconds: int) -> None:
        """Hold records for so long from now on; 0 gives them back. What fails comes again, sooner or later."""
        request = types.ModifyAckDeadlineRequest.pb()(
            subscription=path, ack_ids=leases, ack_deadline_seconds=seconds
        )
        with suppress(Unavailable):
            self.call("Subscriber/ModifyAckDeadline", request, path, once=True)

    def delete(self, path: str) -> None:
        """Delete a subscription; one that cannot be reached now expires."""
        with suppress(Unavailable):
            request = types.DeleteSubscriptionRequest.pb()(subscription=path)
            self.call("Subscriber/DeleteSubscription", request, path, once=True)

    def named(self, error: grpc.RpcError, path: str) -> SegueError:
        """The error in our words, with Google's."""
        code, said = _code(error), error.details()
        if code in _MAY_PASS:
            ms = f"{self._deadline_s * 1000:g} ms"
            return Unavailable(
                f"{self._where} did not answer within {ms}: {said}",
                field="log",
                limit=f"{ms} (log.deadline_ms)",
            )
        if code is grpc.StatusCode.NOT_FOUND:
            return Unavailable(f"{path} is not there; make it with `segue log create`", field="log.pubsub")
        return Unavailable(f"{self._where} refuses {path}: {said}", field="log.pubsub")

    def close(self) -> None:
        """Release the channel."""
        if self._stubs:
            self._channel.close()

    @cached_property
    def _channel(self) -> grpc.Channel:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),  # who comes back is found within a second
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        if emulator:
            return grpc.insecure_channel(emulator, options)
        try:
            return SubscriberGrpcTransport.create_channel(options=options)
        except google.auth.exceptions.GoogleAuthError as error:
            raise Unavailable(f"{self._where}: {error}", field="log.pubsub") from error

    def _stub(self, method: str, kind: str = "unary_unary") -> Any:
        if method not in self._stubs:
            self._stubs[method] = getattr(self._channel, kind)(
                f"/google.pubsub.v1.{method}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=_ANSWERS[method].FromString,
            )
        return self._stubs[method]


class _Record(NamedTuple):
    lease: str
    place: int
    data: bytes


class PubSubReader:
    """The `Reader` port over a subscription that is its own: what is polled is acknowledged at once."""

    def __init__(self, service: _Service, path: str) -> None:
        self._service = service
        self._path = path
        self._come: deque[_Record] = deque()
        self._bytes = 0
        self._leases: list[str] = []
        self._error: SegueError | None = None
        self._stream: Any = None
        self._began = False
        self._enough = threading.Event()
        self._closing = threading.Event()
        self._turn = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, name="pubsub-read", daemon=True),
            threading.Thread(target=self._renew, name="pubsub-lease", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def poll(self, limit: int, wait_s: float = 0.0) -> Records:
        """Up to `limit` records: some as soon as there are any, or, without `wait_s`, as many as come without a pause."""
        wanted = 1 if wait_s > 0 else limit
        pause = wait_s or (QUIET_S if self._began else FIRST_S)
        found = Records([], [])
        with self._turn:
            there = -1
            while there < len(self._come) < wanted:
                there = len(self._come)
                self._turn.wait_for(partial(self._is_news, there), pause)
                pause = wait_s or QUIET_S
            if not self._come and self._error is not None:
                error, self._error = self._error, None
                raise error
            while self._come and len(found) < limit:
                record = self._come.popleft()
                self._bytes -= len(record.data)
                self._leases.append(record.lease)
                found.records.append(record.data)
                found.places.append(record.place)
            self._turn.notify_all()
        self._handed_out()
        return found

    def close(self) -> None:
        """Delete the subscription."""
        self._stop()
        self._service.delete(self._path)

    def _handed_out(self) -> None:
        self._acknowledge()

    def _is_news(self, there: int) -> bool:
        return len(self._come) > there or self._error is not None

    def _has_room(self) -> bool:
        few = len(self._come) + len(self._leases) < HELD and self._bytes < _HELD_BYTES
        return few or self._closing.is_set()

    def _acknowledge(self) -> None:
        while some := self._leases[:_MOST]:
            self._service.acknowledge(self._path, some)
            with self._turn:
                del self._leases[: len(some)]
                self._turn.notify_all()

    def _stop(self) -> None:
        """End the stream in order: where one is cut off, what it brought stays leased for a while."""
        with self._turn:
            self._closing.set()
            self._enough.set()
            self._turn.notify_all()
        reading, renewing = self._threads
        reading.join(_END_S)
        if reading.is_alive():
            self._stream.cancel()
            reading.join()
        renewing.join()

    def _forget(self) -> list[str]:
        """Drop all that is held. Returns the leases."""
        with self._turn:
            leases = [*self._leases, *(record.lease for record in self._come)]
            self._leases.clear()
            self._come.clear()
            self._bytes = 0
            self._turn.notify_all()
        return leases

    def _read(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                with self._turn:
                    if self._closing.is_set():
                        return
                    self._enough = threading.Event()
                    self._stream = self._service.stream(self._path, self._enough)
                for answer in self._stream:
                    self._hold(answer.received_messages)
            except SegueError as error:
                self._fail(error)
            except grpc.RpcError as error:
                if time.monotonic() - began < _LIVED_S:
                    self._fail(self._service.named(error, self._path))
            finally:
                self._enough.set()

    def _hold(self, received: Iterable[Any]) -> None:
        with self._turn:
            self._error, self._began = None, True
            for each in received:
                message = each.message
                self._bytes += len(message.data)
                self._come.append(_Record(each.ack_id, _place(message.message_id), message.data))
            self._turn.notify_all()
            self._turn.wait_for(self._has_room)

    def _fail(self, error: SegueError) -> None:
        """Have the next poll raise it, and pause."""
        with self._turn:
            self._error = error
            self._turn.notify_all()
        self._closing.wait(random.uniform(0.1, 1.0))

    def _renew(self) -> None:
        """Extend the leases of what is held, again and again."""
        while not self._closing.wait(LEASE_S / 4):
            with self._turn:
                leases = [*self._leases, *(record.lease for record in self._come)]
            for at in range(0, len(leases), _MOST):
                self._service.lease(self._path, leases[at : at + _MOST], LEASE_S)


class PubSubConsumer(PubSubReader):
    """The `Consumer` port over a group's subscription."""

    def commit(self) -> None:
        """Acknowledge what was polled."""
        self._acknowledge()

    def behind(self) -> None:
        """Pub/Sub tells that to Cloud Monitoring only (`num_undelivered_messages`)."""

    def rewind(self, since: int | None = None) -> None:
        """Move the subscription back to a moment (UTC microseconds), for all who read it, or to the first record that is kept."""
        self._forget()
        self._service.seek(self._path, since)

    def close(self) -> None:
        """Give back what was not committed."""
        self._stop()
        leases = self._forget()
        for at in range(0, len(leases), _MOST):
            self._service.lease(self._path, leases[at : at + _MOST], 0)

    def _handed_out(self) -> None:
        """It stays leased until it is committed."""


def _requests(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The records in runs that fit a request."""
    some: list[bytes] = []
    size = 0
    for record in records:
        if len(some) == _MOST or size + len(record) > MAX_RECORD:
            yield some
            some, size = [], 0
        some.append(record)
        size += len(record)
    if some:
        yield some


def _place(message_id: str) -> int:
    """A number for a message: its id, which is one, in 63 bits."""
    return int(message_id) % (1 << 63) if message_id.isdecimal() else zlib.crc32(message_id.encode())


def _routing(path: str) -> tuple[tuple[str, str], ...]:
    kind = "topic" if "/topics/" in path else "subscription"
    return (("x-goog-request-params", f"{kind}={path}"),)


def _code(error: object) -> Any:
    return error.code() if isinstance(error, grpc.RpcError) else None
