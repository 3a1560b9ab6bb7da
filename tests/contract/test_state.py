"""What every listener state store promises, whichever it is."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segue.adapters.state.lmdb import LMDBState
from segue.contracts.errors import InvalidData, InvalidInput, Unavailable
from segue.contracts.ids import MAX_ID
from segue.contracts.ports import StateStore
from segue.settings.tree import State

Open = Callable[[], StateStore]
OPENERS: dict[str, Callable[[Path], StateStore]] = {
    "lmdb": lambda path: LMDBState(path / "state", State(map_size_mb=64)),
}
"""Add a store here and it is held to everything below."""
PROCESSES = multiprocessing.get_context("spawn")


@pytest.fixture(params=sorted(OPENERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(name: str, tmp_path: Path) -> Iterator[StateStore]:
    opened = OPENERS[name](tmp_path)
    yield opened
    opened.close()


def test_an_unknown_listener_has_no_record(store: StateStore) -> None:
    assert store.get(1) is None


@pytest.mark.parametrize("user_id", [0, 1, 256, MAX_ID])
def test_what_was_stored_is_read(store: StateStore, user_id: int) -> None:
    store.update(user_id, lambda _: b"a")
    assert store.get(user_id) == b"a"
    assert store.get(user_id ^ 1) is None


def test_update_sees_the_record_and_none_deletes_it(store: StateStore) -> None:
    seen: list[bytes | None] = []

    def grow(record: bytes | None) -> bytes | None:
        seen.append(record)
        return None if record == b"xx" else (record or b"") + b"x"

    for _ in range(3):
        store.update(5, grow)
    assert seen == [None, b"x", b"xx"]
    assert store.get(5) is None
    store.update(5, lambda _: None)
    assert store.get(5) is None


def test_an_empty_record_is_not_an_absent_one(store: StateStore) -> None:
    store.update(5, lambda _: b"")
    assert store.get(5) == b""


def test_a_change_that_fails_leaves_the_record(store: StateStore) -> None:
    store.update(5, lambda _: b"kept")

    def fail(record: bytes | None) -> bytes | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update(5, fail)
    assert store.get(5) == b"kept"
    store.update(5, lambda _: b"next")
    assert store.get(5) == b"next"


def test_load_writes_many_and_replaces(store: StateStore) -> None:
    store.update(5, lambda _: b"old")
    assert store.load((n, b"%d" % n) for n in range(25_000)) == 25_000
    assert [store.get(n) for n in (0, 5, 24_999, 25_000)] == [b"0", b"5", b"24999", None]
    assert store.load([]) == 0


def test_large_records(store: StateStore) -> None:
    record = os.urandom(300_000)
    store.update(5, lambda _: record)
    assert store.get(5) == record


@pytest.mark.parametrize("user_id", [-1, MAX_ID + 1])
def test_an_id_outside_the_range_is_refused(store: StateStore, user_id: int) -> None:
    with pytest.raises(InvalidInput, match="user_id"):
        store.get(user_id)
    with pytest.raises(InvalidInput, match="user_id"):
        store.update(user_id, lambda _: b"")


def test_records_outlive_the_process(name: str, tmp_path: Path) -> None:
    first = OPENERS[name](tmp_path)
    first.update(1, lambda _: b"a")
    first.close()
    second = OPENERS[name](tmp_path)
    assert second.get(1) == b"a"
    second.close()


def _increment(name: str, path: Path, times: int) -> None:
    store = OPENERS[name](path)
    for _ in range(times):
        store.update(1, lambda record: str(int(record or b"0") + 1).encode())
    store.close()


def test_no_update_of_any_process_is_lost(name: str, store: StateStore, tmp_path: Path) -> None:
    workers = [PROCESSES.Process(target=_increment, args=(name, tmp_path, 50)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(50):
        store.update(1, lambda record: str(int(record or b"0") + 1).encode())
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert store.get(1) == b"150"


def _die_in_update(name: str, path: Path) -> None:
    def die(record: bytes | None) -> bytes | None:
        os._exit(9)

    OPENERS[name](path).update(1, die)


def test_a_writer_that_dies_half_way_leaves_the_record_and_no_lock(
    name: str, store: StateStore, tmp_path: Path
) -> None:
    store.update(1, lambda _: b"kept")
    worker = PROCESSES.Process(target=_die_in_update, args=(name, tmp_path))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 9
    assert store.get(1) == b"kept"
    store.update(1, lambda _: b"next")
    assert store.get(1) == b"next"


def test_a_reader_does_not_wait_for_a_writer(store: StateStore) -> None:
    store.update(1, lambda _: b"before")
    seen: list[bytes | None] = []

    def look(record: bytes | None) -> bytes | None:
        seen.append(store.get(1))
        return b"after"

    store.update(1, look)
    assert seen == [b"before"]
    assert store.get(1) == b"after"


def test_a_full_lmdb_says_which_setting_to_raise(tmp_path: Path) -> None:
    store = LMDBState(tmp_path, State(map_size_mb=16))
    store.update(1, lambda _: b"kept")
    with pytest.raises(Unavailable, match=r"full at 16 MB; raise state\.map_size_mb"):
        store.load((n, bytes(1_000_000)) for n in range(2, 30))
    assert store.get(1) == b"kept"
    assert store.get(2) is None
    store.close()


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"this is no database" * 1000)
    with pytest.raises(InvalidData, match="not a listener state store"):
        LMDBState(tmp_path, State())
