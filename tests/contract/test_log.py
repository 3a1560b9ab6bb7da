"""What every `Log` promises, on files, on a broker that speaks Kafka's protocol, and on Google's Pub/Sub emulator.

What a log does not promise stands in GAPS, with the reason, and docs/concepts/event-log.md says what follows from it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from real_stores import LOGS, LogPlace
from segue.contracts.errors import Conflict, InvalidInput, InvalidSettings, Unavailable
from segue.contracts.ports import Log, Reader
from segue.settings.tree import Kafka
from segue.settings.tree import Log as LogSettings
from segue.wiring.logs import open_log

GAPS = {
    ("kafka, many partitions", "order"): "Kafka keeps order within a partition",
    ("pubsub", "order"): "Pub/Sub delivers in any order",
    ("pubsub", "places"): "Pub/Sub has no places that a group could have passed",
    ("pubsub", "backlog"): "Pub/Sub tells Cloud Monitoring only",
}
GROUPS = ("g", "one", "two", "three")
WAIT_S = 120.0
"""Google's emulator keeps what a dead process had for up to 40 s, the real one for the 10 s of its lease."""


@pytest.fixture(params=[*LOGS, "kafka, many partitions"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, log_of: Callable[[str], LogPlace]) -> LogPlace:
    place = log_of(kind.partition(",")[0])
    if kind == "kafka, many partitions":
        kafka = msgspec.structs.replace(place.settings.kafka, partitions=3)
        place = LogPlace(msgspec.structs.replace(place.settings, kafka=kafka), place.root)
    with closing(place.open()) as log:
        log.create({"t": GROUPS, "other": GROUPS})
        log.create({"t": GROUPS})  # what is there stays
    return place


@pytest.fixture
def log(place: LogPlace) -> Iterator[Log]:
    opened = place.open()
    yield opened
    opened.close()


@pytest.fixture
def again(place: LogPlace) -> Iterator[Callable[[], Log]]:
    """Opens the same log again and again, as different processes would."""
    opened: list[Log] = []

    def once_more() -> Log:
        opened.append(place.open())
        return opened[-1]

    yield once_more
    for one in opened:
        one.close()


def gap(kind: str, promise: str) -> bool:
    return (kind, promise) in GAPS


def numbers(*of: int) -> list[bytes]:
    return [b"%d" % n for n in range(*of)]


def polled(reader: Reader, limit: int = 7) -> list[bytes]:
    """All there is."""
    records: list[bytes] = []
    while len(found := reader.poll(limit)):
        assert len(found.records) == len(found.places) <= limit
        records += found.records
    return records


def awaited(reader: Reader, count: int) -> list[bytes]:
    """So many records, when they come."""
    records: list[bytes] = []
    until = time.monotonic() + WAIT_S
    while len(records) < count and time.monotonic() < until:
        records += reader.poll(count, wait_s=0.5).records
    return records


def test_a_group_gets_every_record_until_it_commits(log: Log, again: Callable[[], Log]) -> None:
    log.append("t", numbers(20))
    with closing(log.consumer("t", "g")) as first:
        done = first.poll(5).records
        assert len(done) == 5
        first.commit()
        assert len(first.poll(5)) == 5
    with closing(again().consumer("t", "g")) as second:
        assert sorted(polled(second)) == sorted(set(numbers(20)) - set(done))
        second.commit()
    with closing(again().consumer("t", "g")) as last:
        assert polled(last) == []
        log.append("t", [b"more"])
        assert last.poll(5, wait_s=WAIT_S).records == [b"more"]


def test_records_come_in_order(kind: str, log: Log, again: Callable[[], Log]) -> None:
    written = [b"", b"a", b"\x00" * 1000, *numbers(50)]
    log.append("t", written[:3])
    log.append("t", [])
    for record in written[3:]:
        log.append("t", [record])
    with closing(again().consumer("t", "g")) as consumer:
        read = polled(consumer)
    if gap(kind, "order"):
        read, written = sorted(read), sorted(written)
    assert read == written
    with closing(log.reader("other")) as other:
        assert polled(other) == []


def test_groups_do_not_disturb_each_other(log: Log) -> None:
    log.append("t", [b"a", b"b"])
    with closing(log.consumer("t", "one")) as one, closing(log.consumer("t", "two")) as two:
        assert sorted(polled(one)) == sorted(polled(two)) == [b"a", b"b"]
        one.commit()
    with closing(log.consumer("t", "three")) as three:
        assert sorted(polled(three)) == [b"a", b"b"]
    with closing(log.consumer("t", "two")) as two:
        assert sorted(polled(two)) == [b"a", b"b"]


def test_a_group_goes_back(log: Log) -> None:
    log.append("t", [b"a", b"b"])
    with closing(log.consumer("t", "g")) as consumer:
        assert sorted(polled(consumer)) == [b"a", b"b"]
        consumer.commit()
        consumer.rewind()
        assert sorted(polled(consumer)) == [b"a", b"b"]
        consumer.commit()
        time.sleep(2.5)  # clocks of brokers are allowed a second
        moment = time.time_ns() // 1000
        log.append("t", [b"c"])
        assert polled(consumer) == [b"c"]
        consumer.commit()
        consumer.rewind(moment)
        assert b"c" in polled(consumer)


def test_a_reader_of_its_own_sees_everything_whatever_groups_do(
    kind: str, log: Log, again: Callable[[], Log]
) -> None:
    log.append("t", [b"a", b"b"])
    with (
        closing(log.consumer("t", "g")) as group,
        closing(again().reader("t")) as one,
        closing(log.reader("t")) as two,
    ):
        assert sorted(polled(group)) == [b"a", b"b"]
        group.commit()
        assert sorted(polled(one)) == sorted(polled(two)) == [b"a", b"b"]
        moment = time.time_ns() // 1000
        log.append("t", [b"c"])
        assert one.poll(5, wait_s=WAIT_S).records == [b"c"]
        with closing(log.reader("t", moment)) as later:
            assert b"c" in polled(later)
            log.append("t", [b"d"])
            assert later.poll(5, wait_s=WAIT_S).records == [b"d"]
        assert sorted(polled(two)) == sorted(polled(group)) == [b"c", b"d"]


def test_places_name_records_for_good(log: Log, again: Callable[[], Log]) -> None:
    log.append("t", [b"a", b"b", b"c"])
    with closing(log.consumer("t", "one")) as consumer:
        one = consumer.poll(10)
    log.append("t", [b"d"])
    with closing(again().consumer("t", "two")) as consumer:
        two = consumer.poll(10)
    named = dict(zip(two.records, two.places, strict=True))
    assert [named[record] for record in one.records] == one.places
    assert len(set(two.places)) == 4


def test_a_place_that_is_passed_can_be_waited_for(kind: str, log: Log, again: Callable[[], Log]) -> None:
    place = log.append("t", [b"a", b"b"])
    later = log.append("t", [b"c"])
    if gap(kind, "places"):
        assert place is None
        return
    assert place is not None
    assert later is not None
    with closing(log.consumer("t", "g")) as consumer:
        assert not log.passed("t", "g", place)
        polled(consumer)
        assert not log.passed("t", "g", place)
        consumer.commit()
        assert again().passed("t", "g", place)
        assert again().passed("t", "g", later)
        assert not log.passed("t", "g", log.append("t", [b"d"]) or 0)


def test_how_much_is_behind_can_be_told(kind: str, log: Log) -> None:
    with closing(log.consumer("t", "g")) as consumer:
        assert consumer.poll(5).records == []
        log.append("t", numbers(20))
        assert len(consumer.poll(5)) == 5
        if gap(kind, "backlog"):
            assert consumer.behind() is None
            return
        some = consumer.behind()
        polled(consumer)
        assert (some or 0) > 0
        assert consumer.behind() == 0


def test_a_long_append_comes_whole(log: Log) -> None:
    written = [b"%d:" % n + b"x" * 2_000 for n in range(2_500)]
    log.append("t", written)
    with closing(log.consumer("t", "g")) as consumer:
        assert sorted(polled(consumer, 1_200)) == sorted(written)


def test_one_takes_over_from_another(log: Log, again: Callable[[], Log]) -> None:
    first = log.consumer("t", "g", shared=True)
    log.append("t", [b"a"])
    assert awaited(first, 1) == [b"a"]
    first.commit()
    first.close()
    log.append("t", [b"b"])
    with closing(again().consumer("t", "g", shared=True)) as second:
        assert awaited(second, 1) == [b"b"]


def test_who_leaves_at_once_keeps_nobody_out(log: Log, again: Callable[[], Log]) -> None:
    log.append("t", [b"a"])
    hasty = log.consumer("t", "g", shared=True)
    assert len(hasty.poll(5, wait_s=0.05)) <= 1
    hasty.close()
    with closing(again().consumer("t", "g", shared=True)) as second:
        assert awaited(second, 1) == [b"a"]


def test_who_shares_gets_each_record_once_between_them(log: Log, again: Callable[[], Log]) -> None:
    other = again()
    with closing(log.consumer("t", "g", shared=True)) as one:
        log.append("t", numbers(10))
        read = awaited(one, 10)
        one.commit()
        try:
            two: Reader = other.consumer("t", "g", shared=True)
        except Conflict:
            two = other.reader("other")  # one at a time: this one stands by
        with closing(two):
            until = time.monotonic() + WAIT_S
            for n in range(10, 200, 10):
                log.append("t", numbers(n, n + 10))
            while len(read) < 200 and time.monotonic() < until:
                for reader in (one, two):
                    found = reader.poll(50, wait_s=0.05)
                    read += found.records
                    if len(found):
                        reader.commit()  # type: ignore[attr-defined]
    assert sorted(read) == sorted(numbers(200))


READER = """
import sys, time, msgspec
from pathlib import Path
from segue.settings.tree import Log
from segue.wiring.logs import open_log

root, settings = sys.argv[1:]
consumer = open_log(Path(root), msgspec.json.decode(settings, type=Log)).consumer("t", "g", shared=True)
while not len(consumer.poll(5, wait_s=0.5)):
    pass
print("read", flush=True)
time.sleep(600)
"""


def test_what_a_killed_reader_had_comes_again(place: LogPlace, log: Log) -> None:
    log.append("t", [b"a", b"b"])
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, place.root, msgspec.json.encode(place.settings)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    with reader.stdout:
        assert reader.stdout.readline() == "read\n"
        reader.kill()
        reader.wait()
    with closing(log.consumer("t", "g", shared=True)) as consumer:
        assert sorted(awaited(consumer, 2)) == [b"a", b"b"]
        consumer.commit()


def test_bad_names_and_giant_records_are_refused(log: Log) -> None:
    for topic in ("", "../x", "A", "a/b", "x" * 65):
        with pytest.raises(InvalidInput):
            log.append(topic, [b"x"])
        with pytest.raises(InvalidInput):
            log.reader(topic)
    with pytest.raises(InvalidInput):
        log.consumer("t", "no group")
    with pytest.raises(InvalidInput) as refused:
        log.append("t", [b"fine", b"x" * 16_000_001])
    assert refused.value.field == "record"
    assert refused.value.limit is not None
    with closing(log.reader("t")) as reader:
        assert polled(reader) == []


WRITER = """
import sys, msgspec
from pathlib import Path
from segue.settings.tree import Log
from segue.wiring.logs import open_log

root, settings, told, name, n = sys.argv[1:]
log = open_log(Path(root), msgspec.json.decode(settings, type=Log))
with open(told, "ab", buffering=0) as file:
    for at in range(0, int(n), 3):
        names = [f"{name}:{i}" for i in range(at, at + 3)]
        log.append("t", [each.encode() + b":" + b"x" * (at % 9_000) for each in names])
        file.write("".join(each + " " for each in names).encode())
"""
"""Appends, and notes each record in a file of its own once `append` has returned."""


def writer(place: LogPlace, told: Path, name: int, n: int) -> subprocess.Popen[bytes]:
    settings = msgspec.json.encode(place.settings)
    return subprocess.Popen([sys.executable, "-c", WRITER, place.root, settings, told, str(name), str(n)])


def names(records: list[bytes]) -> list[str]:
    return [record.decode().rpartition(":")[0] for record in records]


def test_processes_append_at_once_while_one_reads(place: LogPlace, log: Log, tmp_path: Path) -> None:
    with closing(log.reader("t")) as reader:
        writers = [writer(place, tmp_path / "told", name, 60) for name in range(3)]
        read = awaited(reader, 180)
    assert [each.wait() for each in writers] == [0, 0, 0]
    assert sorted(names(read)) == sorted(f"{name}:{i}" for name in range(3) for i in range(60))


def test_kill_9_loses_nothing_that_was_acknowledged(place: LogPlace, log: Log, tmp_path: Path) -> None:
    told, dice = tmp_path / "told", random.Random(1)
    for round_ in range(3):
        before = told.stat().st_size if told.exists() else 0
        process = writer(place, told, round_, 10**7)
        while not told.exists() or told.stat().st_size == before:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(dice.random() * 0.05)
        process.kill()
        process.wait()
    with closing(log.reader("t")) as reader:
        found = names(polled(reader, 1_000))
    assert set(told.read_text().split()) <= set(found)


@pytest.mark.parametrize(
    ("kind", "field"), [("pubsub", "log.pubsub.project"), ("kafka", "log.kafka.properties")]
)
def test_settings_that_cannot_be_are_refused_at_once(kind: str, field: str, tmp_path: Path) -> None:
    settings = LogSettings(kind=kind, kafka=Kafka(properties=str(tmp_path / "absent")))  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings) as refused:
        open_log(tmp_path, settings)
    assert refused.value.field == field


