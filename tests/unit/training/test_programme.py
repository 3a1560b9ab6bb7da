"""What every debut wants a day."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from segue.bundle.catalogue import PUBLIC, Catalogue
from segue.contracts.tables import DEBUTS
from segue.contracts.vocabulary import DAY
from segue.recommend.artifacts import Artifacts
from segue.settings import Settings
from segue.settings.tree import Programme
from segue.training.debuts import programme
from segue.wiring.home import Home

UNTIL = 20_700 * DAY


@pytest.fixture(scope="module")
def catalogue(service: Home) -> Catalogue:
    """The first six tracks are public, one artist's each; the first five are new, the sixth is old, others are older."""
    found = Artifacts.load(service.bundles.open()).catalogue
    n = len(found)
    uploaded = np.full(n, UNTIL - 90 * DAY)
    uploaded[:5] = UNTIL - 2 * DAY
    uploaded[4] = UNTIL + DAY  # announced: it comes tomorrow
    artist = found.artist.copy()
    artist[:6] = np.arange(6)
    flags = found.flags | np.uint8(PUBLIC)
    return replace(found, uploaded_at=uploaded, artist=artist, flags=flags)


def row(catalogue: Catalogue, at: int, listeners: int, days_left: int, paused: str | None = None) -> dict:
    known = {
        "track_id": int(catalogue.track_id[at]),
        "listeners": listeners,
        "days_left": days_left,
        "exposures": 2 * listeners,
        "listens": listeners,
        "rate": 0.3,
        "paused": paused,
    }
    return {name: known.get(name) for name in DEBUTS.names}


def made(catalogue: Catalogue, rows: list[dict], **chosen: int) -> np.ndarray:
    settings = msgspec.structs.replace(Settings(), programme=Programme(**chosen))
    table = pa.Table.from_pylist(rows, schema=DEBUTS.arrow)
    return programme(table, settings, catalogue, UNTIL, 500.0).wanted


def test_what_is_owed_is_spread_over_the_days_that_are_left_but_the_last(catalogue: Catalogue) -> None:
    rows = [row(catalogue, 0, 40, 10), row(catalogue, 1, 97, 2), row(catalogue, 2, 130, 9)]
    rows.append(row(catalogue, 3, 30, 9, "listened to far less than its genre"))
    wanted = made(catalogue, rows)
    np.testing.assert_allclose(wanted[:6], [60 / 4, 3, 0, 0, 100 / 8, 0])
    assert not wanted[6:].any()


def test_an_artist_has_a_cap_for_all_debuts_together(catalogue: Catalogue) -> None:
    together = replace(catalogue, artist=np.where(np.arange(len(catalogue)) < 5, 0, catalogue.artist))
    wanted = made(together, [], artist_per_day=12)
    assert wanted[:5].sum() == pytest.approx(12)
    assert wanted[:5].min() == pytest.approx(12 / 5)


def test_private_uploads_want_nothing(catalogue: Catalogue) -> None:
    hidden = replace(catalogue, flags=catalogue.flags & ~np.uint8(PUBLIC))
    assert not made(hidden, []).any()
