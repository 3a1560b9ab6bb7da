"""A small simulated service as if an experiment had run on it: its exposures say variants, most of them by the pure function."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from segue.contracts.experiments import Experiment, Metrics, Variant
from segue.contracts.ids import format_id
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EXPOSURES
from segue.contracts.vocabulary import Team
from segue.experiments.assignment import assign, slot
from segue.experiments.definition import surfaces_of
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.simulation import SimulationConfig
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

SERVICE = SimulationConfig(tracks=150, artists=40, listeners=60, days=6, end=date(2026, 11, 21), seed=5)
DAYS = Days(date(2026, 11, 18), date(2026, 11, 21))
"""The experiment's: two days lie before it."""
TWICE, BY_FORCE, NEVER, AT_TIMES = range(4)
"""Listeners, by their place among those who are shown anything, of whom something is wrong."""


def tried(**known: Any) -> Experiment:
    """An experiment of the service's last four days, on its home page and its stations."""
    made = Experiment(
        name="tried",
        layer="home",
        starts=DAYS.first,
        ends=date(2026, 11, 22),
        variants={"control": Variant(), "treatment": Variant()},
        surfaces=("home", "station"),
        share=0.9,
        metrics=Metrics(goals=("listens_per_exposure",), guardrails={"skips_per_start": 0.1}),
    )
    return msgspec.structs.replace(made, **known)


SHARED = tried(
    name="shared",
    layer="shared",
    share=0.5,
    variants={
        "treatment": Variant(set={"surfaces.home.sources.fresh.limit": 9}, interleave="competing-pairs")
    },
    metrics=Metrics(goals=("listens_per_exposure", "likes_per_exposure")),
)
"""Its pages are as if interleaved: slots are credited by chance."""


def service(root: Path, settings: Settings, *experiments: Experiment) -> Home:
    """The service, its tables built, with exposures that say the variants of these experiments."""
    home = Home(root, settings)
    simulate_into(home, SERVICE, lambda day: None)
    engine = home.engine
    shown = engine.collect(engine.read(EXPOSURES)).sort_by([("ts", "ascending"), ("position", "ascending")])
    at = shown.schema.get_field_index("variants")
    said = pa.array(_said(shown, experiments, settings), pa.string())
    us = pa.array(np.arange(len(shown)) % 5_000 + 1_000, pa.int32())
    shown = shown.set_column(at, "variants", said).set_column(at + 1, "took_us", us)
    shared = np.array(['"shared":"treatment"' in (text or "") for text in said.to_pylist()])
    teams = pa.array(np.random.default_rng(7).choice(list(Team), len(shown)), pa.string(), mask=~shared)
    shown = shown.set_column(shown.schema.get_field_index("team"), "team", teams)
    chances = pa.array(shown["propensity"].to_numpy(), mask=shared)
    shown = shown.set_column(shown.schema.get_field_index("propensity"), "propensity", chances)
    engine.overwrite(EXPOSURES, shown, engine.days(EXPOSURES))
    states = {p.state for p in Runner(engine, home.settings, home.root, home, BUILD).run()}
    assert states == {"running", "done"}
    return home


def _said(shown: pa.Table, experiments: tuple[Experiment, ...], settings: Settings) -> list[str | None]:
    first: dict[int, int] = {}
    asked: dict[int, list[bytes]] = {}
    found: list[str | None] = []
    for row in shown.select(["user_id", "ts", "day", "surface", "request_id"]).to_pylist():
        said = {}
        requests = asked.setdefault(row["user_id"], [])
        if row["request_id"] not in requests[-1:]:
            requests.append(row["request_id"])
        for one in experiments:
            if row["day"] < one.starts or row["surface"] not in surfaces_of(one, settings):
                continue
            unit = _unit(one, row)
            variant = assign(one, unit)
            if variant is not None:
                place = first.setdefault(row["user_id"], len(first))
                said[one.name] = (
                    _spoilt(variant, place, len(requests) % 2) if one.unit == "listener" else variant
                )
                if one.unit == "session":
                    said[one.name] += f"@{unit}"
        found.append(json.dumps(said, separators=(",", ":"), sort_keys=True) if said else None)
    return found


def _unit(one: Experiment, row: dict[str, Any]) -> str:
    match one.unit:
        case "listener":
            return str(row["user_id"])
        case "request":
            return format_id(row["request_id"])
        case "switchback":
            return str(slot(row["ts"], one.slot_minutes or 1))
        case _:
            return f"{row['user_id']}:{row['day'].day}"


def _spoilt(variant: str, place: int, odd: int) -> str:
    """A few listeners are in two variants, were forced, never got theirs, or did not at times."""
    if place == TWICE:
        return ("control", "treatment")[odd]
    if place == BY_FORCE:
        return ("forced:treatment", variant)[odd]
    if place == NEVER:
        return "failed:treatment"
    if place == AT_TIMES:
        return ("failed:" + variant, variant)[odd]
    return variant


def rows_of(engine: Engine, table: Any) -> list[dict[str, Any]]:
    """All rows of a table."""
    return engine.collect(engine.read(table)).to_pylist()