def test_client_properties_reach_the_client(log_of: Callable[[str], LogPlace], tmp_path: Path) -> None:
    place = log_of("kafka")
    file = tmp_path / "client.properties"
    kafka = msgspec.structs.replace(place.settings.kafka, properties=str(file))
    settings = msgspec.structs.replace(place.settings, kafka=kafka)
    file.write_text("# ours\nclient.id = us\n\nno.such.thing=1\n")
    with (
        closing(open_log(tmp_path, settings)) as log,
        pytest.raises(InvalidSettings, match=r"no\.such\.thing"),
    ):
        log.append("t", [b"a"])
    file.write_text("client.id = us\nsecurity.protocol=SSL\n")  # which the broker does not speak
    hasty = msgspec.structs.replace(settings, deadline_ms=1_500)
    with closing(open_log(tmp_path, hasty)) as log, pytest.raises(Unavailable, match="Kafka at 127"):
        log.append("t", [b"a"])


def test_a_topic_that_is_not_there_says_how_to_make_it(log_of: Callable[[str], LogPlace]) -> None:
    with closing(log_of("pubsub").open()) as log:
        with pytest.raises(Unavailable, match=r"topics/t\w+-t is not there; make it with `segue log create`"):
            log.append("t", [b"a"])
        with (
            closing(log.consumer("t", "g")) as consumer,
            pytest.raises(Unavailable, match="segue log create"),
        ):
            consumer.poll(1)
