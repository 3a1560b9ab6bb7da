"""Guarantees hold on every surface, for every listener, on every fallback: nothing a person relies on is ever broken."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.bundle.catalogue import EXPLICIT, PUBLIC, Catalogue
from segue.contracts.errors import Unavailable
from segue.listener.state import BLOCK, FOLLOW, HIDE, LIKE, MARK, PLAY, ListenerState
from segue.recommend import pipeline
from segue.recommend.api import Request, Response
from segue.recommend.artifacts import Artifacts
from segue.recommend.debuts import Debuts
from segue.recommend.live import Live
from segue.recommend.pipeline import Recommender
from segue.settings.surfaces import Source
from segue.wiring.home import Home

NOW = time.time_ns() // 1000
SURFACES = ("home", "station", "next-up", "related")


@pytest.fixture(scope="module")
def artifacts(service: Home) -> Artifacts:
    """A real bundle whose catalogue is made hostile: many private, explicit, blocked and future tracks."""
    found = Artifacts.load(service.bundles.open())
    rng = np.random.default_rng(0)
    catalogue = found.catalogue
    n = len(catalogue)
    flags = np.where(rng.random(n) < 0.7, PUBLIC, 0) | np.where(rng.random(n) < 0.4, EXPLICIT, 0)
    blocked = np.where(rng.random((n, 4)) < 0.5, rng.integers(0, 2**63, (n, 4), np.uint64), 0).astype(
        np.uint64
    )
    uploaded = np.where(rng.random(n) < 0.2, NOW + 10**12, catalogue.uploaded_at)
    hostile = replace(catalogue, flags=flags.astype(np.uint8), blocked=blocked, uploaded_at=uploaded)
    return replace(found, catalogue=hostile)


@st.composite
def listeners(draw: st.DrawFn, n_tracks: int = 500, n_artists: int = 80) -> dict[str, object]:
    return {
        "plays": draw(
            st.lists(
                st.tuples(st.integers(0, n_tracks - 1), st.integers(0, 10**6), st.booleans()), max_size=40
            )
        ),
        "marks": draw(
            st.lists(
                st.tuples(
                    st.sampled_from([LIKE, FOLLOW, HIDE, BLOCK]), st.integers(0, n_tracks - 1), st.booleans()
                ),
                max_size=60,
            )
        ),
        "country": draw(st.integers(-1, 300)),
        "explicit_ok": draw(st.booleans()),
        "consent": draw(st.booleans()),
        "known": draw(st.booleans()),
        "seed_track": draw(st.integers(0, n_tracks - 1)),
        "k": draw(st.integers(1, 200)),
        "session": draw(st.lists(st.integers(0, n_tracks - 1), max_size=5)),
    }


def state_of(drawn: dict, catalogue: Catalogue) -> ListenerState:
    plays = np.zeros(len(drawn["plays"]), PLAY)
    for row, (track, ago, listened) in enumerate(sorted(drawn["plays"], key=lambda p: -p[1])):
        plays[row] = (
            NOW - 1 - ago * 1_000_000,
            catalogue.track_id[track],
            -1,
            NOW - 10**12,
            30_000,
            listened,
            not listened,
        )
    distinct = {(kind, target): on for kind, target, on in drawn["marks"]}
    marks = np.zeros(len(distinct), MARK)
    for row, ((kind, target), on) in enumerate(distinct.items()):
        ids = catalogue.artist_id if kind in (FOLLOW, BLOCK) else catalogue.track_id
        marks[row] = (kind, on, ids[target % len(ids)], NOW - 5)
    codes = catalogue.countries
    country = codes[drawn["country"]] if 0 <= drawn["country"] < len(codes) else None
    return ListenerState(
        1, country, "free", None, drawn["consent"], drawn["explicit_ok"], drawn["known"], plays, marks
    )


def check(response: Response, state: ListenerState, catalogue: Catalogue) -> None:
    shown = list(response.items) + [i for shelf in response.shelves[1:] for i in shelf.items]
    ids = [item.track_id for item in shown]
    assert len(ids) == len(set(ids)), "a track is shown twice"
    country = catalogue.country(state.country)
    hidden, blocked = set(state.marked(HIDE).tolist()), set(state.marked(BLOCK).tolist())
    for item in shown:
        at = int(catalogue.positions([item.track_id])[0])
        assert at >= 0
        assert catalogue.flags[at] & PUBLIC, "private"
        assert catalogue.uploaded_at[at] <= NOW, "not published yet"
        assert state.explicit_ok or not catalogue.flags[at] & EXPLICIT, "explicit"
        assert item.track_id not in hidden, "hidden"
        artist = int(catalogue.artist[at])
        assert artist < 0 or int(catalogue.artist_id[artist]) not in blocked, "blocked artist"
        if country >= 0:
            assert not (int(catalogue.blocked[at, country // 64]) >> (country % 64)) & 1, "country"
        assert 0 < item.propensity <= 1
    if not (state.known and state.consent):
        assert not response.trace.personalized


def request_of(surface: str, drawn: dict, catalogue: Catalogue) -> Request:
    ids = catalogue.track_id
    return Request(
        surface=surface,
        user_id=1,
        k=drawn["k"],
        now=NOW,
        track_id=int(ids[drawn["seed_track"]]) if surface in ("station", "related") else None,
        session=tuple(int(ids[t]) for t in drawn["session"])
        if surface == "next-up" and drawn["session"]
        else None,
        why=drawn["k"] < 5,
    )


RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("surface", SURFACES)
@RELAXED
@given(drawn=listeners())
def test_no_guarantee_is_ever_broken(service: Home, artifacts: Artifacts, surface: str, drawn: dict) -> None:
    state = state_of(drawn, artifacts.catalogue)
    recommender = Recommender(artifacts, service.settings.surfaces, lambda _: state, 200)
    check(recommender.recommend(request_of(surface, drawn, artifacts.catalogue)), state, artifacts.catalogue)


@pytest.mark.parametrize("bandit", ["uniform", "thompson"])
@pytest.mark.parametrize("surface", ["home", "station"])
@RELAXED
@given(drawn=listeners())
def test_guarantees_hold_while_new_uploads_are_drawn(
    service: Home, artifacts: Artifacts, surface: str, bandit: str, drawn: dict
) -> None:
    state = state_of(drawn, artifacts.catalogue)
    n = len(artifacts.catalogue)
    # Why all: the catalogue's private, explicit, blocked, hidden and future tracks are all wanted.
    wanted = Debuts(np.full(n, 100.0, np.float32), *np.full((2, n), 0.1, np.float32), 1.0)
    uploaded = np.where(artifacts.catalogue.uploaded_at > NOW, NOW + 10**12, NOW - 1)
    young = replace(artifacts, debuts=wanted, catalogue=replace(artifacts.catalogue, uploaded_at=uploaded))
    recipe = service.settings.surfaces[surface]
    surfaces = {
        surface: msgspec.structs.replace(
            recipe,
            sources=recipe.sources | {"debuts": Source(200)},
            selector=msgspec.structs.replace(recipe.selector, bandit=bandit, debuts=1.0, explore=0.7),
        )
    }
    recommender = Recommender(young, surfaces, lambda _: state, 200)
    check(recommender.recommend(request_of(surface, drawn, young.catalogue)), state, young.catalogue)


@pytest.mark.parametrize("surface", SURFACES)
@RELAXED
@given(drawn=listeners())
def test_guarantees_hold_when_every_source_fails(
    service: Home, artifacts: Artifacts, surface: str, drawn: dict
) -> None:
    def broken(*_: object) -> object:
        raise Unavailable("this source is down")

    working = dict(pipeline.SOURCES)
    pipeline.SOURCES.update(dict.fromkeys(working, broken))
    try:
        state = state_of(drawn, artifacts.catalogue)
        recommender = Recommender(artifacts, service.settings.surfaces, lambda _: state, 200)
        response = recommender.recommend(request_of(surface, drawn, artifacts.catalogue))
    finally:
        pipeline.SOURCES.update(working)
    assert response.trace.degraded
    check(response, state, artifacts.catalogue)


@RELAXED
@given(drawn=listeners())
def test_without_consent_history_changes_nothing(service: Home, artifacts: Artifacts, drawn: dict) -> None:
    """Two listeners who differ in plays, likes and follows only get the same answer when neither consents."""
    drawn |= {"consent": False, "session": []}
    full = state_of(drawn, artifacts.catalogue)
    kept = full.marks[np.isin(full.marks["kind"], (HIDE, BLOCK))]
    bare = replace(full, plays=np.empty(0, PLAY), marks=kept)
    answers = []
    for state in (full, bare):
        recommender = Recommender(artifacts, service.settings.surfaces, lambda _, state=state: state, 200)
        response = recommender.recommend(Request(surface="home", user_id=1, k=20, now=NOW, seed=5))
        answers.append([(i.track_id, i.score, i.sources) for i in response.items])
    assert answers[0] == answers[1]


CLOSING: tuple[dict[str, object], ...] = (
    {"public": False},
    {"explicit": True},
    {"blocked_countries": ["DE"]},
    {"uploaded_at": NOW + 10**9},
)


@pytest.mark.parametrize("surface", SURFACES)
@RELAXED
@given(drawn=listeners(), seed=st.integers(0, 2**31))
def test_what_was_closed_a_moment_ago_is_not_shown(
    service: Home, surface: str, drawn: dict, seed: int
) -> None:
    """Tracks on the page, and new ones that would be, are closed one way or another: the next page has none of them."""
    dice = random.Random(
        seed
    )  # what is shown is drawn anew each time, so it cannot be Hypothesis that draws from it
    artifacts = Artifacts.load(service.bundles.open())
    catalogue, live = artifacts.catalogue, Live(artifacts)
    drawn |= {"explicit_ok": False, "country": catalogue.countries.index("DE")}
    state = state_of(drawn, catalogue)
    for new in range(10, 40):
        artist = int(catalogue.artist_id[new])
        live.put(new, {"title": f"New {new}", "artist_id": artist, "uploaded_at": NOW - new}, NOW)
    recommender = Recommender(artifacts, service.settings.surfaces, lambda _: state, 200)
    request = request_of(surface, drawn, catalogue)
    before = recommender.recommend(request)
    check(before, state, catalogue)
    shown = {item.track_id for item in before.items} | {i.track_id for s in before.shelves for i in s.items}
    closed = dice.sample(sorted(shown | set(range(10, 40))), k=min(len(shown), 20))
    for track_id in closed:
        live.put(track_id, dice.choice(CLOSING), NOW)
    after = recommender.recommend(request)
    check(after, state, catalogue)
    assert not set(closed) & {
        i.track_id for row in (after.items, *(s.items for s in after.shelves)) for i in row
    }
