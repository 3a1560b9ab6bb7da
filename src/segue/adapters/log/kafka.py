"""The log on a Kafka cluster, or on anything that speaks its protocol, through librdkafka.

Topic `events` is `<prefix>events`, group `state` of it `<prefix>events-state`. Each append goes to one partition and is
acknowledged when all in-sync replicas have it (`acks=all`); the producer is idempotent, so its own retries double nothing. A
record's place is its partition and its offset in one number; that an append stays in one partition is what lets a group be
asked whether it has passed it.

Who reads alone (a landing, under the flow's lock) is given all partitions at once. Who shares (followers) joins the group in
Kafka's own way, and partitions are dealt out among all that live: each joining takes Kafka up to three seconds, and that
somebody died it notices after SESSION_MS.

Traps this goes around:
* librdkafka's synchronous commit waits for ever where the coordinator does not answer: commits are asynchronous, and their
  answers are waited for until the deadline. One that comes later belongs to an earlier commit: they are counted.
* The answer to a commit comes through the queue of the records: those that arrive meanwhile are held for the next poll.
* Who leaves a group while it forms leaves it stuck for good on some brokers (Tansu 0.6): being let in is waited for first.
* Closing a consumer may wait for a network that is gone: a thread does it, which is waited for until the deadline.
* `consume(n, timeout)` waits the whole time for n records: the first is waited for alone.
* What the broker says is the end of a partition may be within its last batch (Tansu): the end is where a fetch found nothing
  more, at or behind what the broker said.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from segue.adapters.log.names import check_sizes, named
from segue.contracts.errors import Conflict, InvalidSettings, SegueError, Unavailable
from segue.contracts.ports import Records
from segue.contracts.vocabulary import DAY
from segue.settings.tree import Log as LogSettings

MAX_RECORD: Final = 990_000
"""Bytes of the largest record: a broker takes messages of a million and a little unless told otherwise."""
SESSION_MS: Final = 6_000
"""A member of a group that was not heard of for so long is taken for dead; brokers accept no less."""
FORM_S: Final = 4.0
"""How long somebody who leaves waits for a group to form: Kafka takes three seconds."""
JOIN_S: Final = 30.0
"""How long somebody who wants everything waits to be let into a group."""
SKEW_MS: Final = 1_000
"""The clocks of brokers may differ by so much."""
_PARTITION: Final = 1 << 48
"""Offsets of a partition are below it."""
_QUEUED_KB: Final = 16_384
"""What a consumer fetches ahead, and a quarter of what a producer lets wait."""
_LOOK_S: Final = 0.05
_SILENT: Final = (
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._UNKNOWN_PARTITION,  # as it is called when no broker is known for it any more
)
_logger = logging.getLogger(__name__)


class _Cluster:
    """How to reach the brokers, and how to call what went wrong there."""

    def __init__(self, settings: LogSettings) -> None:
        kafka = settings.kafka
        self.prefix = kafka.prefix
        self.where = f"Kafka at {kafka.bootstrap_servers}"
        self.deadline_s = settings.deadline_ms / 1000
        self._common = {
            "bootstrap.servers": kafka.bootstrap_servers,
            "client.id": "segue",
            "socket.timeout.ms": settings.deadline_ms,
            "socket.connection.setup.timeout.ms": max(settings.deadline_ms, 1_000),
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 1_000,  # who comes back is found within a second
            "log_level": 2,  # what fails is said by our errors, once
            **_properties(kafka.properties),
        }

    def producer(self) -> Producer:
        """An idempotent producer that gives up at the deadline."""
        return Producer(
            self._common
            | {
                "acks": "all",
                "enable.idempotence": True,
                "delivery.timeout.ms": round(self.deadline_s * 1000),
                "linger.ms": 0,  # an append is a batch already
                "compression.type": "lz4",
                "queue.buffering.max.kbytes": 4 * _QUEUED_KB,
            },
            logger=_logger,
        )

    def consumer(self, group: str, **more: Any) -> Consumer:
        """A consumer that reads nothing yet."""
        return Consumer(
            self._common
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "isolation.level": "read_uncommitted",
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": _QUEUED_KB,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 6,
                "allow.auto.create.topics": False,
            }
            | more,
            logger=_logger,
        )

    def admin(self) -> AdminClient:
        """For making topics."""
        return AdminClient(self._common)

    def close(self, consumer: Consumer) -> None:
        """Close a consumer, waiting for that no longer than the deadline."""
        closing = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
        closing.start()
        closing.join(self.deadline_s)
        if closing.is_alive():
            _logger.warning("%s: a consumer is still closing after %g s", self.where, self.deadline_s)

    def partitions(self, client: Producer | Consumer, topic: str) -> list[int]:
        """The partitions of a topic. Raises Unavailable if there is no such topic."""
        found = client.list_topics(topic, self.deadline_s).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return sorted(found.partitions)

    def silent(self, what: str) -> Unavailable:
        """The error for what did not come in time."""
        ms = round(self.deadline_s * 1000)
        return Unavailable(
            f"{self.where}: {what} did not come within {ms} ms",
            field="log",
            limit=f"{ms} ms (log.deadline_ms)",
        )

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Name librdkafka's errors."""
        try:
            yield
        except KafkaException as error:
            raise self.named(error.args[0]) from error

    def named(self, error: KafkaError) -> SegueError:
        """The error in our words, with the broker's."""
        code = error.code()
        if code in _SILENT:
            return self.silent("an answer")
        if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return Unavailable(
                f"{self.where}: {error.str()}; make it with `segue log create`", field="log.kafka"
            )
        if code == KafkaError._INVALID_ARG:
            return InvalidSettings(
                f"log.kafka: {error.str()}; see the lines of log.kafka.properties",
                field="log.kafka.properties",
            )
        if code == KafkaError.UNKNOWN_MEMBER_ID:
            return Conflict(f"{self.where}: others read for the group now; run one at a time", field="group")
        return Unavailable(f"{self.where} refuses: {error.str()}", field="log.kafka")


