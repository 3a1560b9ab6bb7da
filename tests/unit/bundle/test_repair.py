"""What a store does about damage: passes it over, replaces it, names it, and never counts it as a champion."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from segue.bundle import BundleStore, BundleWriter, Manifest
from segue.contracts.errors import BundleCorrupt, NotFound, Unavailable


def write(root: Path, value: int, inputs: str = "") -> Manifest:
    with BundleWriter(root) as writer:
        writer.arrays("models/x", {"a": np.full(100, value)})
        return writer.finish(
            version_prefix="v", data_through="2026-01-01", settings="", tracks=1, notes={"inputs": inputs}
        )


def damage(root: Path, version: str) -> None:
    path = root / version / "models" / "x" / "a.npy"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))


def test_writing_the_same_again_replaces_a_damaged_bundle(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    version = write(tmp_path, 1).version
    damage(tmp_path, version)
    assert write(tmp_path, 1).version == version
    store.open(version)
    assert [path.name for path in tmp_path.iterdir()] == [version]


def test_writing_the_same_again_says_what_it_was_made_from_now(tmp_path: Path) -> None:
    version = write(tmp_path, 1, "before").version
    opened = BundleStore(tmp_path).open(version)
    values = opened.arrays("models/x")["a"]
    write(tmp_path, 1, "after")
    assert BundleStore(tmp_path).open(version).manifest.notes == {"inputs": "after"}
    assert (values == 1).all()


def test_rollback_passes_over_what_is_damaged_or_gone(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    versions = [write(tmp_path, n).version for n in range(4)]
    for version in versions:
        store.publish(version)
    damage(tmp_path, versions[2])
    (tmp_path / versions[1] / "manifest.json").unlink()
    assert store.rollback() == versions[0]
    assert store.current() == versions[0]


def test_rollback_leaves_the_champion_even_if_a_publish_died_between_its_two_files(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    first, second = write(tmp_path, 1).version, write(tmp_path, 2).version
    store.publish(first)
    store.publish(second)
    (tmp_path / "HISTORY").write_text(f"{first}\n{second}\n")
    assert store.rollback() == first
    (tmp_path / "HISTORY").write_text(f"{first}\n")
    with pytest.raises(NotFound, match="no earlier bundle"):
        store.rollback()


def test_a_store_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "absent")
    assert store.versions() == []
    assert store.unreadable() == {}
    for attempt in (store.rollback, store.open):
        with pytest.raises(NotFound, match="no bundle is published yet"):
            attempt()


@pytest.mark.parametrize("manifest", [None, b"", b"{}", b"\xff\xfe", b'{"format": 9}'])
def test_a_folder_that_is_no_bundle_hides_no_other(tmp_path: Path, manifest: bytes | None) -> None:
    store = BundleStore(tmp_path)
    version = write(tmp_path, 1).version
    (tmp_path / "odd").mkdir()
    if manifest is not None:
        (tmp_path / "odd" / "manifest.json").write_bytes(manifest)
    assert [m.version for m in store.versions()] == [version]
    assert list(store.unreadable()) == ["odd"]
    with pytest.raises(NotFound, match=f"there are: {version}"):
        store.open("absent")
    assert store.prune(1) == []


def test_a_current_that_names_nothing_says_how_to_go_on(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    version = write(tmp_path, 1).version
    (tmp_path / "CURRENT").write_bytes(b"\xff\xfe")
    with pytest.raises(BundleCorrupt, match="segue bundle publish"):
        store.open()
    assert list(store.unreadable()) == ["CURRENT"]
    (tmp_path / "CURRENT").write_text("gone\n")
    with pytest.raises(NotFound, match=r"CURRENT.*segue run"):
        store.open()
    store.publish(version)
    assert store.open().version == version
    with pytest.raises(NotFound, match="no earlier bundle"):
        store.rollback()


def test_a_part_that_another_version_wrote_otherwise_is_named(tmp_path: Path) -> None:
    bundle = BundleStore(tmp_path).open(write(tmp_path, 1).version)
    with pytest.raises(BundleCorrupt, match=r"no array 'factors'.*segue run"):
        bundle.arrays("models/x")["factors"]
    with pytest.raises(BundleCorrupt, match="no arrays under 'models/y'"):
        bundle.arrays("models/y")
    with pytest.raises(BundleCorrupt, match=r"has no spec\.json"):
        bundle.json("spec")


def write_on_a_full_disk(root: Path) -> None:
    with BundleWriter(root) as writer:
        writer.json("a", 1)
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"No space left on device.*what is published stays"):
        write_on_a_full_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    version = write(tmp_path, 1).version
    (tmp_path / ".writing-dead" / "models").mkdir(parents=True)
    (tmp_path / ".removed-dead" / "old").mkdir(parents=True)
    (tmp_path / ".CURRENT-dead").write_text("x")
    with BundleWriter(tmp_path):
        assert len([path for path in tmp_path.iterdir() if path.name.startswith(".")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == [version]
