"""How fast a history is simulated: events a CPU second of `simulate_days`, Arrow tables included, writing excluded."""

from __future__ import annotations

import statistics
import time

from benchmarks.harness import Row
from segue.simulation import SimulationConfig, generate_catalogue, simulate_days

DAYS = 12
REPEATS = 3


def run() -> list[Row]:
    """Generate the default service; the first round compiles and is not counted."""
    config = SimulationConfig(days=DAYS)
    list(simulate_days(config, generate_catalogue(config)))
    making, living, events = [], [], 0
    for _ in range(REPEATS):
        start = time.process_time()
        catalogue = generate_catalogue(config)
        made = time.process_time()
        events = sum(day.events.num_rows for day in simulate_days(config, catalogue))
        making.append(made - start)
        living.append(time.process_time() - made)
    size = f"{config.tracks:,} tracks, {config.listeners:,} listeners, {DAYS} days, {events:,} events"
    rate = events / statistics.median(living)
    return [
        Row("simulate_days", rate, None, None, "events/s of CPU", size),
        Row("generate_catalogue", statistics.median(making), None, None, "s of CPU", size),
    ]
