"""Bundles are whole or not there, checked byte by byte, switched atomically and rolled back."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.bundle import BundleStore, BundleWriter, Manifest
from segue.bundle.manifest import file_hash
from segue.contracts.errors import BundleCorrupt, NotFound


def write(root: Path, value: int = 1, day: str = "2026-01-01") -> Manifest:
    with BundleWriter(root) as writer:
        writer.arrays("models/x", {"a": np.full(1000, value, np.int32), "b": np.arange(3.0)})
        writer.json("notes", {"value": value})
        return writer.finish(version_prefix=day, data_through=day, settings="s", tracks=3)


def test_what_is_written_is_read_back_memory_mapped(tmp_path: Path) -> None:
    bundle = BundleStore(tmp_path).open(write(tmp_path, 7).version)
    arrays = bundle.arrays("models/x")
    assert (arrays["a"] == 7).all()
    assert arrays["b"].tolist() == [0, 1, 2]
    assert not arrays["a"].flags.writeable
    assert bundle.json("notes") == {"value": 7}


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    assert write(tmp_path, 1).version == write(tmp_path, 1).version
    assert write(tmp_path, 1).version != write(tmp_path, 2).version


def test_an_abandoned_write_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path) as writer:
        writer.json("x", 1)
    assert list(tmp_path.iterdir()) == []


def test_publish_list_and_roll_back(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    first, second, third = (write(tmp_path, n).version for n in (1, 2, 3))
    assert store.current() is None
    for version in (first, second, second, third):
        store.publish(version)
    assert store.current() == third
    assert {m.version for m in store.versions()} == {first, second, third}
    assert store.rollback() == second
    assert store.rollback() == first
    with pytest.raises(NotFound, match="no earlier bundle"):
        store.rollback()
    assert store.current() == first


def test_pruning_keeps_the_champion(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    versions = [write(tmp_path, n).version for n in range(5)]
    store.publish(versions[0])
    removed = store.prune(keep=2)
    assert len(removed) == 2
    assert versions[0] not in removed
    store.open()


def test_pruning_keeps_what_is_in_use(tmp_path: Path) -> None:
    versions = [write(tmp_path, n).version for n in range(4)]
    store = BundleStore(tmp_path, lambda: {versions[0]})
    assert store.prune(keep=1) == versions[2:0:-1]
    assert store.open(versions[0]).version == versions[0]


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    version = write(tmp_path).version
    rng = np.random.default_rng(0)
    for path in [*sorted((tmp_path / version).rglob("*.npy")), tmp_path / version / "notes.json"]:
        good = path.read_bytes()
        for at in rng.choice(len(good), 5):
            bad = bytearray(good)
            bad[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            with pytest.raises(BundleCorrupt, match=path.name):
                store.open(version)
        path.write_bytes(good)
    store.open(version)


def test_missing_short_and_foreign_files_are_named(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    version = write(tmp_path).version
    path = tmp_path / version / "models" / "x" / "a.npy"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(BundleCorrupt, match="bytes"):
        store.open(version)
    path.unlink()
    with pytest.raises(BundleCorrupt, match="missing"):
        store.open(version)
    (tmp_path / version / "manifest.json").write_text("{}")
    with pytest.raises(BundleCorrupt, match="not a manifest"):
        store.open(version)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"data_through": "yesterday"}, "data_through: Invalid isoformat string: 'yesterday'; train anew"),
        ({"files": {"../../other": {"bytes": 1, "sha256": ""}}}, "files: ../../other is not in the bundle"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}}, "files: /etc/passwd is not in the bundle"),
        ({"format": 3}, "format 3, this version reads 4"),
    ],
)
def test_a_manifest_says_a_day_and_files_of_the_bundle(
    tmp_path: Path, said: dict[str, object], why: str
) -> None:
    file = tmp_path / write(tmp_path).version / "manifest.json"
    file.write_bytes(msgspec.json.encode(msgspec.json.decode(file.read_bytes()) | said))
    with pytest.raises(BundleCorrupt, match=re.escape(why)):
        BundleStore(tmp_path).open(file.parent.name)


def test_no_version_is_not_the_champion(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    store.publish(write(tmp_path).version)
    with pytest.raises(NotFound, match="no bundle ''"):
        store.open("")


def test_bytes_are_hashed_once_while_nobody_touches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_hash(path)

    monkeypatch.setattr("segue.bundle.bundle.file_hash", counted)
    store = BundleStore(tmp_path)
    version = write(tmp_path).version
    files = len(store.open(version).manifest.files)
    assert len(hashed) == files
    store.open(version)
    assert len(hashed) == files
    path = tmp_path / version / "models" / "x" / "a.npy"
    good = path.read_bytes()
    path.write_bytes(good[:-8] + bytes(8))
    for _ in range(2):
        with pytest.raises(BundleCorrupt, match=r"a\.npy"):
            store.open(version)
    path.write_bytes(good)
    hashed.clear()
    store.open(version)
    store.open(version, every_byte=True)
    assert len(hashed) == 2 * files


def test_a_bundle_in_a_folder_that_may_only_be_read_opens(tmp_path: Path) -> None:
    version = write(tmp_path).version
    (tmp_path / version / ".hashed").mkdir()  # as root may write anywhere, the name is taken instead
    for _ in range(2):
        assert BundleStore(tmp_path).open(version).version == version


def test_pages_that_are_given_back_are_read_again(tmp_path: Path) -> None:
    with BundleWriter(tmp_path) as writer:
        writer.arrays("models/x", {"a": np.arange(5_000_000), "none": np.empty(0, np.int32)})
        version = writer.finish(version_prefix="v", data_through="2026-01-01", settings="", tracks=1).version
    bundle = BundleStore(tmp_path).open(version)
    array = bundle.arrays("models/x")["a"]
    total = int(array.sum())

    def resident() -> int:
        lines = (line.split() for line in Path("/proc/self/smaps").read_text().splitlines())
        mine = False
        for words in lines:
            if "-" in words[0]:
                mine = words[-1].endswith(f"{version}/models/x/a.npy")
            elif mine and words[0] == "Rss:":
                return int(words[1])
        raise AssertionError("not mapped")

    assert resident() > 39_000
    bundle.give_back()
    assert resident() == 0
    assert int(array.sum()) == total


def test_a_damaged_bundle_is_never_published(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    good, bad = write(tmp_path, 1).version, write(tmp_path, 2).version
    store.publish(good)
    (tmp_path / bad / "notes.json").write_text('{"value": 3}')
    with pytest.raises(BundleCorrupt):
        store.publish(bad)
    assert store.current() == good


@pytest.mark.parametrize("version", ["absent", "../x", ".hidden"])
def test_unknown_versions_are_not_found(tmp_path: Path, version: str) -> None:
    write(tmp_path)
    with pytest.raises(NotFound, match="there are"):
        BundleStore(tmp_path).open(version)


def test_without_a_bundle_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="segue run"):
        BundleStore(tmp_path).open()
