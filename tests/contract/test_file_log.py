"""What the embedded log promises beyond what every log does (test_log.py): positions, damage, disks, locks."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.adapters.log import files
from segue.adapters.log.files import FileLog
from segue.contracts.errors import InvalidInput, Unavailable
from segue.contracts.ports import Reader

Open = Callable[[], FileLog]


@pytest.fixture(params=[files.SEGMENT_BYTES, 200])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same log again and again, as different processes would."""
    return lambda: FileLog(tmp_path, segment_bytes=request.param)


def everything(log: FileLog, topic: str = "t", limit: int = 7) -> list[bytes]:
    records: list[bytes] = []
    position = 0
    while len(found := log.read(topic, position, limit)):
        assert len(found) <= limit
        assert found.places == sorted(set(found.places))
        assert found.places[0] > position
        records, position = records + found.records, found.places[-1]
    return records


def polled(consumer: Reader, limit: int = 7) -> list[bytes]:
    records: list[bytes] = []
    while len(found := consumer.poll(limit)):
        assert len(found) == len(found.places) <= limit
        records += found.records
    return records


@pytest.mark.parametrize("damage", [b"", b"\xff" * 12, b"half"])
def test_a_damaged_commit_means_from_the_start(tmp_path: Path, damage: bytes) -> None:
    log = FileLog(tmp_path)
    log.append("t", [b"a", b"b"])
    consumer = log.consumer("t", "g")
    polled(consumer)
    consumer.commit()
    consumer.close()
    (tmp_path / "t" / "groups" / "g").write_bytes(damage)
    assert polled(log.consumer("t", "g")) == [b"a", b"b"]


