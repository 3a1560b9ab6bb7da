"""The simulated catalogue: schemas, ranges, references, shares and repeatability."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from contract_check import CONFIG, check_contract

from segue.contracts.errors import InvalidSettings
from segue.contracts.tables import ARTISTS, FRIENDSHIPS, LISTENERS, MAX_TAGS, TRACKS
from segue.simulation import SimulationConfig, generate_catalogue
from segue.simulation.catalogue import Catalogue


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return generate_catalogue(CONFIG)


def test_tables_keep_their_contracts(catalogue: Catalogue) -> None:
    for rows, table in (
        (catalogue.tracks, TRACKS),
        (catalogue.artists, ARTISTS),
        (catalogue.listeners, LISTENERS),
        (catalogue.friendships, FRIENDSHIPS),
    ):
        check_contract(rows, table)
    assert catalogue.tracks.num_rows == CONFIG.tracks
    assert catalogue.artists.num_rows == CONFIG.artists
    assert catalogue.listeners.num_rows == CONFIG.listeners


def test_references_hold(catalogue: Catalogue) -> None:
    artists = set(catalogue.artists.column("artist_id").to_pylist())
    assert set(catalogue.tracks.column("artist_id").to_pylist()) == artists
    listeners = set(catalogue.listeners.column("user_id").to_pylist())
    pairs = set(
        zip(*(catalogue.friendships.column(c).to_pylist() for c in ("user_id", "friend_id")), strict=True)
    )
    assert {u for pair in pairs for u in pair} <= listeners
    assert all((b, a) in pairs and a != b for a, b in pairs)


def test_artists_join_before_their_first_track(catalogue: Catalogue) -> None:
    first = catalogue.tracks.group_by("artist_id").aggregate([("uploaded_at", "min")])
    both = first.join(catalogue.artists.select(["artist_id", "joined_at"]), "artist_id")
    assert pc.all(pc.less(both.column("joined_at"), both.column("uploaded_at_min"))).as_py()


def test_tracks_are_uploaded_before_and_during_the_period(catalogue: Catalogue) -> None:
    uploaded = catalogue.tracks.column("uploaded_at").to_numpy()
    assert uploaded.max() < CONFIG.end_us
    assert 0.005 < (uploaded >= CONFIG.start_us).mean() < 0.2
    assert (np.diff(uploaded) >= 0).all()


def test_shares_come_out(catalogue: Catalogue) -> None:
    tracks, listeners = catalogue.tracks, catalogue.listeners
    blocked = pc.greater(pc.list_value_length(tracks.column("blocked_countries")), 0)

    def share(flags: pa.ChunkedArray) -> float:
        return float(flags.to_numpy(zero_copy_only=False).mean())

    # Why four: a share of n draws strays more than four standard errors once in 16,000 times, and the seed is fixed.
    for got, wanted, n in (
        (share(tracks.column("explicit")), CONFIG.explicit_share, CONFIG.tracks),
        (1 - share(tracks.column("public")), CONFIG.private_share, CONFIG.tracks),
        (share(blocked), CONFIG.blocked_share, CONFIG.tracks),
        (1 - share(listeners.column("explicit_ok")), CONFIG.no_explicit_share, CONFIG.listeners),
        (1 - share(listeners.column("personalization_consent")), CONFIG.no_consent_share, CONFIG.listeners),
        (
            float((listeners.column("joined_at").to_numpy() >= CONFIG.start_us).mean()),
            CONFIG.joining_share,
            CONFIG.listeners,
        ),
    ):
        assert abs(got - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / n)


def test_texts_can_be_searched(catalogue: Catalogue) -> None:
    titles = catalogue.tracks.column("title").to_pylist()
    assert len(set(titles)) > CONFIG.tracks / 2
    assert any(not title.isascii() for title in titles)
    assert all(title and title == title.strip() for title in titles)
    described = catalogue.tracks.column("description").drop_null()
    assert CONFIG.tracks / 2 < len(described) < CONFIG.tracks
    assert not pc.any(pc.match_substring(described, "{")).as_py()
    tags = catalogue.tracks.column("tags").to_pylist()
    assert all(1 < len(t) <= MAX_TAGS and all(x == x.lower() for x in t) for t in tags)


def test_same_config_same_catalogue_other_seed_another(catalogue: Catalogue) -> None:
    again = generate_catalogue(CONFIG)
    assert again.tracks.equals(catalogue.tracks)
    assert again.listeners.equals(catalogue.listeners)
    assert again.friendships.equals(catalogue.friendships)
    assert np.array_equal(again.truth.taste_start, catalogue.truth.taste_start)
    other = generate_catalogue(SimulationConfig(tracks=4_000, artists=500, listeners=1_500, days=20, seed=8))
    assert not other.tracks.equals(catalogue.tracks)


def test_neighbours_are_of_the_scene_and_near(catalogue: Catalogue) -> None:
    track = catalogue.music.track
    near = track["neighbours"][:, 0]
    here = np.flatnonzero(near >= 0)
    assert len(here) > 0.95 * CONFIG.tracks
    assert (track["scene"][near[here]] == track["scene"][here]).all()
    assert track["public"][near[here]].all()
    gap = np.linalg.norm(track["vector"][here] - track["vector"][near[here]], axis=1).mean()
    rng = np.random.default_rng(0)
    anyone = np.linalg.norm(track["vector"][here] - track["vector"][rng.permutation(here)], axis=1).mean()
    assert gap < 0.6 * anyone


@pytest.mark.parametrize(
    ("field", "value"),
    [("tracks", 0), ("listeners", -1), ("days", 0), ("explicit_share", 1.5), ("drift", -0.1), ("seed", -1)],
)
def test_senseless_configs_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidSettings, match=field) as caught:
        SimulationConfig(**{field: value})
    assert caught.value.field == field


def test_more_artists_than_tracks_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="every artist has a track"):
        SimulationConfig(tracks=10, artists=11)


def test_the_smallest_service() -> None:
    catalogue = generate_catalogue(SimulationConfig(tracks=1, artists=1, listeners=1, days=1))
    assert (catalogue.tracks.num_rows, catalogue.artists.num_rows, catalogue.listeners.num_rows) == (1, 1, 1)
