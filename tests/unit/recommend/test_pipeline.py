"""The request pipeline over a real bundle: answers, reasons, traces, limits and degradation."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from segue.contracts.errors import InvalidInput, NotFound, Unavailable
from segue.recommend import pipeline
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import merge
from segue.recommend.pipeline import Recommender
from segue.wiring.home import Home

NOW = 1_795_305_600_000_000


@pytest.fixture(scope="module")
def artifacts(service: Home) -> Artifacts:
    return Artifacts.load(service.bundles.open())


@pytest.fixture(scope="module")
def recommender(service: Home, artifacts: Artifacts) -> Recommender:
    patient = {  # compiling takes longer than a request may
        name: msgspec.structs.replace(surface, deadline_ms=60_000)
        for name, surface in service.settings.surfaces.items()
    }
    return Recommender(artifacts, patient, service.state.read, 200)


@pytest.fixture(scope="module")
def busy(service: Home) -> int:
    """The listener with most plays who consents."""
    states = [service.state.read(user) for user in service.state.sample(1000)]
    return max((s for s in states if s is not None and s.consent), key=lambda s: len(s.plays)).user_id


@pytest.mark.parametrize("surface", ["home", "next-up", "station", "related"])
def test_every_surface_fills_the_page(
    recommender: Recommender, artifacts: Artifacts, busy: int, surface: str
) -> None:
    seed = int(artifacts.catalogue.track_id[artifacts.indexes.most_played[0]])
    response = recommender.recommend(Request(surface=surface, user_id=busy, k=20, now=NOW, track_id=seed))
    assert len(response.items) == 20
    assert response.trace.personalized
    assert not response.trace.degraded
    assert seed not in [item.track_id for item in response.items] or surface in ("home", "next-up")


def test_reasons_name_the_plays_behind_them(recommender: Recommender, busy: int) -> None:
    items = recommender.recommend(Request(surface="home", user_id=busy, k=20, now=NOW, why=True)).items
    assert all(item.why is not None and item.why.text for item in items)
    assert any(item.why is not None and item.why.because_of for item in items)
    assert all(item.why is not None and item.why.features for item in items), "the ranker explains its scores"


def test_the_same_seed_gives_the_same_page(recommender: Recommender, busy: int) -> None:
    def ask(seed: int) -> list[int]:
        response = recommender.recommend(Request(surface="home", user_id=busy, k=20, now=NOW, seed=seed))
        return [item.track_id for item in response.items]

    assert ask(1) == ask(1)
    assert len({tuple(ask(seed)) for seed in range(20)}) > 1, "exploration varies with the seed"


def test_strangers_and_unknown_ids_get_a_page(recommender: Recommender) -> None:
    for user in (None, 2**62):
        response = recommender.recommend(Request(surface="home", user_id=user, k=20, now=NOW))
        assert len(response.items) == 20
        assert not response.trace.personalized


def test_k_is_limited_and_the_limit_is_said(recommender: Recommender) -> None:
    with pytest.raises(InvalidInput) as caught:
        recommender.recommend(Request(surface="home", k=1_000_000))
    assert caught.value.field == "k"
    assert caught.value.limit == "1..200"


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (Request(surface="nowhere"), InvalidInput, "surface"),
        (Request(surface="related"), InvalidInput, "track_id"),
        (Request(surface="station"), InvalidInput, "track_id"),
        (Request(surface="related", track_id=2**60), NotFound, "track_id"),
        (Request(surface="station", artist_id=2**60), NotFound, "artist_id"),
    ],
)
def test_bad_requests_name_the_field(
    recommender: Recommender, request_: Request, error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as caught:
        recommender.recommend(request_)
    assert getattr(caught.value, "field") == field  # noqa: B009 - the type is a parameter


def test_a_failing_source_costs_its_candidates_only(recommender: Recommender, busy: int) -> None:
    def broken(*_: object) -> object:
        raise Unavailable("down")

    working = pipeline.SOURCES["fold_in"]
    pipeline.SOURCES["fold_in"] = broken  # type: ignore[assignment]
    try:
        response = recommender.recommend(Request(surface="home", user_id=busy, k=20, now=NOW))
    finally:
        pipeline.SOURCES["fold_in"] = working
    assert len(response.items) == 20
    assert response.trace.degraded == ("fold_in: failed: down",)


def test_merge_keeps_every_source_and_the_best_ranks() -> None:
    a = (np.array([5, 3, 9], np.int32), np.array([3.0, 2.0, 1.0], np.float32))
    b = (np.array([9, 5, 7], np.int32), np.array([0.9, 0.8, 0.7], np.float32))
    merged = merge({"a": a, "b": b}, 10)
    assert merged.tracks.tolist() == [3, 5, 7, 9]
    assert merged.sources_of(1) == ("a", "b")
    assert merged.sources_of(2) == ("b",)
    assert merged.ranks[1].tolist() == [0.0, 1.0]
    assert set(merge({"a": a, "b": b}, 2).tracks.tolist()) == {5, 9}
    assert len(merge({}, 5)) == 0
    assert len(merge({"a": (a[0][:0], a[1][:0])}, 5)) == 0