def test_half_a_record_at_the_end_is_waited_behind(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.append("t", [b"a"])
    [segment] = (tmp_path / "t").glob("*.log")
    segment.write_bytes(segment.read_bytes() + b"SGL1torn")
    consumer = log.consumer("t", "g")
    assert polled(consumer) == [b"a"]
    assert consumer.poll(5, wait_s=0.02).records == []
    FileLog(tmp_path).append("t", [b"b"])
    assert consumer.poll(5, wait_s=5).records == [b"b"]


def test_old_segments_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy service keeps thousands for a week, and every worker looks hundreds of times a second."""
    log = FileLog(tmp_path, segment_bytes=1)
    places = [log.append("t", [b"%d" % n]) or 0 for n in range(100)]
    looked_at: list[files._Segment] = []

    class Counted(files._Segment):
        def __init__(self, path: Path, base: int, size: int) -> None:
            super().__init__(path, base, size)
            looked_at.append(self)

    monkeypatch.setattr(files, "_Segment", Counted)
    assert log.end("t") == places[-1]
    assert log.read("t", places[-2], 5).records == [b"99"]
    log.append("t", [b"100"])
    assert len(looked_at) < 10
    assert len(everything(log)) == 101


def test_old_segments_that_all_groups_have_passed_are_removed(tmp_path: Path) -> None:
    log = FileLog(tmp_path, segment_bytes=100)
    for n in range(10):
        log.append("t", [b"%d" % n * 50])
    slow, quick = log.consumer("t", "slow"), log.consumer("t", "quick")
    polled(quick)
    quick.commit()
    slow.poll(4)
    slow.commit()
    later = time.time_ns() // 1000 + 1
    assert log.prune("t", ["slow", "quick"], later - 60_000_000) == 0
    removed = log.prune("t", ["slow", "quick"], later)
    assert 0 < removed < 5
    assert polled(slow) == [b"%d" % n * 50 for n in range(4, 10)]
    assert log.prune("t", ["quick"], later) > 0
    log.append("t", [b"x"])
    assert polled(quick) == [b"x"]


def test_a_group_that_still_reads_is_waited_for_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    log = FileLog(tmp_path, segment_bytes=100)
    for n in range(10):
        log.append("t", [b"%d" % n * 50])
    with closing(log.consumer("t", "warehouse")) as done, closing(log.consumer("t", "state")) as slow:
        polled(done)
        done.commit()
        slow.poll(4)
        slow.commit()
    now = time.time()
    for segment in (tmp_path / "t").glob("*.log"):
        os.utime(segment, (now - 100, now - 100))
    before = int((now - 50) * 1e6)
    reader = log.reader("t")
    assert len(reader.poll(1)) == 1
    assert log.prune("t", ["warehouse"], before) > 0
    with closing(log.consumer("t", "state")) as slow:
        assert polled(slow) == [b"%d" % n * 50 for n in range(4, 10)]
    os.utime(tmp_path / "t" / "groups" / "state", (now - 100, now - 100))
    assert log.prune("t", ["warehouse"], before) > 0
    assert len(list((tmp_path / "t").glob("*.log"))) == 1
    assert polled(reader) == [b"%d" % n * 50 for n in range(8, 10)], "a reader goes on with what is kept"


def test_records_come_back_in_order(open_log: Open) -> None:
    log = open_log()
    written = [b"", b"a", b"\x00" * 1000, *(str(n).encode() for n in range(50))]
    log.append("t", written[:3])
    log.append("t", [])
    for record in written[3:]:
        log.append("t", [record])
    assert everything(log) == written
    assert everything(open_log()) == written
    assert everything(open_log(), "other") == []


def test_a_position_means_the_same_forever(open_log: Open) -> None:
    log = open_log()
    log.append("t", [b"a", b"b", b"c"])
    (after_one,), (_, _, end) = log.read("t", 0, 1).places, log.read("t", 0, 10).places
    assert log.read("t", 0, 1).records == [b"a"]
    log.append("t", [b"d" * 300])
    log.append("t", [b"e"])
    assert open_log().read("t", after_one, 2).records == [b"b", b"c"]
    assert open_log().read("t", end, 10).records == [b"d" * 300, b"e"]


def test_writers_take_turns_and_see_each_other(open_log: Open) -> None:
    one, two = open_log(), open_log()
    for n in range(20):
        (one, two)[n % 2].append("t", [str(n).encode()])
    assert everything(open_log()) == [str(n).encode() for n in range(20)]


def test_bad_topics_and_giant_records_are_refused(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log()
    for topic in ("", "../x", "A", "a/b", "x" * 65):
        with pytest.raises(InvalidInput):
            log.append(topic, [b"x"])
        with pytest.raises(InvalidInput):
            log.read(topic, 0, 1)
    monkeypatch.setattr(files, "MAX_RECORD", 100)
    with pytest.raises(InvalidInput):
        log.append("t", [b"fine", b"x" * 101])
    assert everything(log) == []


WRITER = """
import sys
from pathlib import Path
from segue.adapters.log.files import FileLog

root, told, name, n, batch, size, segment = sys.argv[1:]
log = FileLog(Path(root), segment_bytes=int(segment))
with open(told, "ab", buffering=0) as file:
    for at in range(0, int(n), int(batch)):
        records = [f"{name}:{i}:".encode() + b"x" * (i * 37 % int(size)) for i in range(at, at + int(batch))]
        log.append("t", records)
        file.write(b"".join(f"{name}:{i} ".encode() for i in range(at, at + int(batch))))
"""
"""Appends, and notes each record in a file of its own once `append` has returned."""


def writer(
    folder: Path, name: int, *, n: int, batch: int, size: int, segment: int
) -> subprocess.Popen[bytes]:
    numbers = (name, n, batch, size, segment)
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, folder / "log", folder / "told", *map(str, numbers)]
    )


def names(records: list[bytes]) -> list[str]:
    return [record.decode().rpartition(":")[0] for record in records]


def test_processes_append_at_once_while_one_reads(tmp_path: Path) -> None:
    writers = [writer(tmp_path, name, n=60, batch=3, size=90, segment=2_000) for name in range(3)]
    log = FileLog(tmp_path / "log")
    seen: list[bytes] = []
    position = 0
    until = time.monotonic() + 60
    while len(seen) < 180 and time.monotonic() < until:
        found = log.read("t", position, 50)
        seen += found.records
        position = found.places[-1] if len(found) else position
        time.sleep(0.005)
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert everything(log) == seen
    for name in range(3):
        assert [n for n in names(seen) if n.startswith(f"{name}:")] == [f"{name}:{i}" for i in range(60)]


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    told = tmp_path / "told"
    pause = random.Random(seed)
    seen: list[bytes] = []
    position = 0
    for round_ in range(3):
        before = told.stat().st_size if told.exists() else 0
        process = writer(tmp_path, round_, n=10**7, batch=2, size=9_000, segment=50_000)
        while not told.exists() or told.stat().st_size == before:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(pause.random() * 0.05)
        process.kill()
        process.wait()
        found = FileLog(tmp_path / "log").read("t", position, 1_000_000)
        seen += found.records
        position = found.places[-1]
    assert set(told.read_text().split()) <= set(names(seen))
    assert len(names(seen)) == len(set(names(seen)))
    assert everything(FileLog(tmp_path / "log"), limit=1_000) == seen


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.binary(min_size=1, max_size=40), st.data()
)
def test_a_torn_tail_is_stepped_over(records: list[bytes], torn: bytes, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        log = FileLog(Path(folder))
        log.append("t", records)
        [segment] = (Path(folder) / "t").glob("*.log")
        whole = segment.read_bytes()
        half = data.draw(st.sampled_from([torn, whole[: data.draw(st.integers(1, len(whole) - 1))]]))
        segment.write_bytes(whole + half)
        for reader in (FileLog(Path(folder)), log):
            assert everything(reader) == records
        position = log.read("t", 0, 100).places[-1]
        FileLog(Path(folder)).append("t", [b"after"])
        log.append("t", [b"later"])
        assert everything(log) == [*records, b"after", b"later"]
        assert log.read("t", position, 10).records == [b"after", b"later"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=2, max_size=6), st.data())
def test_a_flipped_byte_costs_one_record(records: list[bytes], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        FileLog(Path(folder)).append("t", records)
        [segment] = (Path(folder) / "t").glob("*.log")
        raw = bytearray(segment.read_bytes())
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
        segment.write_bytes(raw)
        ends = [sum(12 + len(r) for r in records[: n + 1]) for n in range(len(records))]
        hit = next(n for n, end in enumerate(ends) if at < end)
        assert everything(FileLog(Path(folder))) == records[:hit] + records[hit + 1 :]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    log.append("t", [b"a"])
    real = os.write
    room = [15]

    def write(handle: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = min(room[0], len(data))
        room[0] -= n
        return real(handle, data[:n])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Unavailable, match="No space left"):
        log.append("t", [b"x" * 100])
    monkeypatch.undo()
    assert everything(log) == [b"a"]
    log.append("t", [b"b"])
    assert everything(FileLog(tmp_path)) == [b"a", b"b"]
    assert len(list((tmp_path / "t").glob("*.log"))) == 1


def test_a_lock_that_stays_taken_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    log.append("t", [b"a"])
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    with (tmp_path / "t" / "lock").open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process"):
            log.append("t", [b"b"])
    log.append("t", [b"b"])
    assert everything(log) == [b"a", b"b"]


@pytest.mark.parametrize("where", ["log", "log/t"])
def test_a_file_in_its_place_is_no_empty_log(tmp_path: Path, where: str) -> None:
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).write_text("in the way")
    with pytest.raises(Unavailable, match=f"{tmp_path / where}: is a file where a directory should be"):
        FileLog(tmp_path / "log").read("t", 0, 1)
