"""The experiments of a home: kept as reviewed, changed only where nobody is moved, stopped for good."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
import tomli_w
from made_definition import experiment

from segue.bundle import BundleStore
from segue.contracts.errors import Conflict, InvalidInput, NotFound
from segue.contracts.experiments import Experiment, Variant
from segue.experiments import store as store_module
from segue.experiments.store import MOST, ExperimentStore
from segue.settings import Settings

BEFORE, DURING, AFTER = date(2026, 10, 1), date(2026, 11, 5), date(2026, 12, 1)


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path / "experiments", Settings(), BundleStore(tmp_path / "bundles"))


def put(store: ExperimentStore, one: Experiment, today: date = DURING) -> None:
    store.put_tree(msgspec.json.decode(msgspec.json.encode(one)), one.name, today)


def test_a_file_is_kept_as_it_was_reviewed(store: ExperimentStore) -> None:
    text = (Path(__file__).parents[3] / "examples/experiments/mmr.toml").read_text()
    kept = store.put(text, "mmr.toml", DURING)
    assert (store.root / "mmr.toml").read_text() == text
    assert store.get("mmr") == kept
    assert [path.name for path in store.root.iterdir()] == ["mmr.toml"]


def test_a_document_is_kept_as_the_same_experiment(store: ExperimentStore) -> None:
    one = experiment()
    put(store, one)
    assert store.all() == ((store.get(one.name),), {})
    assert store.get(one.name).experiment == one
    with pytest.raises(InvalidInput, match="'diverse' is put under the name 'other'"):
        store.put_tree(msgspec.to_builtins(one), "other", DURING)


def test_how_it_is_depends_on_the_day(store: ExperimentStore) -> None:
    put(store, experiment())
    kept = store.get("diverse")
    days = [BEFORE, kept.experiment.starts, kept.experiment.ends - timedelta(days=1), kept.experiment.ends]
    assert [kept.status(day) for day in days] == ["scheduled", "running", "running", "ended"]


def test_what_overlaps_is_refused_and_nothing_is_kept(store: ExperimentStore) -> None:
    put(store, experiment("one"))
    with pytest.raises(InvalidInput, match="experiments one and two"):
        put(store, experiment("two"))
    assert [kept.experiment.name for kept in store.all()[0]] == ["one"]
    store.stop("one", 1)
    put(store, experiment("two"))


def test_while_it_runs_it_may_only_grow(store: ExperimentStore) -> None:
    one = experiment()
    put(store, one)
    put(store, msgspec.structs.replace(one, share=0.8, ends=date(2026, 11, 20), description="longer"))
    for change, said in (
        ({"share": 0.3}, "may grow, not fall from 0.8 to 0.3"),
        ({"share": 0.8, "salt": "x"}, "salt cannot change any more"),
        (
            {"share": 0.8, "variants": {"control": Variant(), "b": Variant(weight=2)}, "surfaces": ("home",)},
            "variants",
        ),
    ):
        with pytest.raises(Conflict, match=said):
            put(store, msgspec.structs.replace(one, **change))
    put(store, msgspec.structs.replace(one, salt="x"), BEFORE)


def test_a_stopped_experiment_stays_stopped(store: ExperimentStore) -> None:
    one = experiment()
    put(store, one)
    assert store.stop("diverse", 5).stopped_at == 5
    assert store.stop("diverse", 9).stopped_at == 5
    put(store, one)
    assert store.get("diverse").status(DURING) == "stopped"
    with pytest.raises(Conflict, match="was stopped; put it under another name"):
        put(store, msgspec.structs.replace(one, share=0.9))
    assert store.delete("diverse").stopped_at == 5
    with pytest.raises(NotFound, match="there is no experiment 'diverse'"):
        store.get("diverse")
    put(store, one)
    assert store.get("diverse").status(DURING) == "running"


def test_bundles_are_in_use_until_it_is_over(store: ExperimentStore) -> None:
    one = experiment(variants={"control": Variant(), "b": Variant(bundle="v1")})
    store.root.mkdir()
    (store.root / "diverse.toml").write_text(tomli_w.dumps(msgspec.to_builtins(one, builtin_types=(date,))))
    assert [store.bundles(day) for day in (BEFORE, DURING, AFTER)] == [{"v1"}, {"v1"}, set()]
    (store.root / ".new-left-by-a-kill").touch()
    store.stop("diverse", 5)
    assert store.bundles(DURING) == set()
    assert sorted(path.name for path in store.root.iterdir()) == ["diverse.stopped", "diverse.toml"]


def test_every_change_shows_in_the_stamp(store: ExperimentStore) -> None:
    seen = [store.stamp()]
    put(store, experiment())
    seen.append(store.stamp())
    assert store.stamp() == seen[-1]
    store.stop("diverse", 5)
    seen.append(store.stamp())
    store.delete("diverse")
    assert store.stamp() == seen[0] == ()
    assert len(set(seen)) == 3


def test_a_file_that_cannot_be_read_harms_no_other(store: ExperimentStore) -> None:
    put(store, experiment())
    (store.root / "broken.toml").write_text("name = 3")
    (store.root / "called.toml").write_text((store.root / "diverse.toml").read_text())
    found, unreadable = store.all()
    assert [kept.experiment.name for kept in found] == ["diverse"]
    assert set(unreadable) == {"broken.toml", "called.toml"}
    assert "its file must be too" in unreadable["called.toml"]


def test_a_thousand_files_are_parsed_and_checked_once(
    store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is held against those it may clash with, and again only where it changed: counted in calls, not in time."""
    store.root.mkdir()
    for n in range(MOST + 2):
        one = experiment(f"e-{n:04d}", share=0.0004, offset=n / 2_000)
        text = tomli_w.dumps(msgspec.to_builtins(one, builtin_types=(date,)))
        (store.root / f"{one.name}.toml").write_text(text)
    calls: Counter[str] = Counter()
    for name in ("parse", "check"):
        was = getattr(store_module, name)
        monkeypatch.setattr(
            store_module, name, lambda *given, name=name, was=was: calls.update([name]) or was(*given)
        )
    live, trouble = store.live(DURING)
    assert len(live) == MOST
    assert [*trouble.values()] == [
        f"{store.root}: has 1,002 files, of which the first 1,000 by name are read; delete experiments that are over"
    ]
    assert calls == {"parse": MOST, "check": MOST}
    store.stop("e-0007", 1)
    (store.root / "e-0008.toml").write_text("nothing")
    again, trouble = store.live(DURING)
    assert {one.name for one in live} - {one.name for one in again} == {"e-0007", "e-0008"}
    assert "e-0008.toml" in trouble
    assert calls["parse"] <= MOST + 2  # that of e-0008, and of `stop`, which reads the file by itself
    assert calls["check"] == MOST


def test_a_bundle_must_be_there(store: ExperimentStore) -> None:
    one = experiment(variants={"control": Variant(), "b": Variant(bundle="2026-11-21-none")})
    with pytest.raises(InvalidInput, match=r"variants.b.bundle: no bundle '2026-11-21-none'"):
        put(store, one)


@pytest.mark.parametrize("name", ["../etc", "a/b", ""])
def test_a_name_is_no_path(store: ExperimentStore, name: str) -> None:
    with pytest.raises(NotFound):
        store.get(name)


@pytest.mark.parametrize(
    "name", ["/diverse", "./diverse", "x/../diverse", "../diverse", "div/erse", "a" * 300, "\0", ""]
)
def test_a_path_is_no_name(store: ExperimentStore, name: str) -> None:
    """Else the switch that ends one would write somewhere else, say that it did, and end nothing."""
    put(store, experiment())
    for ask in (store.get, store.delete, lambda wrong: store.stop(wrong, 1)):
        with pytest.raises(NotFound, match="there is no experiment"):
            ask(name)
    assert store.get("diverse").status(DURING) == "running"