class KafkaLog:
    """The `Log` port over Kafka. Opens no connection before first use; open it after forking. Serves any number of threads.

    Raises InvalidSettings for a file of properties that cannot be read, or a property that librdkafka does not know.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._cluster = _Cluster(settings)
        self._turn = threading.Lock()
        self._sender: _Sender | None = None
        self._asked: dict[str, Consumer] = {}

    def append(self, topic: str, records: Sequence[bytes]) -> int | None:
        """Send the records to one partition, and wait until all in-sync replicas have them."""
        check_sizes(records, MAX_RECORD)
        name = self._topic(topic)
        if not records:
            return None
        with self._cluster.guard():
            return self._sending().send(name, records)

    def consumer(self, topic: str, group: str, *, shared: bool = False) -> KafkaConsumer:
        """The reader for a group: of all partitions at once, or with others as members of Kafka's group."""
        return KafkaConsumer(self._cluster, self._topic(topic), self._group(topic, group), shared)

    def reader(self, topic: str, since: int | None = None) -> KafkaReader:
        """A reader of all partitions that belongs to no group."""
        return KafkaReader(self._cluster, self._topic(topic)).start(since)

    def passed(self, topic: str, group: str, place: int) -> bool:
        """Whether the group's offset in the place's partition is beyond it."""
        partition, offset = divmod(place, _PARTITION)
        name = self._group(topic, group)
        with self._cluster.guard(), self._turn:
            if name not in self._asked:
                self._asked[name] = self._cluster.consumer(name)
            where = TopicPartition(self._topic(topic), partition)
            [found] = self._asked[name].committed([where], self._cluster.deadline_s)
        return bool(found.offset > offset)

    def create(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Make the topics. Groups are made by reading."""
        kafka = self._settings.kafka
        options = {
            "retention.ms": str(self._settings.keep_days * DAY // 1000),
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(max(kafka.replicas - 1, 1)),
        }
        topics = [
            NewTopic(self._topic(name), kafka.partitions, kafka.replicas, config=options) for name in groups
        ]
        with self._cluster.guard():
            admin = self._cluster.admin()  # which must live until the answers are there
            for done in admin.create_topics(topics, request_timeout=self._cluster.deadline_s).values():
                try:
                    done.result()
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise

    def prune(self, topic: str, groups: Sequence[str], before: int) -> int:
        """Nothing: brokers remove what is older than the topic's `retention.ms`."""
        return 0

    def close(self) -> None:
        """Send what waits, within the deadline, and release everything."""
        with self._turn:
            if self._sender is not None:
                self._sender.close(self._cluster.deadline_s)
                self._sender = None
            for consumer in self._asked.values():
                self._cluster.close(consumer)
            self._asked.clear()

    def _sending(self) -> _Sender:
        """The producer, or a new one in the place of one that cannot go on."""
        with self._turn:
            if self._sender is not None and self._sender.failed:
                self._sender.close(0)
                self._sender = None
            if self._sender is None:
                self._sender = _Sender(self._cluster)
            return self._sender

    def _topic(self, topic: str) -> str:
        return self._cluster.prefix + named("topic", topic)

    def _group(self, topic: str, group: str) -> str:
        return f"{self._topic(topic)}-{named('group', group)}"


class _Sender:
    """A producer, and the thread that hears what became of its messages."""

    def __init__(self, cluster: _Cluster) -> None:
        self.failed = False
        self._cluster = cluster
        self._producer = cluster.producer()
        self._partitions: dict[str, list[int]] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._hear, name="kafka-deliveries", daemon=True)
        self._thread.start()

    def send(self, topic: str, records: Sequence[bytes]) -> int:
        """Send to one partition. Returns the place of the last record. Raises KafkaException, Unavailable."""
        if topic not in self._partitions:
            self._partitions[topic] = self._cluster.partitions(self._producer, topic)
        partition = random.choice(self._partitions[topic])
        sent = _Sent(len(records))
        try:
            for record in records:
                self._producer.produce(topic, record, partition=partition, on_delivery=sent.hear)
        except BufferError as error:
            raise Unavailable(
                f"{self._cluster.where}: too much waits to be sent; try again in a second", field="log"
            ) from error
        if not sent.done.wait(self._cluster.deadline_s + 1):
            raise self._cluster.silent("an acknowledgement")
        if sent.error is not None:
            self.failed = True  # the numbers by which the broker tells repeats have a gap now; a new producer begins anew
            raise KafkaException(sent.error)
        return partition * _PARTITION + sent.offset

    def close(self, seconds: float) -> None:
        """Send what waits for so long, give up on the rest."""
        self._producer.flush(seconds)
        self._closing = True
        self._thread.join()
        self._producer.purge()

    def _hear(self) -> None:
        while not self._closing:
            self._producer.poll(_LOOK_S)


