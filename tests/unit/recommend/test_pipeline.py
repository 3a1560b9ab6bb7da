"""The request pipeline over a real bundle: answers, reasons, traces, limits and degradation."""

from __future__ import annotations

import re
import threading

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from segue.contracts.errors import InvalidInput, NotFound, Unavailable
from segue.recommend import outside, pipeline
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import merge
from segue.recommend.pipeline import Answer, Recommender
from segue.recommend.sources import Proposal
from segue.recommend.sources.ranking import NOTHING
from segue.settings.surfaces import Source
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


def with_outside(recommender: Recommender, deadline_ms: int) -> Recommender:
    """The same with a source `ann` at home that waits for something outside."""
    home = recommender.surfaces["home"]
    sources = {"ann": Source(limit=50, deadline_ms=deadline_ms), **home.sources}
    surfaces = recommender.surfaces | {"home": msgspec.structs.replace(home, sources=sources)}
    return Recommender(recommender.artifacts, surfaces, recommender._read_state, 200)


def ask(recommender: Recommender, busy: int) -> Answer:
    return recommender.answer(Request(surface="home", user_id=busy, k=20, now=NOW, seed=1))


@pytest.fixture
def rare(artifacts: Artifacts) -> npt.NDArray[np.int32]:
    """Tracks that no other source proposes, as far as their plays tell."""
    return np.ascontiguousarray(artifacts.indexes.most_played[::-1][:5])


def test_a_source_outside_runs_beside_the_others(
    recommender: Recommender, busy: int, rare: npt.NDArray[np.int32], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ann(*_: object) -> Proposal:
        asked.append(threading.current_thread().name)
        return rare, np.arange(5, 0, -1).astype(np.float32)

    monkeypatch.setitem(pipeline.SOURCES, "ann", ann)
    answer = ask(with_outside(recommender, 20_000), busy)
    assert asked == ["source-ann"]
    assert answer.candidates.sources[0] == "ann", "in the order of the recipe, whoever answers first"
    assert set(rare.tolist()) <= {*answer.candidates.tracks.tolist(), *answer.removals.tracks.tolist()}
    assert not answer.response.trace.degraded


def test_a_source_outside_that_is_late_costs_its_candidates(
    recommender: Recommender, busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()

    def ann(*_: object) -> Proposal:
        hang.wait(60)
        return NOTHING

    monkeypatch.setitem(pipeline.SOURCES, "ann", ann)
    impatient = with_outside(recommender, 1)
    try:
        pages = [ask(impatient, busy).response for _ in range(outside.MOST + 3)]
        assert all(len(page.items) == 20 for page in pages)
        assert [page.trace.degraded for page in pages[: outside.MOST]] == [
            ("ann: left out: no answer within 1 ms",)
        ] * outside.MOST
        assert [page.trace.degraded for page in pages[outside.MOST :]] == [
            (f"ann: left out: {outside.MOST} earlier calls have not ended",)
        ] * 3
        threads = [t for t in threading.enumerate() if t.name == "source-ann"]
        assert len(threads) == outside.MOST
        assert all(t.daemon for t in threads)
    finally:
        hang.set()
        for thread in threads:
            thread.join()
    assert not ask(with_outside(recommender, 20_000), busy).response.trace.degraded, "it is asked again"


@pytest.mark.parametrize(
    ("proposal", "said"),
    [
        (OSError("connection refused"), "failed: OSError: connection refused"),
        ((np.array([1, 2]), np.ones(2, np.float32)), r"tracks must be int32\[2\], got int64\[2\]"),
        ((np.array([1, 2], np.int32), np.ones(2)), r"scores must be float32\[2\], got float64\[2\]"),
        ((np.array([1, 2], np.int32), np.ones(3, np.float32)), r"scores must be float32\[2\]"),
        (([1], [0.5]), "tracks must be int32.*got list"),
        ((np.array([2**31 - 1], np.int32), np.ones(1, np.float32)), "positions in the catalogue"),
        ((np.array([-1], np.int32), np.ones(1, np.float32)), "positions in the catalogue"),
        ((np.array([1], np.int32), np.full(1, np.nan, np.float32)), "finite"),
        (None, "failed: "),
    ],
)
@pytest.mark.parametrize("deadline_ms", [0, 20_000])
def test_what_cannot_be_used_is_left_out_and_said(
    recommender: Recommender,
    busy: int,
    proposal: object,
    said: str,
    deadline_ms: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if deadline_ms == 0 and not isinstance(proposal, tuple):
        pytest.skip("a fault of a source in the request's own thread is a fault of the program")

    def ann(*_: object) -> object:
        if isinstance(proposal, Exception):
            raise proposal
        return proposal

    monkeypatch.setitem(pipeline.SOURCES, "ann", ann)
    page = ask(with_outside(recommender, deadline_ms), busy).response
    assert len(page.items) == 20
    assert len(page.trace.degraded) == 1
    assert re.search(said, page.trace.degraded[0])
    assert "ann" not in {source for item in page.items for source in item.sources}


def test_of_a_track_proposed_twice_the_first_mention_counts(
    recommender: Recommender, busy: int, rare: npt.NDArray[np.int32], monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = np.concatenate([rare, rare])
    monkeypatch.setitem(pipeline.SOURCES, "ann", lambda *_: (twice, np.arange(10, 0, -1).astype(np.float32)))
    candidates = ask(with_outside(recommender, 20_000), busy).candidates
    assert len(np.unique(candidates.tracks)) == len(candidates)
    proposed = candidates.ranks[:, candidates.sources.index("ann")]
    assert np.nanmax(proposed) < 5


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
