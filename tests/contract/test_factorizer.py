"""Factors that are found elsewhere: of listeners with plain tastes they say what ours say, and serve as ours do."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from real_engines import OF_SPARK, RAN, SPARK, Places
from segue.contracts.errors import InvalidData, InvalidSettings
from segue.contracts.ports import Factorization, Factorizer
from segue.contracts.tables import LISTENS
from segue.contracts.vocabulary import DAY
from segue.flows.steps import BUILD
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions
from segue.recommend.api import Request
from segue.settings.tree import Settings, Training, Warehouse
from segue.simulation import SimulationConfig
from segue.training.build import train, write
from segue.wiring.engines import open_factorizer
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform
from segue.wiring.simulate import simulate_into

CONFIG = IALSConfig(factors=8, epochs=6, unobserved_weight=0.1, regularization=0.01)
SCENES, TRACKS, LISTENERS = 6, 20, 150
NEAREST = 10
SMALL = [
    "warehouse.threads=1",
    "warehouse.memory_mb=1024",
    "training.als=spark",
    "training.threads=1",
    "training.factors=8",
    "training.epochs=3",
    "training.neighbours=20",
    "surfaces.home.deadline_ms=60000",
]


@pytest.fixture
def factorizer(places: Places, request: pytest.FixtureRequest, tmp_path: Path) -> Factorizer:
    settings = Settings(warehouse=places.settings("spark", Warehouse()), training=Training(als="spark"))
    request.node.user_properties.append((RAN, "spark"))
    found = open_factorizer(tmp_path / "tables of 100% {spark}", settings)
    assert found is not None
    return found


def _plays() -> Interactions:
    """Listeners who hear 12 tracks of a scene, and two of any; the last track is heard by nobody."""
    dice = np.random.default_rng(4)
    items = [
        np.unique(
            np.r_[
                dice.integers(0, TRACKS, 12) + TRACKS * (n % SCENES),
                dice.integers(0, TRACKS * SCENES, 2),
            ]
        )
        for n in range(LISTENERS)
    ]
    rows = np.repeat(np.arange(LISTENERS), [len(some) for some in items])
    return Interactions.from_pairs(
        rows, np.concatenate(items), n_users=LISTENERS, n_items=TRACKS * SCENES + 1
    ).binary()


def _neighbours(model: IALS) -> np.ndarray:
    factors = model.item_factors[:-1]
    near = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    alike = near @ near.T
    np.fill_diagonal(alike, -1)
    return np.argsort(-alike, axis=1)[:, :NEAREST]


@OF_SPARK
def test_spark_finds_what_ours_finds(factorizer: Factorizer) -> None:
    plays = _plays()
    ours, sparks = IALS.fit(plays, CONFIG), IALS.fit_by(factorizer, plays, CONFIG)
    assert sparks.item_factors.shape == ours.item_factors.shape
    assert sparks.item_factors.dtype == sparks.spectrum.dtype == np.float32
    assert not sparks.item_factors[-1].any(), "a track without plays has a place, and nothing in it"
    shared = [len(np.intersect1d(a, b)) for a, b in zip(_neighbours(ours), _neighbours(sparks), strict=True)]
    chance = NEAREST / (TRACKS * SCENES)
    assert np.mean(shared) / NEAREST > 5 * chance
    scene = np.arange(TRACKS * SCENES) // TRACKS
    assert (scene[_neighbours(sparks)] == scene[:, None]).mean() > 0.9
    # The weights are translated: who is folded in scores much as in ours.
    a, b = (model.scores(plays)[:, :-1].ravel() for model in (ours, sparks))
    assert np.corrcoef(a, b)[0, 1] > 0.85
    # The saved arrays are all there is: what is loaded folds in alike.
    again = IALS.from_arrays(sparks.arrays(), CONFIG)
    some = np.array([3, 5, 7], np.int32)
    folded = again.fold_in(some, np.ones(3, np.float32))
    np.testing.assert_array_equal(folded, sparks.fold_in(some, np.ones(3, np.float32)))
    assert (scene[np.argsort(-(sparks.item_factors[:-1] @ folded))[:NEAREST]] == 0).all()
    _leaves_nothing_behind(factorizer)
    _refuses(factorizer, plays)


@OF_SPARK
def test_a_bundle_with_them_is_written_published_and_served(
    places: Places, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    opened = Home.open(tmp_path / "home", environ={}, overrides=SMALL)
    warehouse = msgspec.structs.replace(opened.settings.warehouse, spark=SPARK)
    home = Home(opened.root, msgspec.structs.replace(opened.settings, warehouse=warehouse))
    places.settings("spark", Warehouse())  # skips where there is none
    request.node.user_properties.append((RAN, "spark"))
    service = SimulationConfig(tracks=150, artists=40, listeners=60, days=4, end=date(2026, 11, 21), seed=5)
    simulate_into(home, service, lambda day: None)
    runner = runner_of(home)
    assert "failed" not in {
        progress.state for progress in runner.run([*(made.name for made in BUILD), "state"])
    }
    until = (service.end - date(1970, 1, 1)).days * DAY + DAY
    trained = train(home.engine, home.settings, until, lambda _: None, {}, home.factorizer)
    ours = train(home.engine, home.settings, until, lambda _: None, {})
    assert not np.array_equal(trained.retrieval.ials.item_factors, ours.retrieval.ials.item_factors), (
        "Spark's were taken"
    )
    manifest = write(trained, home.bundles, home.settings, {}, lambda writer: None)
    home.bundles.publish(manifest.version)
    platform = HomePlatform(home)
    user = int(
        home.engine.collect(home.engine.read(LISTENS).select("user_id").limit(1))["user_id"][0].as_py()
    )
    answer = platform.recommend(Request(surface="home", user_id=user, k=20, why=True))
    platform.close()
    assert len(answer.items) == 20
    assert answer.bundle == manifest.version


def _leaves_nothing_behind(factorizer: Factorizer) -> None:
    assert not list(factorizer._root.glob(".spill/als_*"))  # type: ignore[attr-defined]


def _refuses(factorizer: Factorizer, plays: Interactions) -> None:
    with pytest.raises(InvalidSettings, match="exponent must be 1"):
        factorizer.item_factors(
            plays.indptr, plays.indices, plays.data, plays.n_items, Factorization(8, 1, 0.1, 0.01, 0.5, 0)
        )
    nothing = np.zeros(0, np.int64)
    with pytest.raises(InvalidData, match="at least one pair"):
        IALS.fit_by(factorizer, Interactions.from_pairs(nothing, nothing, n_users=1, n_items=3), CONFIG)


def test_without_the_setting_nothing_is_opened(tmp_path: Path) -> None:
    assert open_factorizer(tmp_path, Settings()) is None
    assert not list(tmp_path.iterdir())
