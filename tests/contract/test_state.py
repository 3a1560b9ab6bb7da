"""What every listener state store promises, whichever it is, against the real thing or its maker's emulator."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
import redis
from google.cloud.bigtable import Client as BigtableAdmin

from real_stores import KINDS, Place
from segue.adapters.state import tokens
from segue.adapters.state.lmdb import LMDBState
from segue.contracts.errors import InvalidData, InvalidInput, InvalidSettings, Unavailable
from segue.contracts.ids import MAX_ID
from segue.contracts.ports import StateStore
from segue.settings.tree import Redis, State
from segue.wiring.stores import open_store

PROCESSES = multiprocessing.get_context("spawn")
TAILED = [kind for kind in KINDS if kind != "lmdb"]


def fold(user_id: int, record: bytes | None, rows: bytes) -> bytes:
    """Records and rows are words, each ending in ";". A record has each word once, in order."""
    words = {word for word in ((record or b"") + rows).split(b";") if word}
    return b"".join(word + b";" for word in sorted(words))


def words(store: StateStore, user_id: int) -> list[bytes]:
    """What a reader makes of what is kept: the words, each as often as it is there."""
    record, tail = store.get(user_id)
    return sorted(word for word in ((record or b"") + tail).split(b";") if word)


def put(record: bytes | None) -> Callable[[int, bytes | None, bytes], bytes | None]:
    return lambda user_id, before, tail: record


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    return place_of(str(request.param))


@pytest.fixture
def store(place: Place) -> Iterator[StateStore]:
    opened = place.open()
    yield opened
    opened.close()


def test_an_unknown_listener_has_nothing(store: StateStore) -> None:
    assert store.get(1) == (None, b"")


@pytest.mark.parametrize("user_id", [0, 1, 256, MAX_ID])
def test_what_was_stored_is_read(store: StateStore, user_id: int) -> None:
    store.update([user_id], put(b"a"))
    assert store.get(user_id) == (b"a", b"")
    store.add({user_id: b"b;"}, fold)
    assert words(store, user_id ^ 1) == []
    record, tail = store.get(user_id)
    assert (record, tail) in ((b"a", b"b;"), (b"ab;", b""))


def test_rows_of_many_listeners_are_read_back(store: StateStore) -> None:
    users = list(range(0, 3_000, 20))
    store.add({user: b"a%d;" % user for user in users}, fold)
    store.add(dict.fromkeys(users, b"b;"), fold)
    assert {user: words(store, user) for user in users[::10]} == {
        user: [b"a%d" % user, b"b"] for user in users[::10]
    }
    assert sorted(store.sample(10_000)) == users


def test_adding_nothing_changes_nothing(store: StateStore) -> None:
    store.add({}, fold)
    store.update([], put(b"a"))
    assert store.sample(10) == []


def test_update_sees_record_and_tail_and_none_deletes_both(store: StateStore) -> None:
    seen: list[bytes] = []

    def grow(user_id: int, record: bytes | None, tail: bytes) -> bytes | None:
        seen.append(fold(user_id, record, tail))
        return None if b"c" in seen[-1] else seen[-1] + b"c;"

    store.add({5: b"a;"}, fold)
    store.add({5: b"b;"}, fold)
    store.update([5], grow)
    assert store.get(5) == (b"a;b;c;", b"")
    store.update([5], grow)
    assert seen == [b"a;b;", b"a;b;c;"]
    assert store.get(5) == (None, b"")
    assert store.sample(10) == []
    store.update([5], put(None))
    assert store.get(5) == (None, b"")


def test_update_runs_for_every_listener_named(store: StateStore) -> None:
    store.add({5: b"a;"}, fold)
    store.update([5, 6, 5, 7], lambda user_id, record, tail: fold(user_id, record, tail + b"%d;" % user_id))
    assert [words(store, user) for user in (5, 6, 7)] == [[b"5", b"a"], [b"6"], [b"7"]]


def test_an_empty_record_is_not_an_absent_one(store: StateStore) -> None:
    store.update([5], put(b""))
    assert store.get(5) == (b"", b"")


def test_a_change_that_fails_leaves_everything(store: StateStore) -> None:
    store.update([5], put(b"kept;"))
    store.add({5: b"row;"}, fold)

    def fail(user_id: int, record: bytes | None, tail: bytes) -> bytes | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update([5], fail)
    assert words(store, 5) == [b"kept", b"row"]
    store.add({5: b"next;"}, fold)
    assert words(store, 5) == [b"kept", b"next", b"row"]


def test_large_records_and_large_rows(store: StateStore) -> None:
    record = os.urandom(300_000).replace(b";", b",") + b";"
    store.update([5], put(record))
    assert store.get(5) == (record, b"")
    many = b"".join(b"%d;" % n for n in range(20_000))
    store.add({6: many}, fold)
    assert len(words(store, 6)) == 20_000
    assert store.get(6)[1] == b"", "rows as long as this are folded at once"


def test_a_tail_stays_short_and_nothing_in_it_is_lost(place: Place) -> None:
    store = place.open(tail_bytes=100)
    longest, folds = 0, 0

    def counted(user_id: int, record: bytes | None, rows: bytes) -> bytes:
        nonlocal folds
        folds += 1
        return fold(user_id, record, rows)

    for n in range(60):
        store.add({5: b"row %02d;" % n}, counted)
        longest = max(longest, len(store.get(5)[1]))
    assert longest <= 100
    assert words(store, 5) == [b"row %02d" % n for n in range(60)]
    if place.settings.kind == "lmdb":
        assert (longest, folds) == (0, 60)
    else:
        assert folds == 60 // (100 // 7 + 1)
    store.close()


def test_a_sample_is_of_some_distinct_listeners(store: StateStore) -> None:
    users = set(range(0, 600, 10))
    store.add(dict.fromkeys(users, b"a;"), fold)
    found = store.sample(10)
    assert len(found) == len(set(found)) == 10
    assert set(found) <= users


@pytest.mark.parametrize("user_id", [-1, MAX_ID + 1])
def test_an_id_outside_the_range_is_refused(store: StateStore, user_id: int) -> None:
    with pytest.raises(InvalidInput, match="user_id"):
        store.get(user_id)
    with pytest.raises(InvalidInput, match="user_id"):
        store.add({user_id: b"a;"}, fold)
    with pytest.raises(InvalidInput, match="user_id"):
        store.update([user_id], put(b""))


def test_what_is_kept_outlives_the_process(place: Place) -> None:
    first = place.open()
    first.add({1: b"a;"}, fold)
    first.close()
    second = place.open()
    second.create()
    assert words(second, 1) == [b"a"]
    second.close()


def test_two_places_do_not_see_each_other(
    place: Place, place_of: Callable[[str], Place], tmp_path: Path
) -> None:
    here = place.open()
    here.add({1: b"a;"}, fold)
    kind = "redis-cluster" if place.settings.redis.cluster else place.settings.kind
    there = place_of(kind).open()
    assert there.get(1) == (None, b"")
    assert there.sample(10) == []
    here.close()
    there.close()


def _add(place: Place, name: str, times: int) -> None:
    store = place.open(tail_bytes=100)
    for n in range(times):
        store.add({1: f"{name} {n:03};".encode()}, fold)
    store.close()


def test_nothing_that_processes_add_at_once_is_lost_or_doubled(place: Place) -> None:
    workers = [PROCESSES.Process(target=_add, args=(place, name, 60)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    _add(place, "c", 60)
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    store = place.open()
    assert words(store, 1) == [f"{name} {n:03}".encode() for name in "abc" for n in range(60)]
    store.close()


def _increment(place: Place, times: int) -> None:
    store = place.open()
    for _ in range(times):
        store.update([1], lambda user_id, record, tail: str(int(record or b"0") + 1).encode())
    store.close()


def test_no_update_of_any_process_is_lost(place: Place) -> None:
    workers = [PROCESSES.Process(target=_increment, args=(place, 40)) for _ in range(2)]
    for worker in workers:
        worker.start()
    _increment(place, 40)
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    store = place.open()
    assert store.get(1) == (b"120", b"")
    store.close()


def test_threads_share_a_store(store: StateStore) -> None:
    def work(name: str) -> None:
        for n in range(30):
            store.add({1: f"{name} {n:02};".encode(), 2: b"x;"}, fold)
            assert f"{name} {n:02}".encode() in words(store, 1)

    failed: list[BaseException] = []

    def watched(name: str) -> None:
        try:
            work(name)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failed.append(error)

    threads = [threading.Thread(target=watched, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    assert words(store, 1) == [f"{name} {n:02}".encode() for name in "abcd" for n in range(30)]


def _die(user_id: int, record: bytes | None, rows: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _add_and_die_folding(place: Place) -> None:
    place.open(tail_bytes=0).add({1: b"row;"}, _die)


def test_a_process_killed_while_it_folds_breaks_nothing(place: Place) -> None:
    store = place.open(tail_bytes=0)
    store.update([1], put(b"kept;"))
    worker = PROCESSES.Process(target=_add_and_die_folding, args=(place,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    if place.settings.kind == "lmdb":
        assert store.get(1) == (b"kept;", b""), "the transaction was never there"
    else:
        assert store.get(1) == (b"kept;", b"row;"), "appended, not folded yet"
    store.add({1: b"row;"}, fold)
    assert store.get(1) == (b"kept;row;", b"")
    store.close()


@pytest.mark.parametrize("kind", TAILED)
def test_who_was_deleted_is_not_brought_back_by_a_fold_under_way(
    kind: str, place_of: Callable[[str], Place]
) -> None:
    place = place_of(kind)
    store, other = place.open(), place.open()
    store.add({1: b"old;"}, fold)
    seen: list[tuple[bytes | None, bytes]] = []

    def slow_fold(user_id: int, record: bytes | None, tail: bytes) -> bytes | None:
        if not seen:
            other.update([1], put(None))
            other.add({1: b"new;"}, fold)
        seen.append((record, tail))
        return fold(user_id, record, tail)

    store.update([1], slow_fold)
    assert seen == [(None, b"old;"), (None, b"new;")]
    assert store.get(1) == (b"new;", b"")
    store.close()
    other.close()


def test_lmdb_does_not_let_a_reader_wait_for_a_writer(place_of: Callable[[str], Place]) -> None:
    store = place_of("lmdb").open()
    store.update([1], put(b"before"))
    seen: list[bytes | None] = []

    def look(user_id: int, record: bytes | None, tail: bytes) -> bytes | None:
        seen.append(store.get(1)[0])
        return b"after"

    store.update([1], look)
    assert seen == [b"before"]
    assert store.get(1)[0] == b"after"
    store.close()


def test_a_full_lmdb_says_which_setting_to_raise(tmp_path: Path) -> None:
    store = LMDBState(tmp_path, State(map_size_mb=16))
    store.update([1], put(b"kept"))
    with pytest.raises(Unavailable, match=r"full at 16 MB; raise state\.map_size_mb"):
        store.update(range(2, 30), put(bytes(1_000_000)))
    assert store.get(1)[0] == b"kept"
    assert store.get(2)[0] is None
    store.close()


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"this is no database" * 1000)
    with pytest.raises(InvalidData, match="not a listener state store"):
        LMDBState(tmp_path, State())


def test_redis_expires_a_listener_after_the_last_event(place_of: Callable[[str], Place]) -> None:
    place = place_of("redis")
    store = place.open(expire_days=2)
    with redis.Redis.from_url(place.settings.redis.url) as raw:
        key = f"{place.settings.redis.prefix}u:1"
        for write in (lambda: store.add({1: b"a;"}, fold), lambda: store.update([1], put(b"b"))):
            write()
            assert 2 * 86_400 - 60 < raw.ttl(key) <= 2 * 86_400
            raw.expire(key, 1_000)
        forever = place.open(expire_days=0)
        forever.add({1: b"a;"}, fold)
        assert raw.ttl(key) == -1
        forever.close()
    store.close()


def test_dynamodb_expires_both_items(place_of: Callable[[str], Place]) -> None:
    place = place_of("dynamodb")
    store = place.open(expire_days=2)
    store.create()
    at = place.settings.dynamodb
    client = boto3.client("dynamodb", region_name=at.region, endpoint_url=at.endpoint_url)
    assert client.describe_time_to_live(TableName=at.table)["TimeToLiveDescription"]["AttributeName"] == "x"
    store.add({1: b"a;"}, fold)
    store.update([2], put(b"b"))
    items = client.scan(TableName=at.table)["Items"]
    assert sorted((item["u"]["N"], item["k"]["S"]) for item in items if "x" in item) == [
        ("1", "r"),
        ("1", "t"),
        ("2", "r"),
        ("2", "t"),
    ]
    client.close()
    store.close()


def test_bigtable_expires_cells_by_age(place_of: Callable[[str], Place]) -> None:
    place = place_of("bigtable")
    at = place.settings.bigtable
    other = place.open(expire_days=2, bigtable=type(at)(at.project, at.instance, f"{at.table}x"))
    other.create()
    admin = BigtableAdmin(project=at.project, admin=True).instance(at.instance)
    for table, days in ((at.table, None), (f"{at.table}x", 2)):
        families = admin.table(table).list_column_families()
        assert sorted(families) == ["s", "t"]
        for family in families.values():
            rule = str(family.gc_rule.to_pb())
            assert "max_num_versions: 1" in rule
            assert (f"seconds: {86_400 * 2}" in rule) == (days is not None)
    other.close()


@pytest.mark.parametrize("kind", ["bigtable", "dynamodb"])
def test_an_old_record_is_written_again_before_it_expires(
    kind: str, place_of: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place_of(kind).open(expire_days=10)
    today = tokens.today()
    store.update([1], put(b"a;"))
    for day, kept in (
        (0, (b"a;", b"b;")),
        (4, (b"a;", b"b;c;")),
        (5, (b"a;b;c;d;", b"")),
        (9, (b"a;b;c;d;", b"e;")),
    ):
        monkeypatch.setattr(tokens, "today", lambda day=day: today + day)
        store.add({1: b"bcde"[[0, 4, 5, 9].index(day)].to_bytes() + b";"}, fold)
        assert store.get(1) == kept, day
    store.close()


def test_dynamodb_asks_again_for_keys_left_unprocessed(place_of: Callable[[str], Place]) -> None:
    store = place_of("dynamodb").open()
    record = bytes(380_000)
    store.update(range(50), put(record))
    sizes: list[int] = []

    def look(user_id: int, there: bytes | None, tail: bytes) -> bytes | None:
        sizes.append(len(there or b""))
        return there

    store.update(range(50), look)  # 19 MB: more than one answer may hold
    assert sizes == [len(record)] * 50
    store.close()


def test_dynamodb_refuses_settings_whose_records_would_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"state\.max_plays, state\.max_marks: a record of 919,"):
        open_store(tmp_path, State(kind="dynamodb", max_marks=50_000))


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"state\.redis\.url"):
        open_store(tmp_path, State(kind="redis", redis=Redis(url="http://here")))
    with pytest.raises(InvalidSettings, match=r"state\.bigtable\.project: is empty"):
        open_store(tmp_path, State(kind="bigtable"))


@pytest.mark.parametrize("kind", ["bigtable", "dynamodb"])
def test_a_table_that_is_not_there_is_named_with_what_to_do(
    kind: str, place_of: Callable[[str], Place]
) -> None:
    at = place_of(kind).settings
    nowhere = type(at.bigtable)(at.bigtable.project, at.bigtable.instance, "nowhere")
    elsewhere = type(at.dynamodb)("nowhere", at.dynamodb.region, at.dynamodb.endpoint_url)
    store = place_of(kind).open(bigtable=nowhere, dynamodb=elsewhere)
    with pytest.raises(Unavailable, match=r"nowhere.*make it with `segue state create`"):
        store.get(1)
    store.close()
