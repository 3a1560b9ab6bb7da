"""The exposure log: what each response becomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from segue.contracts.ids import format_id
from segue.events.records import decode_candidates, decode_exposures, encode_exposure
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Answer, Recommender
from segue.wiring.exposures import exposure_of
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
