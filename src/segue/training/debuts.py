"""The new-artist programme as of a moment: from the table `debuts` to arrays by catalogue position."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.bundle.catalogue import PUBLIC, Catalogue
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import DEBUTS, EXPOSURES
from segue.contracts.vocabulary import DAY, DEBUT_DAYS, SECOND
from segue.recommend.debuts import Debuts
from segue.settings.tree import Settings
from segue.warehouse.debuts import SURE, WEIGHT

Floats = npt.NDArray[np.float32]

AHEAD: Final = 6
"""A debut is to have all its listeners so many days before its time is over: what chance leaves out can then be made good."""
USUAL_DAYS: Final = 7
USUAL_RATE: Final = 0.1
"""Listens per exposure where nothing is known yet."""


def load_debuts(engine: Engine, settings: Settings, catalogue: Catalogue, until: int) -> Debuts:
    """The programme as of `until` (microseconds): what every debut wants a day, from the day that begins then."""
    last = datetime.fromtimestamp((until - 1) // SECOND, UTC).date()
    rows = engine.collect(engine.read(DEBUTS, Days(last, last)))
    return programme(rows, settings, catalogue, until, _requests(engine, settings, last))


def programme(
    rows: pa.Table, settings: Settings, catalogue: Catalogue, until: int, requests: float
) -> Debuts:
    """The programme from the rows of DEBUTS of the day before `until`, and how many requests a day may show a debut."""
    target = settings.programme.listeners
    fresh = target / (DEBUT_DAYS - AHEAD)
    age = until - catalogue.uploaded_at
    new = (catalogue.uploaded_at >= 0) & (age < DEBUT_DAYS * DAY) & ((catalogue.flags & PUBLIC) != 0)
    wanted = np.where(new, fresh, 0.0).astype(np.float32)
    seen, rates = rows["exposures"].to_numpy(), rows["rate"].to_numpy()
    usual = (rows["listens"].to_numpy().sum() + 1.0) / (seen.sum() + 1.0 / USUAL_RATE)
    rate = np.where(new, usual, 0.0).astype(np.float32)
    at = catalogue.positions(rows["track_id"].to_numpy())
    known = np.flatnonzero(at >= 0)
    owed = np.maximum(target - rows["listeners"].to_numpy(), 0)
    a_day = owed / np.maximum(rows["days_left"].to_numpy() - AHEAD, 1)
    a_day[rows["paused"].is_valid().to_numpy()] = 0.0
    wanted[at[known]] = np.where(new[at[known]], a_day[known], 0.0)
    rate[at[known]] = rates[known]
    unsure = float(np.sqrt(usual * (1.0 - usual) / (WEIGHT + 1.0)))
    spread = np.where(new, unsure, 0.0).astype(np.float32)
    spread[at[known]] = ((rows["upper"].to_numpy() - rates) / SURE)[known]
    capped = _capped(wanted, catalogue.artist, settings.programme.artist_per_day)
    blank = (min(fresh, settings.programme.artist_per_day), float(usual), unsure)
    return Debuts(capped, rate, spread, requests, blank)


def _capped(wanted: Floats, artist: npt.NDArray[np.int32], most: float) -> Floats:
    """No artist's debuts together want more than so many listeners a day."""
    mine = np.flatnonzero((artist >= 0) & (wanted > 0))
    total = np.bincount(artist[mine], wanted[mine], minlength=1)
    capped = wanted.copy()
    capped[mine] *= np.minimum(1.0, most / total[artist[mine]]).astype(np.float32)
    return capped


def _requests(engine: Engine, settings: Settings, last: date) -> float:
    """How many requests of known listeners a day has on the surfaces that show debuts; else on those that explore."""
    recipes = settings.surfaces.items()
    surfaces = [
        name for name, recipe in recipes if recipe.selector.debuts > 0 and recipe.selector.explore > 0
    ]
    surfaces = surfaces or [name for name, recipe in recipes if recipe.selector.explore > 0]
    if not surfaces:
        return 0.0
    rows = engine.read(EXPOSURES, Days(last - timedelta(days=USUAL_DAYS - 1), last))
    asked = rows.filter(rows.surface.isin(surfaces), rows.user_id.notnull(), rows.position == 0)
    days = engine.collect(asked.group_by("day").aggregate(requests=asked.count()))["requests"]
    return float(np.mean(days.to_numpy())) if len(days) else 0.0
