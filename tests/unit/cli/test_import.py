"""`segue import` is alone in its home while it runs, and leaves few files and a ledger that knows."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from segue.adapters.engines.delta import MANY_FILES, DeltaTables
from segue.cli.data import run_import
from segue.contracts.errors import Conflict
from segue.contracts.tables import LISTENERS, RAW_EVENTS
from segue.flows.ledger import Ledger
from segue.flows.lock import exclusive
from segue.flows.task import WHOLE
from segue.wiring.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home", environ={}, overrides=["warehouse.import_batch_rows=1000"])


def test_only_one_process_imports_into_a_home(home: Home, tmp_path: Path) -> None:
    with exclusive(home.root, "the flow"), pytest.raises(Conflict, match="the flow, process"):
        run_import(home, "listenbrainz", tmp_path / "absent.jsonl", None)
    assert home.engine.row_counts(LISTENERS) == {}


def test_many_small_batches_end_in_few_files(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    track = {"artist_name": "Ona", "track_name": "Night Bus"}
    listens = (
        {"listened_at": 1_700_000_000 + n, "user_name": "ana", "track_metadata": track} for n in range(40_000)
    )
    path.write_text("\n".join(map(json.dumps, listens)))
    assert run_import(home, "listenbrainz", path, None)[0].landed == 40_000
    log = home.root / "warehouse" / "raw_events" / "_delta_log"
    assert len(list(log.glob("*.json"))) > MANY_FILES, "it was written in many batches"
    assert len(DeltaTables(home.root / "warehouse").files(RAW_EVENTS)) <= MANY_FILES


def test_a_listener_who_withdraws_consent_makes_what_is_built_from_it_stale(
    home: Home, tmp_path: Path
) -> None:
    mapping = tmp_path / "m.toml"
    mapping.write_text(
        'source = "s"\ntable = "listeners"\n[columns]\nuser_id = "id"\npersonalization_consent = "ok"\n'
    )
    versions = []
    for number, consent in enumerate((True, True, False)):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(msgspec.json.encode({"id": 7, "ok": consent, "n": number}))
        run_import(home, "table", path, mapping)
        versions.append(Ledger(home.engine).reconcile([LISTENERS])[LISTENERS.name, WHOLE].version)
    assert versions[0] == versions[1] != versions[2]
