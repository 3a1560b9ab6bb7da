"""A simulated service into a home: dimensions, raw events and exposures day by day, the truth apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

from msgspec import Struct

from segue.contracts.errors import Conflict
from segue.contracts.tables import ARTISTS, EXPOSURES, FRIENDSHIPS, LISTENERS, RAW_EVENTS, TRACKS
from segue.simulation import SimulationConfig, generate_catalogue, simulate_days
from segue.wiring.home import Home


class SimulationReport(Struct, frozen=True):
    """What a simulation wrote."""

    events: int
    exposures: int
    seconds: float


def simulate_into(home: Home, size: SimulationConfig, advance: Callable[[date], None]) -> SimulationReport:
    """Write a simulated history. The same history again adds nothing; another one into the same home is refused.

    Raises Conflict if the home already holds other tracks.
    """
    started = time.perf_counter()
    engine = home.engine
    catalogue = generate_catalogue(size)
    present = engine.collect(engine.read(TRACKS))
    if len(present) and not present.sort_by("track_id").equals(catalogue.tracks.sort_by("track_id")):
        raise Conflict(
            f"{home.root} already holds another catalogue; simulate into an empty directory (--home)",
            field="home",
        )
    for table, rows in (
        (TRACKS, catalogue.tracks),
        (ARTISTS, catalogue.artists),
        (LISTENERS, catalogue.listeners),
        (FRIENDSHIPS, catalogue.friendships),
    ):
        engine.overwrite(table, rows)
    catalogue.truth.write(home.truth)
    source = f"simulate:{size.seed}:{size.tracks}:{size.artists}:{size.listeners}:{size.days}:{size.end}"
    events = exposures = 0
    for number, day in enumerate(simulate_days(size, catalogue), start=1):
        engine.append(RAW_EVENTS, day.events, marker=(source, number))
        engine.append(EXPOSURES, day.exposures, marker=(source, number))
        events += len(day.events)
        exposures += len(day.exposures)
        advance(day.day)
    return SimulationReport(events, exposures, time.perf_counter() - started)
