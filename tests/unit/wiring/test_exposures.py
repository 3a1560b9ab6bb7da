"""The exposure log: what each response becomes, and that it is written whatever the disk does meanwhile."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from segue.contracts.errors import Unavailable
from segue.contracts.ids import format_id
from segue.events.records import Exposure, decode_candidates, decode_exposures, encode_exposure
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Answer, Recommender
from segue.wiring import exposures
from segue.wiring.exposures import ExposureWriter, exposure_of
from segue.wiring.home import Home

NOW = 1_795_305_600_000_000


@pytest.fixture(scope="module")
def recommender(service: Home) -> Recommender:
    artifacts = Artifacts.load(service.bundles.open())
    return Recommender(artifacts, service.settings.surfaces, service.state.read, 200)


def answer(recommender: Recommender, user: int | None) -> Answer:
    return recommender.answer(Request(surface="home", user_id=user, k=15, now=NOW, seed=2))


@pytest.mark.parametrize("user", [None, 5])
def test_every_slot_of_every_shelf_is_kept(recommender: Recommender, user: int | None) -> None:
    answered = answer(recommender, user)
    kept = exposure_of(answered, losers=None)
    shown = [item for shelf in answered.response.shelves for item in shelf.items]
    assert kept.track_id == [item.track_id for item in shown]
    assert kept.position == list(range(len(shown)))
    assert kept.propensity == [item.propensity for item in shown]
    assert kept.score == [item.score for item in shown]
    assert (kept.user_id, kept.surface, kept.ts) == (user, "home", NOW)
    assert (kept.bundle, kept.config) == (answered.response.bundle, answered.response.config)
    assert format_id(kept.request_id) == answered.response.request_id
    assert kept.features is None


def test_feature_vectors_are_those_of_the_slots_track(recommender: Recommender) -> None:
    answered = answer(recommender, 5)
    kept = exposure_of(answered, losers=7)
    ids = recommender.artifacts.catalogue.track_id[answered.candidates.tracks].tolist()
    matrix = answered.scored.features
    assert matrix is not None
    assert kept.features is not None
    for track, vector in zip(kept.track_id, kept.features, strict=True):
        np.testing.assert_array_equal(np.frombuffer(vector, "<f4"), matrix[ids.index(track)])


def test_what_was_removed_and_what_lost_is_kept(recommender: Recommender) -> None:
    state = recommender._read_state(5)
    assert state is not None
    session = tuple(state.plays["track_id"][-6:].tolist())
    surfaces = {
        name: msgspec.structs.replace(recipe, skip_session_tracks=True)
        for name, recipe in recommender.surfaces.items()
    }
    strict = Recommender(recommender.artifacts, surfaces, recommender._read_state, 200)
    answered = strict.answer(Request(surface="next-up", user_id=5, k=15, now=NOW, seed=2, session=session))
    shown = {item.track_id for item in answered.response.items}
    every = set(recommender.artifacts.catalogue.track_id[answered.candidates.tracks].tolist())
    rows, _ = decode_candidates([encode_exposure(exposure_of(answered, losers=7))])
    found = rows.to_pylist()
    counted = Counter(row["reason"] for row in found)
    said = dict(answered.response.trace.removed)
    assert said.pop("lost") == len(every - shown)
    assert counted.pop("lost") == 7
    assert counted == said
    assert counted["in_session"] > 0
    matrix = answered.scored.features
    assert matrix is not None
    ids = recommender.artifacts.catalogue.track_id[answered.candidates.tracks].tolist()
    for row in found:
        if row["reason"] != "lost":
            assert row["track_id"] not in every
            assert (row["share"], row["score"], row["features"]) == (1.0, None, None)
            continue
        at = ids.index(row["track_id"])
        assert row["track_id"] not in shown
        assert row["share"] == pytest.approx(7 / len(every - shown))
        assert row["score"] == pytest.approx(float(answered.scored.final[at]))
        assert row["sources"] == list(answered.candidates.sources_of(at))
        np.testing.assert_array_equal(np.float32(row["features"]), matrix[at])


def test_outside_the_sample_only_what_was_removed_is_kept(recommender: Recommender) -> None:
    rows, _ = decode_candidates([encode_exposure(exposure_of(answer(recommender, 5), losers=None))])
    assert "lost" not in set(rows["reason"].to_pylist())


def test_a_strangers_exposure_survives_the_log(recommender: Recommender) -> None:
    record = encode_exposure(exposure_of(answer(recommender, None), losers=None))
    rows, _, decoded = decode_exposures([record])
    assert decoded.broken == []
    assert rows["user_id"].null_count == rows.num_rows > 0


class Disk:
    """A log that cannot be written for its first `faults` appends."""

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.kept: list[bytes] = []

    def append(self, topic: str, records: Sequence[bytes]) -> None:
        """Keep the records, or fail."""
        if records and self.faults:
            self.faults -= 1
            raise Unavailable("no room", field="log")
        self.kept += records

    def read(self, topic: str, after: int, limit: int) -> tuple[list[bytes], int]:
        """Nothing is read here."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to release."""


def numbered(n: int) -> list[Exposure]:
    one = Exposure(bytes(16), NOW, None, "home", [1], [0])
    return [msgspec.structs.replace(one, ts=NOW + i) for i in range(n)]


def times(disk: Disk) -> list[int]:
    decoder = msgspec.msgpack.Decoder(Exposure)
    return [decoder.decode(record).ts - NOW for record in disk.kept]


def test_closing_writes_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "FLUSH_S", 60.0)
    disk = Disk()
    writer = ExposureWriter(disk)
    for exposure in numbered(50):
        writer.add(exposure)
    writer.close()
    assert times(disk) == list(range(50))


def test_a_disk_that_recovers_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "FLUSH_S", 0.01)
    disk = Disk(faults=3)
    writer = ExposureWriter(disk)
    for exposure in numbered(20):
        writer.add(exposure)
        time.sleep(0.005)
    deadline = time.monotonic() + 10
    while len(disk.kept) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()
    assert times(disk) == list(range(20))


def test_what_does_not_fit_is_counted_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exposures, "FLUSH_S", 60.0)
    monkeypatch.setattr(exposures, "MOST", 10)
    disk = Disk()
    writer = ExposureWriter(disk)
    with caplog.at_level(logging.ERROR, "segue.exposures"):
        for exposure in numbered(13):
            writer.add(exposure)
        writer.close()
    assert times(disk) == list(range(10))
    assert "3 responses are missing" in caplog.text


def test_explored_slots_keep_their_propensity(service: Home, recommender: Recommender) -> None:
    """The number in the log is the chance the slot had, not a constant."""
    home = service.settings.surfaces["home"]
    explored = msgspec.structs.replace(home, selector=msgspec.structs.replace(home.selector, explore=0.5))
    other = Recommender(
        recommender.artifacts, service.settings.surfaces | {"home": explored}, lambda _: None, 200
    )
    kept = exposure_of(replace(answer(other, None)), losers=None)
    assert kept.propensity is not None
    assert len(set(kept.propensity[:15])) > 1
    assert all(p is not None and 0 < p <= 1 for p in kept.propensity)
