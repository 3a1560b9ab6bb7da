"""An open bundle that is changed: whatever was said in whatever order, it looks as if it had been made that way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.bundle.catalogue import EXPLICIT, PUBLIC, Catalogue
from segue.contracts.vocabulary import DAY
from segue.events.changes import Latest, TrackChange
from segue.models.tokens import tokens_of
from segue.recommend.artifacts import Artifacts
from segue.recommend.live import Live
from segue.wiring.home import Home

NOW = 1_795_600_000_000_000
NEW = (2**63 - 1, 5, 2**62 + 3)
"""Ids that no simulated track has: the largest there is, a small one, one between."""
ARTISTS = (2**63 - 1, 4)


@pytest.fixture
def opened(service: Home) -> Callable[[], Artifacts]:
    """The published bundle, opened anew each time."""
    return lambda: Artifacts.load(service.bundles.open())


def facts(catalogue: Catalogue, track_id: int) -> dict[str, Any] | None:
    """What the catalogue says of a track."""
    row = int(catalogue.positions([track_id])[0])
    if row < 0:
        return None
    artist, genre = int(catalogue.artist[row]), int(catalogue.genre[row])
    bits = [int(word) >> bit & 1 for word in catalogue.blocked[row] for bit in range(64)]
    blocked = [country for country, bit in zip(catalogue.countries, bits, strict=False) if bit]
    return {
        "title": catalogue.titles[row],
        "artist_id": int(catalogue.artist_id[artist]) if artist >= 0 else None,
        "artist_name": catalogue.artist_names[artist] if artist >= 0 else None,
        "genre": catalogue.genres[genre] if genre >= 0 else None,
        "duration_ms": int(catalogue.duration_ms[row]),
        "uploaded_at": int(catalogue.uploaded_at[row]),
        "public": bool(catalogue.flags[row] & PUBLIC),
        "explicit": bool(catalogue.flags[row] & EXPLICIT),
        "blocked_countries": sorted(blocked),
    }


@st.composite
def changes(draw: st.DrawFn, ids: tuple[int, ...], artists: tuple[int, ...]) -> TrackChange:
    artist = draw(st.none() | st.sampled_from(artists))
    return TrackChange(
        track_id=draw(st.sampled_from(ids)),
        received_at=NOW + draw(st.integers(0, 20)),
        artist_id=artist,
        title=draw(st.none() | st.sampled_from(["", "Zyx", "zyx Wvu", "ΣΑΣ"])),
        genre=draw(st.none() | st.sampled_from(["", "ambient", "a new genre"])),
        tags=draw(st.none() | st.lists(st.sampled_from(["night", "zyx"]), max_size=2)),
        duration_ms=draw(st.none() | st.integers(0, 86_400_000)),
        uploaded_at=draw(st.none() | st.integers(0, 2 * NOW)),
        explicit=draw(st.none() | st.booleans()),
        public=draw(st.none() | st.booleans()),
        blocked_countries=draw(st.none() | st.lists(st.sampled_from(["DE", "XX", "ZZ"]), unique=True)),
    )


def apply(live: Live, latest: dict[int, Latest], some: list[TrackChange]) -> None:
    for change in some:
        news = dict(latest.setdefault(change.track_id, Latest()).news(change))
        live.put(change.track_id, news, change.received_at)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changes_in_any_order_are_as_a_dictionary_says(
    opened: Callable[[], Artifacts], data: st.DataObject
) -> None:
    artifacts = opened()
    catalogue = artifacts.catalogue
    held = tuple(catalogue.track_id[:3].tolist())
    artists = (*catalogue.artist_id[:2].tolist(), *ARTISTS)
    ids = (*held, *NEW)
    some = data.draw(st.lists(changes(ids, artists), max_size=12))
    order = data.draw(st.permutations(some + some[:4]))

    model = {track_id: facts(catalogue, track_id) for track_id in ids}
    latest: dict[int, Latest] = {}
    for change in sorted(some, key=lambda change: change.received_at):
        said = dict(latest.setdefault(change.track_id, Latest()).news(change))
        row = model[change.track_id] or {
            "title": None,
            "artist_id": None,
            "artist_name": None,
            "genre": None,
            "duration_ms": -1,
            "uploaded_at": None,
            "public": True,
            "explicit": False,
            "blocked_countries": [],
        }
        model[change.track_id] = row | {k: v for k, v in said.items() if k in row}
    live = Live(artifacts)
    apply(live, {}, order)

    for track_id, row in model.items():
        found = facts(catalogue, track_id)
        if row is None:
            assert found is None
            continue
        assert found is not None
        names = {"title": row["title"] or None, "genre": row["genre"] or None}
        row = row | names | {"blocked_countries": sorted(row["blocked_countries"])}
        assert {k: v for k, v in found.items() if k not in ("artist_name", "uploaded_at")} == {
            k: v for k, v in row.items() if k not in ("artist_name", "uploaded_at")
        }
        if row["uploaded_at"] is not None:
            assert found["uploaded_at"] == row["uploaded_at"]


def test_the_file_and_other_workers_see_nothing_of_it(service: Home, opened: Callable[[], Artifacts]) -> None:
    mine, theirs = opened(), opened()
    track_id = int(mine.catalogue.track_id[0])
    before = facts(theirs.catalogue, track_id)
    Live(mine).put(track_id, {"title": "Zyx", "public": False, "genre": "zyx", "duration_ms": 1}, NOW)
    Live(mine).put(5, {"title": "New"}, NOW)
    assert facts(theirs.catalogue, track_id) == before
    assert facts(theirs.catalogue, 5) is None
    service.bundles.open(every_byte=True)


def test_a_vector_is_the_one_it_would_have_had(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    content, live = artifacts.retrieval.content, Live(artifacts)
    track_id = int(artifacts.catalogue.track_id[7])
    tokens, kinds = content.tokens_of(7)
    live.put(track_id, {"title": "Zyx wvu"}, NOW)
    live.put(track_id, {"title": "Other", "tags": ["zyx"]}, NOW)
    kept = ~np.isin(kinds, [2, 3])
    new_tokens, new_kinds = tokens_of({"title": "Other", "tags": ["zyx"]})
    expected = content.embed(
        np.concatenate([tokens[kept], new_tokens]), np.concatenate([kinds[kept], new_kinds])
    )
    np.testing.assert_allclose(content.vectors[7], expected, atol=1e-6)
    live.put(5, {"title": "Zyx wvu", "artist_id": 9}, NOW)
    row = int(artifacts.catalogue.positions([5])[0])
    np.testing.assert_allclose(
        content.vectors[row], content.embed(*tokens_of({"title": "Zyx wvu", "artist_id": 9})), atol=1e-6
    )


def test_a_new_track_is_found_by_what_it_is(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    live, catalogue = Live(artifacts), artifacts.catalogue
    artist = int(catalogue.artist[artifacts.indexes.most_played[0]])
    artist_id = int(catalogue.artist_id[artist])
    like = artifacts.indexes.tracks_of(artist, 3)
    live.put(5, {"title": "Zyxwvu", "artist_id": artist_id, "uploaded_at": NOW - DAY}, NOW)
    row = int(catalogue.positions([5])[0])
    assert artifacts.indexes.tracks_of(artist, 5)[0] == row
    assert row in artifacts.indexes.uploads()
    assert artifacts.search("YXWV", 5).tolist() == [row]
    assert row in artifacts.search(str(catalogue.artist_names[artist]), 100)
    profile = artifacts.retrieval.content.profile(like, np.ones(len(like), np.float32))
    assert row in artifacts.alike(profile, 50)[0]
    assert artifacts.catalogue.facts_of(np.array([5]))[0].tolist() == [artist_id]
    assert not artifacts.unit_factors(np.array([row], np.int32)).any()


def test_new_uploads_are_compared_as_they_are_now(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    live, catalogue, vectors = Live(artifacts), artifacts.catalogue, artifacts.retrieval.content.vectors
    newest = artifacts.indexes.newest
    rng = np.random.default_rng(3)
    profile = vectors[newest[rng.integers(0, len(newest), 8)]].sum(axis=0)
    after = int(np.quantile(catalogue.uploaded_at[newest], 0.7))

    def compared() -> dict[int, float]:
        tracks, scores = artifacts.uploads_like(profile, after)
        assert len(set(tracks.tolist())) == len(tracks)
        return dict(zip(tracks.tolist(), scores.tolist(), strict=True))

    def expected() -> dict[int, float]:
        recent = np.flatnonzero(catalogue.uploaded_at > after)
        return dict(zip(recent.tolist(), (vectors[recent] @ profile).tolist(), strict=True))

    assert len(compared()) > 20
    assert compared() == pytest.approx(expected(), abs=1e-5)
    retagged, older, later = [*newest[:2].tolist(), int(newest[-1])]
    live.put(int(catalogue.track_id[retagged]), {"title": "Zyx wvu", "tags": ["zyx"]}, NOW)
    live.put(int(catalogue.track_id[older]), {"uploaded_at": after - DAY}, NOW)
    live.put(int(catalogue.track_id[later]), {"uploaded_at": after + DAY}, NOW)
    live.put(5, {"title": catalogue.titles[int(newest[4])], "uploaded_at": NOW - DAY}, NOW)
    assert older not in compared()
    assert compared() == pytest.approx(expected(), abs=1e-5)


def test_a_new_track_has_the_features_that_follow_from_what_is_said(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    assert artifacts.snapshots is not None
    daily, live = artifacts.snapshots.tracks, Live(artifacts)
    live.put(5, {"duration_ms": 90_500, "uploaded_at": NOW - 3 * DAY, "explicit": True}, NOW)
    live.put(6, {}, NOW)
    for track_id, age, length, explicit in ((5, 3.0, 90.5, 1.0), (6, 0.0, np.nan, 0.0)):
        row = daily.values[int(artifacts.catalogue.positions([track_id])[0])]
        found = {
            name: row[daily.names.index(f"track_{name}")] for name in ("age_days", "duration_s", "explicit")
        }
        np.testing.assert_equal(found, {"age_days": age, "duration_s": length, "explicit": explicit})
        assert row[daily.names.index("track_plays_7d")] == 0


def test_titles_and_names_are_found_as_they_are_now(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    live, catalogue = Live(artifacts), artifacts.catalogue
    row = next(int(n) for n in artifacts.indexes.most_played if catalogue.titles[int(n)])
    track_id, old = int(catalogue.track_id[row]), str(catalogue.titles[row])
    live.put(track_id, {"title": "Qwertz"}, NOW)
    assert artifacts.search("qwertz", 5).tolist() == [row]
    assert row not in artifacts.search(old, 500)
    live.put(track_id, {"public": False}, NOW)
    assert artifacts.search("qwertz", 5).tolist() == []
    live.put(track_id, {"public": True, "title": old}, NOW)
    assert row in artifacts.search(old, 500)
    artist = int(catalogue.artist[row])
    theirs, name = set(artifacts.indexes.tracks_of(artist, 100).tolist()), str(catalogue.artist_names[artist])
    live.name(int(catalogue.artist_id[artist]), "Yxcvbn")
    public = {n for n in theirs if catalogue.flags[n] & PUBLIC}
    assert set(artifacts.search("yxcvb", 100).tolist()) == public
    assert not public & {
        n
        for n in artifacts.search(name, 500).tolist()
        if name.lower() not in str(catalogue.titles[n]).lower()
    }


def test_what_kernels_read_of_the_catalogue_is_what_is_changed(opened: Callable[[], Artifacts]) -> None:
    catalogue = opened().catalogue
    own = (catalogue.flags, catalogue.uploaded_at, catalogue.blocked, catalogue.artist)
    for array, read in zip(own, catalogue.facts, strict=True):
        assert np.shares_memory(array, read)


def test_tracks_of_several_artists_are_those_of_each(opened: Callable[[], Artifacts]) -> None:
    indexes = opened().indexes
    artists = np.flatnonzero(np.diff(indexes.artist_indptr)[:50]).astype(np.int32)[::-1]
    each = [track for artist in artists.tolist() for track in indexes.tracks_of(artist, 3).tolist()]
    assert indexes.tracks_of_each(artists, 3).tolist() == each
    assert len(each) > len(artists)


def test_a_track_that_moves_leaves_its_artist(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    live, catalogue, indexes = Live(artifacts), artifacts.catalogue, artifacts.indexes
    row = int(indexes.most_played[0])
    before = int(catalogue.artist[row])
    live.put(int(catalogue.track_id[row]), {"artist_id": 4}, NOW)
    live.name(4, "Fourth")
    after = int(catalogue.artist_positions([4])[0])
    assert row not in indexes.tracks_of(before, 100)
    assert indexes.tracks_of(after, 100).tolist() == [row]
    each = indexes.tracks_of_each(np.array([after, before], np.int32), 5)
    assert each.tolist() == [row, *indexes.tracks_of(before, 5).tolist()]
    assert artifacts.search("fourth", 3).tolist() == [row]
    live.put(int(catalogue.track_id[row]), {"artist_id": int(catalogue.artist_id[before])}, NOW)
    assert row in indexes.tracks_of(before, 100)
    assert len(indexes.tracks_of(after, 100)) == 0


def test_without_room_it_says_so_and_edits_go_on(
    opened: Callable[[], Artifacts], caplog: pytest.LogCaptureFixture
) -> None:
    artifacts = opened()
    live, catalogue = Live(artifacts), artifacts.catalogue
    room = catalogue.tracks.left
    ids = itertools.count(10)
    assert room == 1_000
    assert all(live.put(next(ids), {"title": "x"}, NOW) for _ in range(room))
    assert not live.put(next(ids), {"title": "x"}, NOW)
    assert not live.put(next(ids), {"title": "x"}, NOW)
    assert len([r for r in caplog.records if "room for 1000 new tracks" in r.message]) == 1
    assert "raise bundles.spare" in str(live.lacks)
    assert live.put(10, {"title": "changed"}, NOW)
    assert facts(catalogue, 10)["title"] == "changed"  # type: ignore[index]
    assert catalogue.positions(np.arange(10, 10 + room)).tolist() == list(
        range(len(catalogue) - room, len(catalogue))
    )


def test_a_country_that_finds_no_place_closes_the_track(opened: Callable[[], Artifacts]) -> None:
    artifacts = opened()
    live, catalogue = Live(artifacts), artifacts.catalogue
    catalogue.countries.extend(f"{n}" for n in range(256 - len(catalogue.countries)))
    live.put(5, {"blocked_countries": ["DE", "QQ"]}, NOW)
    assert facts(catalogue, 5)["public"] is False  # type: ignore[index]