class _Sent:
    """The messages of one append, while their deliveries are reported."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self.error: KafkaError | None = None
        self.offset = 0
        self._left = count

    def hear(self, error: KafkaError | None, message: Message) -> None:
        """What became of one message."""
        self.error = self.error or error
        self.offset = max(self.offset, message.offset() or 0)
        self._left -= 1
        if self._left == 0:
            self.done.set()


class KafkaReader:
    """The `Reader` port over all partitions of a topic, beside all groups. Raises Unavailable without brokers or topic."""

    def __init__(self, cluster: _Cluster, topic: str, group: str = "") -> None:
        self._cluster = cluster
        self._topic = topic
        self._held: deque[Message] = deque()
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._mine: list[int] | None = None
        self._asked = self._answered = 0
        self._refused: KafkaError | None = None
        with cluster.guard():
            self._client = cluster.consumer(group or topic, on_commit=self._hear_commit)

    def start(self, since: int | None) -> KafkaReader:
        """Read from a moment on (UTC microseconds), or from the first record that is kept."""
        with self._closing_if_it_fails():
            self._mine = self._cluster.partitions(self._client, self._topic)
            self._assign(self._offsets(since))
        return self

    def poll(self, limit: int, wait_s: float = 0.0) -> Records:
        """Up to `limit` records: some as soon as there are any, or, without `wait_s`, as many as there are."""
        with self._cluster.guard():
            if wait_s > 0:
                self._gather_some(limit, wait_s)
            else:
                self._gather_all(limit)
        found = Records([], [])
        while self._held and len(found) < limit:
            message = self._held.popleft()
            partition, offset = message.partition() or 0, message.offset() or 0
            self._next[partition] = offset + 1
            found.records.append(message.value() or b"")
            found.places.append(partition * _PARTITION + offset)
        return found

    def close(self) -> None:
        """Leave the group, if any."""
        self._cluster.close(self._client)

    def _gather_some(self, limit: int, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while not self._held and (left := until - time.monotonic()) > 0:
            self._fetch(limit, left)
        if not self._held and self._mine:
            self._end(self._mine[0])  # brokers that are gone must not look like a log without news

    def _gather_all(self, limit: int) -> None:
        until = time.monotonic() + JOIN_S
        while self._mine is None:
            self._fetch(limit, _LOOK_S)
            if time.monotonic() > until:
                raise Unavailable(
                    f"{self._cluster.where}: not let into the group within {JOIN_S:g} s", field="log.kafka"
                )
        ends = {partition: self._end(partition) for partition in self._mine}
        until = time.monotonic() + self._cluster.deadline_s
        while len(self._held) < limit and any(self._ends.get(p, -1) < ends.get(p, 0) for p in self._mine):
            if self._fetch(limit - len(self._held), _LOOK_S):
                until = time.monotonic() + self._cluster.deadline_s
            elif time.monotonic() > until:
                raise self._cluster.silent("the next record")

    def _fetch(self, limit: int, wait_s: float) -> bool:
        """Hold what has come, waiting for the first; False if nothing has. Raises KafkaException."""
        first = self._client.poll(wait_s)
        if first is None:
            return False
        failed: KafkaError | None = None
        for message in (first, *(self._client.consume(limit - 1, 0) if limit > 1 else ())):
            error = message.error()
            if error is None:
                self._held.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends[message.partition() or 0] = message.offset() or 0
            else:
                failed = error
        if failed is not None:
            raise KafkaException(failed)
        return True

    def _end(self, partition: int) -> int:
        """Where the broker says that the partition ends."""
        where = TopicPartition(self._topic, partition)
        return int(self._client.get_watermark_offsets(where, self._cluster.deadline_s)[1])

    def _offsets(self, since: int | None) -> dict[int, int]:
        """Of each partition, the first offset at or after a moment; its end, as it is now, where there is none yet."""
        mine = self._mine or []
        if since is None:
            return dict.fromkeys(mine, OFFSET_BEGINNING)
        ends = {partition: self._end(partition) for partition in mine}
        moment = max(since // 1000 - SKEW_MS, 0)
        times = [TopicPartition(self._topic, partition, moment) for partition in mine]
        found = self._client.offsets_for_times(times, self._cluster.deadline_s)
        return {at.partition: at.offset if at.offset >= 0 else ends[at.partition] for at in found}

    def _assign(self, offsets: Mapping[int, int]) -> None:
        self._held.clear()
        self._ends.clear()
        self._client.assign([TopicPartition(self._topic, *at) for at in offsets.items()])

    def _hear_commit(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        self._answered += 1
        self._refused = error or next((at.error for at in partitions if at.error), None)

    @contextmanager
    def _closing_if_it_fails(self) -> Iterator[None]:
        try:
            with self._cluster.guard():
                yield
        except BaseException:
            self.close()
            raise


class KafkaConsumer(KafkaReader):
    """The `Consumer` port: all partitions where the group has committed, or those that Kafka deals out to this member."""

    def __init__(self, cluster: _Cluster, topic: str, group: str, shared: bool) -> None:
        super().__init__(cluster, topic, group)
        self._joins = False
        with self._closing_if_it_fails():
            mine = cluster.partitions(self._client, topic)
            if shared:
                self._client.subscribe(
                    [topic], on_assign=self._dealt, on_revoke=self._taken, on_lost=self._taken
                )
                self._joins = True
            else:
                self._mine = mine
                self._client.assign([TopicPartition(topic, partition) for partition in mine])

    def commit(self) -> None:
        """Commit the offsets behind what was polled, and wait for the answer."""
        if not self._next:
            return
        offsets = [TopicPartition(self._topic, *at) for at in self._next.items()]
        until = time.monotonic() + self._cluster.deadline_s
        with self._cluster.guard():
            self._client.commit(offsets=offsets, asynchronous=True)
            self._asked += 1
            while self._answered < self._asked:
                if time.monotonic() > until:
                    raise self._cluster.silent("the answer to a commit")
                self._fetch(1, _LOOK_S)
            if self._refused is not None:
                raise KafkaException(self._refused)
        self._next.clear()

    def behind(self) -> int:
        """Records behind what was polled, as of the latest fetch."""
        with self._cluster.guard():
            mine = self._client.position([TopicPartition(self._topic, p) for p in self._mine or ()])
            ends = [int(self._client.get_watermark_offsets(at, cached=True)[1]) for at in mine]
        there: list[int] = [end - at.offset for at, end in zip(mine, ends, strict=True) if at.offset >= 0]
        return len(self._held) + sum(max(count, 0) for count in there)

    def rewind(self, since: int | None = None) -> None:
        """Go back, in every partition, to the first record at or after a moment, or to the first that is kept."""
        with self._cluster.guard():
            offsets = self._offsets(since)
            for at in self._client.committed(
                [TopicPartition(self._topic, partition) for partition in offsets], self._cluster.deadline_s
            ):  # back, never over what was not committed
                offsets[at.partition] = min(offsets[at.partition], max(at.offset, OFFSET_BEGINNING))
            self._next.clear()
            self._assign(offsets)

    def close(self) -> None:
        """Leave the group, but not while it forms."""
        until = time.monotonic() + FORM_S
        with suppress(KafkaException):
            while self._joins and self._mine is None and time.monotonic() < until:
                self._fetch(1, _LOOK_S)
        super().close()

    def _dealt(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._mine = [at.partition for at in partitions]

    def _taken(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        """What was not committed of them comes to whom they are given."""
        gone = {at.partition for at in partitions}
        self._mine = [partition for partition in self._mine or () if partition not in gone]
        self._held = deque(message for message in self._held if message.partition() not in gone)
        for kept in (self._next, self._ends):
            for partition in gone:
                kept.pop(partition, None)


def _properties(path: str) -> dict[str, str]:
    """The lines `name=value` of a file; # begins a comment. Raises InvalidSettings."""
    if not path:
        return {}
    found: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"log.kafka.properties: {path}: {error}", field="log.kafka.properties"
        ) from error
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals:
            raise InvalidSettings(
                f"log.kafka.properties: {path}, line {number}: write it as name=value",
                field="log.kafka.properties",
            )
        found[name.strip()] = value.strip()
    return found
