"""The new-artist programme at a request: who gets a debut, how likely, and what no page breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.bundle import BundleWriter
from segue.bundle.catalogue import PUBLIC
from segue.bundle.store import BundleStore
from segue.contracts.vocabulary import DAY
from segue.listener.state import HIDE, MARK, PLAY, ListenerState
from segue.models.diversity import chances, select
from segue.recommend.api import Request, Response
from segue.recommend.artifacts import Artifacts
from segue.recommend.debuts import Debuts
from segue.recommend.indexes import Indexes
from segue.recommend.pipeline import Recommender
from segue.recommend.scorers import score
from segue.recommend.selector import choose, selection_inputs
from segue.settings.surfaces import Scorer, Source, Surface
from segue.wiring.home import Home

NEW = 40
WANTED, REQUESTS = 10.0, 1_000.0


@pytest.fixture(scope="module")
def artifacts(service: Home) -> Artifacts:
    """A real bundle in which the last tracks, and no others, were uploaded an hour before the end of its data."""
    found = Artifacts.load(service.bundles.open())
    catalogue = found.catalogue
    now = _now(found)
    known = catalogue.tracks.known
    uploaded = np.minimum(catalogue.uploaded_at, now - 60 * DAY)
    uploaded[known - NEW : known] = now - DAY // 24
    changed = replace(catalogue, uploaded_at=uploaded)
    wanted = np.zeros(len(catalogue), np.float32)
    wanted[known - NEW : known] = WANTED
    rate = np.full(len(catalogue), 0.1, np.float32)
    return replace(
        found,
        catalogue=changed,
        indexes=Indexes.of(changed, found.retrieval),
        debuts=Debuts(wanted, rate, np.full(len(catalogue), 0.07, np.float32), REQUESTS),
    )


def _now(artifacts: Artifacts) -> int:
    return int(artifacts.catalogue.uploaded_at.max()) + DAY


def listener(artifacts: Artifacts, played: list[int], hidden: list[int] | None = None) -> ListenerState:
    ids, now = artifacts.catalogue.track_id, int(artifacts.catalogue.uploaded_at.max()) + DAY // 24
    plays = np.zeros(len(played), PLAY)
    for row, track in enumerate(played):
        plays[row] = (now - DAY - row, ids[track], -1, now - 2 * DAY, 60_000, True, False)
    marks = np.zeros(len(hidden or []), MARK)
    for row, track in enumerate(hidden or []):
        marks[row] = (HIDE, True, ids[track], now - DAY)
    return ListenerState(1, "DE", "free", None, True, True, True, plays[::-1], marks)


def recipe(service: Home, share: float) -> dict[str, Surface]:
    home = service.settings.surfaces["home"]
    sources = home.sources | {"debuts": Source(30)}
    selector = msgspec.structs.replace(home.selector, debuts=share)
    return service.settings.surfaces | {
        "home": msgspec.structs.replace(home, sources=sources, selector=selector)
    }


def ask(
    artifacts: Artifacts, surfaces: dict[str, Surface], state: ListenerState | None, seed: int, k: int = 12
) -> Response:
    return Recommender(artifacts, surfaces, lambda _: state, 200).recommend(asked(artifacts, seed, k))


def asked(artifacts: Artifacts, seed: int, k: int = 12) -> Request:
    now = int(artifacts.catalogue.uploaded_at.max()) + DAY // 24
    return Request("home", user_id=1, k=k, now=now, seed=seed)


def drawn(response: Response) -> list[int]:
    """Tracks of the first shelf that only exploration can have put there."""
    return [i.track_id for i in response.items if "debuts" in i.sources and i.propensity < 0.5]


def test_pages_show_as_many_debuts_as_are_wanted_and_one_each_at_most(
    service: Home, artifacts: Artifacts
) -> None:
    state, surfaces = listener(artifacts, list(range(20))), recipe(service, 1.0)
    pages = [drawn(ask(artifacts, surfaces, state, seed)) for seed in range(600)]
    assert max(map(len, pages)) == 1
    # NEW x WANTED listeners from REQUESTS requests; spacing leaves a little out.
    assert np.mean([len(page) for page in pages]) == pytest.approx(NEW * WANTED / REQUESTS, abs=0.09)


def test_without_the_share_the_page_is_the_one_without_the_programme(
    service: Home, artifacts: Artifacts
) -> None:
    state = listener(artifacts, list(range(20)))
    nothing = replace(artifacts, debuts=Debuts.none(len(artifacts.catalogue)))
    for seed in range(30):
        one = ask(artifacts, service.settings.surfaces, state, seed).items
        assert one == ask(nothing, recipe(service, 1.0), state, seed).items


def test_what_was_played_hidden_or_wants_nothing_is_not_drawn(service: Home, artifacts: Artifacts) -> None:
    known = artifacts.catalogue.tracks.known
    heard, hidden, paused = known - 1, known - 2, known - 3
    wanted = artifacts.debuts.wanted.copy()
    wanted[paused] = 0.0
    programme = replace(artifacts, debuts=replace(artifacts.debuts, wanted=wanted))
    state = listener(artifacts, [*range(20), heard], [hidden])
    seen: set[int] = set()
    for seed in range(300):
        response = ask(programme, recipe(service, 1.0), state, seed)
        seen |= {i.track_id for i in response.items if "debuts" in i.sources}
    ids = artifacts.catalogue.track_id
    assert seen
    assert not seen & {int(ids[heard]), int(ids[hidden]), int(ids[paused])}


def test_private_debuts_and_strangers_are_left_out(service: Home, artifacts: Artifacts) -> None:
    flags = artifacts.catalogue.flags.copy()
    known = artifacts.catalogue.tracks.known
    flags[known - NEW : known] &= ~np.uint8(PUBLIC)
    private = replace(artifacts, catalogue=replace(artifacts.catalogue, flags=flags))
    state, surfaces = listener(artifacts, list(range(20))), recipe(service, 1.0)
    for seed in range(50):
        assert not drawn(ask(private, surfaces, state, seed))
        assert not drawn(ask(artifacts, surfaces, None, seed))


def test_a_bundle_keeps_the_programme_with_room_for_later_tracks(tmp_path: Path) -> None:
    wanted, rate, spread = np.array([[1.0, 0.0], [0.2, 0.3], [0.04, 0.05]], np.float32)
    made = Debuts(wanted, rate, spread, 55.5, (10.0, 0.25, 0.0625))
    with BundleWriter(tmp_path, spare=3) as writer:
        made.save(writer)
        manifest = writer.finish(version_prefix="v", data_through="2026-11-01", settings="", tracks=2)
    found = Debuts.load(BundleStore(tmp_path).open(manifest.version), 5)
    np.testing.assert_array_equal(found.wanted, np.array([1, 0, 10, 10, 10], np.float32))
    np.testing.assert_array_equal(found.rate, np.array([0.2, 0.3, 0.25, 0.25, 0.25], np.float32))
    np.testing.assert_array_equal(found.spread, np.array([0.04, 0.05, *[0.0625] * 3], np.float32))
    assert found.requests == 55.5
    assert found.blank == made.blank


def test_a_bundle_from_before_there_was_a_programme_has_none(tmp_path: Path) -> None:
    with BundleWriter(tmp_path, spare=3) as writer:
        manifest = writer.finish(version_prefix="v", data_through="2026-11-01", settings="", tracks=2)
    found = Debuts.load(BundleStore(tmp_path).open(manifest.version), 5)
    assert not len(found.active(np.arange(5, dtype=np.int32), np.zeros(5, np.int64), DAY))


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("bandit", ["uniform", "contextual", "thompson"])
def test_propensities_add_up_to_one_and_are_the_frequencies(
    service: Home, artifacts: Artifacts, bandit: str, share: float
) -> None:
    home = recipe(service, share)["home"]
    # Why relevance only: then the first slot is the best or drawn, and every page has the same pool.
    selector = msgspec.structs.replace(
        home.selector, bandit=bandit, explore=0.5, explore_pool=8, diversity=0.0
    )
    surfaces = {"home": msgspec.structs.replace(home, selector=selector, scorer=Scorer(blend={"graph": 1.0}))}
    recommender = Recommender(artifacts, surfaces, lambda _: None, 200)
    query, candidates = recommender.gather(asked(artifacts, 0), listener(artifacts, list(range(20))))
    final = score(query, artifacts, candidates).final
    config, inputs = selection_inputs(query, artifacts, candidates, final)
    chance = np.array(
        [chances(final, np.array([i], np.int32), config, **inputs).chance[0] for i in range(len(final))]
    )
    assert chance.sum() == pytest.approx(1.0)
    assert (chance > 0).sum() > 8

    for seed in range(50):
        shown = choose(query, artifacts, candidates, final, np.random.default_rng(seed))
        assert shown.propensity[0] == chance[shown.order[0]]
    runs = 20_000
    pages = np.random.default_rng(0).random((runs, 1, 2))
    shown = [select(final, 1, config, uniforms=uniforms, **inputs).order[0] for uniforms in pages]
    seen = np.bincount(shown, minlength=len(final))
    sigma = np.sqrt(chance * (1 - chance) / runs)
    assert (np.abs(seen / runs - chance) <= 5 * sigma + 1e-9).all()
    debut = candidates.scores[:, candidates.sources.index("debuts")] > 0
    if share:  # one of a page's twelve slots, on as many pages as all want together
        assert chance[debut & (chance < 0.5)].sum() == pytest.approx(
            1 - (1 - NEW * WANTED / REQUESTS) ** (1 / 12)
        )
    uneven = np.ptp(chance[~debut & (chance > 0) & (chance < 0.5)])
    assert (uneven > 1e-6) == (bandit != "uniform")
