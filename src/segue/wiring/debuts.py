"""The new-artist programme on simulated listeners: the same weeks with it and without, from the same draws.

The service's history ends before its catalogue does: what is uploaded after it comes while listeners live on. Every night
the day is landed, the flow's own steps build the table `debuts`, and the programme's arrays are made anew from it; models
stay as they are. Rankers are not trained: a page is scored by its sources' scores (segue.wiring.rounds says why).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from segue.contracts.errors import InvalidInput
from segue.contracts.ports import Days
from segue.contracts.tables import ARTISTS, DEBUTS, EXPOSURES, FRIENDSHIPS, LISTENERS, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import DAY, DEBUT_DAYS
from segue.flows.publish import fill_state
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.simulation import SimulationConfig, generate_catalogue, simulate_days
from segue.simulation.answering import source_names
from segue.simulation.columns import Answerer, Writer
from segue.simulation.effects import true_effects
from segue.simulation.environment import LivedDay
from segue.simulation.history import begin
from segue.simulation.reach import Reach
from segue.simulation.service import write_service
from segue.simulation.session import SLATE_SIZES
from segue.simulation.tally import Told
from segue.simulation.world import FLAGS, TRACK_BASE, USER_BASE
from segue.training.build import train
from segue.training.debuts import load_debuts
from segue.wiring.closed_loop import Arm, Plan, World
from segue.wiring.flow import runner_of
from segue.wiring.home import Home

__all__ = ["Trial", "debut_scenario"]

Say = Callable[[str], None]
Found = tuple[dict[str, float], str]
HISTORY: Final = 30
WEEKS: Final = 2 * DEBUT_DAYS
"""Uploads of the first half are followed to the end of their time."""
SURFACES: Final = ("home", "station")
LISTENERS_ASKED: Final = 1_500
TRACKS_MADE: Final = 1_200
"""Of which about two a day come while listeners live: they want a quarter of the pages that so many listeners ask for."""
ON: Final[dict[str, Any]] = {
    f"surfaces.{surface}.{key}": value
    for surface in SURFACES
    for key, value in (("sources.debuts.limit", 30), ("selector.debuts", 1.0))
}
"""Settings that switch the programme on."""


class Trial:
    """A service in an empty directory that has lived through a history, and is ready to live on under any arm."""

    def __init__(
        self, folder: Path, settings: Settings, size: SimulationConfig, history: int, seed: int, say: Say
    ) -> None:
        self._say, self._seed = say, seed
        unchecked = replace(settings.warehouse, expect=False)
        self.home = Home(folder, replace(settings, warehouse=unchecked))
        self.next = size.first + timedelta(days=history)
        self._simulate(size, history)
        self.world = World(self.home)
        for progress in runner_of(self.home).run([step.name for step in BUILD]):
            say(f"builds {progress.step}")
        until = (self.next - date(1970, 1, 1)).days * DAY
        trained = train(self.home.engine, self.home.settings, until, lambda what: say(f"trains {what}"), {})
        self._artifacts = trained.artifacts("debuts-trial")
        fill_state(self.home.engine, self.home.settings, self.home.state, self.next - timedelta(days=1))

    def _simulate(self, size: SimulationConfig, history: int) -> None:
        """The first days of the config as history; the catalogue has what is uploaded later, with its dates."""
        catalogue, engine = generate_catalogue(size), self.home.engine
        for table, rows in (
            (TRACKS, catalogue.tracks),
            (ARTISTS, catalogue.artists),
            (LISTENERS, catalogue.listeners),
            (FRIENDSHIPS, catalogue.friendships),
        ):
            engine.overwrite(table, rows)
        catalogue.truth.write(self.home.truth)
        service = begin(size, catalogue)
        for _, day in zip(range(history), simulate_days(size, catalogue, service), strict=False):
            self._say(f"simulates {day.day}")
            engine.append(RAW_EVENTS, day.events)
            engine.append(EXPOSURES, day.exposures)
        write_service(self.home.truth, size, service)

    def live(self, arm: Arm, days: int, *, nightly: bool) -> tuple[Told, Reach, int]:
        """Days under one arm, from the end of the history; `nightly` lands each and refreshes the programme.

        Returns what listeners did, whom new uploads reached, and how many pages were asked for.
        """
        world, everybody = self.world, np.zeros(self.world.config.listeners, np.int16)
        world.adopt(self._artifacts)
        reach, pages = Reach(world.catalogue), 0
        writer = Writer(world.catalogue, [Answerer(self._artifacts.version)], source_names())
        self._refresh(self.next - timedelta(days=1))

        def look(day: LivedDay) -> None:
            nonlocal pages
            self._say(f"{arm.name}: lived {day.day}")
            reach.look(day)
            pages += int(((day.exposures.by >= 0) & (day.exposures.position == 0)).sum())
            if nightly:
                self.home.engine.append(RAW_EVENTS, writer.events(day.events, day.day))
                self.home.engine.append(EXPOSURES, writer.exposures(day.exposures, day.day))
                for _ in runner_of(self.home).run([DEBUTS.name], Days(day.day, day.day)):
                    pass
                self._refresh(day.day)

        plan = Plan(SURFACES, days, self._seed)
        life = world.live([arm], everybody, plan, first=self.next, look=look)
        return life.told, reach, pages

    def cohort(self, lived: int) -> FLAGS:
        """The public uploads after the history whose two weeks end while listeners live. bool[tracks]. Raises InvalidInput."""
        track = self.world.catalogue.music.track
        begun = (self.next - date(1970, 1, 1)).days * DAY
        whole = begun + (lived - DEBUT_DAYS) * DAY
        found: FLAGS = (
            track["public"].astype(bool) & (track["uploaded"] >= begun) & (track["uploaded"] < whole)
        )
        if not found.any():
            raise InvalidInput(
                f"--days: {lived} days leave no new upload to follow for {DEBUT_DAYS} days; give {WEEKS} or more",
                field="days",
                limit=f">= {WEEKS}",
            )
        return found

    def _refresh(self, last: date) -> None:
        """The programme as of the end of a day."""
        until = (last + timedelta(days=1) - date(1970, 1, 1)).days * DAY
        newer = load_debuts(self.home.engine, self.home.settings, self._artifacts.catalogue, until)
        self._artifacts.debuts.take(newer)


def debut_scenario(settings: Settings, listeners: int | None, days: int | None, seed: int, say: Say) -> Found:
    """How many new uploads reach their listeners with the programme and without, and what that costs listening."""
    lived, count = days or WEEKS, listeners or LISTENERS_ASKED
    size = SimulationConfig(tracks=TRACKS_MADE, artists=500, listeners=count, days=HISTORY + lived, seed=seed)
    goal = settings.programme.listeners
    with tempfile.TemporaryDirectory(prefix="segue-debuts-") as folder:
        trial = Trial(Path(folder), settings, size, HISTORY, seed, say)
        cohort = trial.cohort(lived)
        off, before, _ = trial.live(Arm("off"), lived, nightly=False)
        on, after, pages = trial.live(Arm("on", ON), lived, nightly=True)
        fit = {name: _fit(trial, reach, cohort) for name, reach in (("off", before), ("on", after))}
        paused = _paused(trial, cohort)
        trial.home.engine.close()
    effects = true_effects(off, on)
    minutes, without, reached = effects["minutes_per_listener"], before.of(cohort), after.of(cohort)
    a_day = pages / lived
    uploads = float(cohort.sum()) / (lived - DEBUT_DAYS)
    room = _room(settings)
    measured = {
        "listeners": float(count),
        "days lived": float(lived),
        "new public uploads followed for 14 days": float(cohort.sum()),
        "pages a day (home and station)": a_day,
        f"pages that must show a debut for {goal} each": uploads * goal / max(a_day, 1.0),
        "pages that may, by the share of exploration": room,
        "listeners each that this allows at most": a_day * room / uploads,
    }
    for name, told in (("off", without), ("on", reached)):
        measured |= {
            f"{name}: share with {goal} relevant exposures": float((told.relevant >= goal).mean()),
            f"{name}: share with {goal} distinct listeners of such": float((told.listeners >= goal).mean()),
            f"{name}: fewest relevant exposures": float(told.relevant.min()),
            f"{name}: median relevant exposures": float(np.median(told.relevant)),
            f"{name}: median distinct listeners": float(np.median(told.listeners)),
            f"{name}: true taste of these listeners for it, percentile of all": fit[name],
        }
    error = minutes.standard_error / minutes.control
    measured |= {
        "on: uploads that the quality guard paused at some time": float(paused),
        "cost: listening minutes, relative": minutes.relative,
        "cost: its standard error": error,
        "cost: listens per listener, relative": effects["listens_per_listener"].relative,
        "cost: days active, relative": effects["days_active"].relative,
        "cost: skip rate, relative": effects["skip_rate"].relative,
        "guarantees broken": float(off.broken + on.broken),
    }
    share, bare = (float((told.relevant >= goal).mean()) for told in (reached, without))
    verdict = (
        f"{'reached' if share >= 0.95 else 'NOT reached'}: {share:.0%} of {int(cohort.sum())} new uploads had {goal} relevant "
        f"exposures within {DEBUT_DAYS} days (without the programme {bare:.0%}; goal 95%); listening time "
        f"{minutes.relative:+.2%} \N{PLUS-MINUS SIGN} {2 * error:.2%} "
        f"({'within' if minutes.relative > -0.01 else 'NOT within'} the 1% it may cost)"
    )
    return measured, verdict


def _paused(trial: Trial, cohort: FLAGS) -> int:
    """How many of the uploads the quality guard ever paused."""
    rows = trial.home.engine.read(DEBUTS)
    chosen = (np.flatnonzero(cohort) + TRACK_BASE).tolist()
    found = rows.filter(rows.paused.notnull(), rows.track_id.isin(chosen)).select("track_id").distinct()
    return len(trial.home.engine.collect(found))


def _room(settings: Settings) -> float:
    """The largest share of home's pages that shows a debut."""
    return float(1.0 - (1.0 - settings.surfaces["home"].selector.explore) ** SLATE_SIZES[0])


def _fit(trial: Trial, reach: Reach, cohort: FLAGS) -> float:
    """Where the listeners that debuts reached stand among all, by how much they truly like the track: 0.5 is chance."""
    truth, count = trial.world.catalogue.truth, trial.world.config.listeners
    ts = (trial.next - date(1970, 1, 1)).days * DAY
    track, user = reach.pairs(cohort)
    scores = truth.scores(np.arange(count, dtype=np.int64) + USER_BASE, ts)
    found = []
    for one in np.unique(track).tolist():
        place = np.empty(count)
        place[np.argsort(scores[:, one], kind="stable")] = (np.arange(count) + 0.5) / count
        found.append(place[user[track == one]])
    return float(np.concatenate([*found, np.empty(0)]).mean()) if found else float("nan")
