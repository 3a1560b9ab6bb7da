"""A simulated service into a home: dimensions, raw events and exposures day by day, the truth apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

import pyarrow as pa
from msgspec import Struct

from segue.contracts.errors import Conflict
from segue.contracts.tables import ARTISTS, EXPOSURES, FRIENDSHIPS, LISTENERS, RAW_EVENTS, TRACKS
from segue.flows.lock import exclusive
from segue.simulation import SimulationConfig, generate_catalogue, simulate_days
from segue.simulation.history import begin
from segue.simulation.service import write_service
from segue.wiring.home import Home


class SimulationReport(Struct, frozen=True):
    """What a simulation wrote."""

    events: int
    exposures: int
    seconds: float


def simulate_into(home: Home, size: SimulationConfig, advance: Callable[[date], None]) -> SimulationReport:
    """Write a simulated history. The same history again adds nothing; another one into the same home is refused.

    Raises Conflict if the home already holds other tracks, or is being written.
    """
    with exclusive(home.root, "simulate"):
        return _simulate(home, size, advance)


def _simulate(home: Home, size: SimulationConfig, advance: Callable[[date], None]) -> SimulationReport:
    started = time.perf_counter()
    engine = home.engine
    catalogue = generate_catalogue(size)
    present = engine.collect(engine.read(TRACKS))
    if len(present) and not _same_tracks(present, catalogue.tracks):
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
    source = _source(size)
    events = exposures = 0
    service = begin(size, catalogue)
    for number, day in enumerate(simulate_days(size, catalogue, service), start=1):
        engine.append(RAW_EVENTS, day.events, marker=(source, number))
        engine.append(EXPOSURES, day.exposures, marker=(source, number))
        events += len(day.events)
        exposures += len(day.exposures)
        advance(day.day)
    write_service(home.truth, size, service)
    return SimulationReport(events, exposures, time.perf_counter() - started)


def is_broken_off(home: Home, size: SimulationConfig) -> bool:
    """Whether this simulation was begun in the home and not ended: running it again adds the days that are missing."""
    source = _source(size)
    begun = home.engine.marker(source, RAW_EVENTS) is not None
    return begun and (home.engine.marker(source, EXPOSURES) or 0) < size.days


def _source(size: SimulationConfig) -> str:
    return f"simulate:{size.seed}:{size.tracks}:{size.artists}:{size.listeners}:{size.days}:{size.end}"


def _same_tracks(present: pa.Table, tracks: pa.Table) -> bool:
    """Compared as the contract has them: an engine does not keep which columns may be null."""
    one, other = (rows.cast(TRACKS.arrow).sort_by("track_id") for rows in (present, tracks))
    return bool(one.equals(other))
