"""Rounds of a small service: it trains, serves for a week, and trains on what it served.

Retrieval and popularity are trained anew in every round, rankers are not: they take most of the time, and a page is scored by its
sources' scores without them. What comes of a loop comes of what is retrieved and counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from segue.contracts.ids import uuid7_column
from segue.contracts.tables import EXPOSURES, LISTENERS, RAW_EVENTS
from segue.contracts.vocabulary import DAY, MINUTE, EventType
from segue.flows.publish import fill_state
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.simulation import SimulationConfig
from segue.simulation.answering import States
from segue.simulation.effects import gini
from segue.simulation.session import SLATE_SIZES, SURFACES
from segue.simulation.tally import Told
from segue.simulation.world import ARTIST_BASE, F64, FLAGS, I32, I64, TRACK_BASE, USER_BASE
from segue.training.build import train
from segue.wiring.closed_loop import Arm, Plan, World
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

__all__ = ["Rounds", "bot_attack", "feedback_loop"]

Say = Callable[[str], None]
Found = tuple[dict[str, float], str]
SIZE: Final = 800
ROUNDS: Final = 4
WEEK: Final = 7
BOTS: Final = 0.05
"""Bots, as a share of the listeners."""
A_DAY: Final = 60
"""Plays of a bot in a day."""
ALL: Final = tuple(str(surface) for surface in SURFACES[: len(SLATE_SIZES)])


class Rounds:
    """A service of its own in an empty directory. It begins with a history under the logging policy."""

    def __init__(self, folder: Path, settings: Settings, listeners: int, seed: int, say: Say) -> None:
        self._say = say
        # A service whose answers change from one day to the next is what its checks are there to stop.
        unchecked = replace(settings.warehouse, expect=False)
        self.home = Home(folder, replace(settings, warehouse=unchecked))
        size = SimulationConfig(tracks=2_000, artists=350, listeners=listeners, days=30, seed=seed)
        simulate_into(self.home, size, lambda day: say(f"simulates {day}"))
        self.world = World(self.home)
        self._service = self.world.service()
        self._states: States | None = None
        self._seed = seed
        self.next = size.end + timedelta(days=1)
        """The first day that has not been lived."""

    def train(self) -> None:
        """Build the tables and train on all there is."""
        home, last = self.home, self.next - timedelta(days=1)
        for progress in runner_of(home).run([step.name for step in BUILD]):
            self._say(f"builds {progress.step} up to {last}")
        until = (self.next - date(1970, 1, 1)).days * DAY
        trained = train(
            home.engine,
            home.settings,
            until,
            lambda what: self._say(f"trains {what}"),
            rankers={},
            factorizer=home.factorizer,
        )
        self.world.adopt(trained.artifacts(f"round-{last}"))
        if self._states is None:
            fill_state(home.engine, home.settings, home.state, last)
            self._states = self.world.states(np.ones(self.world.config.listeners, np.bool_))

    def live(self, days: int = WEEK, *, keep: bool = True) -> Told:
        """Answer everything from what was trained; what happens is landed, if it is to be kept, as events and exposures."""
        self._say(f"lives from {self.next}")
        everybody = np.zeros(self.world.config.listeners, np.int16)
        plan = Plan(ALL, days, self._seed, logs=keep)
        life = self.world.live(
            [Arm("control")], everybody, plan, states=self._states, service=self._service, first=self.next
        )
        for day in life.logs:
            self.home.engine.append(RAW_EVENTS, day.events)
            self.home.engine.append(EXPOSURES, day.exposures)
        self.next += timedelta(days=days)
        return life.told

    def add_bots(self, artist: int, days: int) -> int:
        """Let bots play all of an artist's tracks, in the last days that were lived. Returns their plays."""
        size = self.world.config
        bots, begin = round(BOTS * size.listeners), (self.next - timedelta(days=days) - date(1970, 1, 1)).days
        tracks = np.flatnonzero(self.world.catalogue.music.track["artist"] == artist)
        self._register(bots)
        for number in range(days):
            user = np.repeat(np.arange(bots), A_DAY) + USER_BASE + size.listeners
            track = np.tile(np.resize(tracks, A_DAY), bots)
            ts = (begin + number) * DAY + np.tile(np.arange(A_DAY), bots) * 20 * MINUTE
            self.home.engine.append(RAW_EVENTS, self._plays(user, track, artist, ts, number))
        return bots * A_DAY * days

    def _register(self, bots: int) -> None:
        """Accounts for the bots, in the countries of real listeners: what is played in a country is counted by the profile."""
        listeners = self.world.catalogue.listeners
        ids = pa.array(np.arange(bots) + USER_BASE + self.world.config.listeners)
        accounts = listeners.slice(0, bots).set_column(0, "user_id", ids).cast(LISTENERS.arrow)
        self.home.engine.overwrite(LISTENERS, pa.concat_tables([listeners, accounts]))

    def _plays(self, user: I64, track: I64, artist: int, ts: I64, number: int) -> pa.Table:
        """RAW_EVENTS rows of tracks played to their end."""
        n = len(user)
        ids = uuid7_column(
            ts, np.random.default_rng([self._seed, 11, number]).integers(0, 2**64, (n, 2), np.uint64)
        )
        length = self.world.catalogue.music.track["duration"][track]
        columns = {
            "day": pa.array((ts // DAY).astype(np.int32)).cast(pa.date32()),
            "event_id": pa.array([row.tobytes() for row in ids], pa.binary()),
            "ts": pa.array(ts),
            "received_at": pa.array(ts + length.astype(np.int64) * 1_000),
            "user_id": pa.array(user),
            "type": pa.repeat(pa.scalar(str(EventType.PLAY)), n),
            "track_id": pa.array(track + TRACK_BASE),
            "artist_id": pa.repeat(pa.scalar(artist + ARTIST_BASE, pa.int64()), n),
            "ms_played": pa.array(length),
        }
        schema = RAW_EVENTS.arrow
        return pa.Table.from_arrays(
            [columns[f.name] if f.name in columns else pa.nulls(n, f.type) for f in schema], schema=schema
        )


def feedback_loop(settings: Settings, listeners: int | None, days: int | None, seed: int, say: Say) -> Found:
    """How unequally exposure and listens are shared, round after round."""
    measured: dict[str, float] = {}
    ginis, listens = [], []
    with tempfile.TemporaryDirectory(prefix="segue-rounds-") as folder:
        rounds = Rounds(Path(folder), settings, listeners or SIZE, seed, say)
        for number in range(1, ROUNDS + 1):
            rounds.train()
            told = rounds.live(days or WEEK)
            ginis.append(gini(told.shown[0]))
            listens.append(float(told.sums("listens").sum()))
            measured[f"round {number}: Gini of exposure over tracks"] = ginis[-1]
            measured[f"round {number}: share of slots of the top 1% of tracks"] = _top(told.shown[0], 0.01)
            measured[f"round {number}: listens"] = listens[-1]
        rounds.home.engine.close()
    change = ginis[-1] - ginis[0]
    grows = change > 0.02
    return measured, (
        f"{'exposure concentrates' if grows else 'no concentration'}: Gini {ginis[0]:.3f} in round 1, {ginis[-1]:.3f} in round "
        f"{ROUNDS} ({change:+.3f}), listens {listens[-1] / listens[0] - 1:+.1%}"
    )


def bot_attack(settings: Settings, listeners: int | None, days: int | None, seed: int, say: Say) -> Found:
    """What bots' plays buy their artist: the artist's share of listeners' slots in the week after, with them and without."""
    shares, plays, n = [], 0, 0
    for bots in (False, True):
        with tempfile.TemporaryDirectory(prefix="segue-rounds-") as folder:
            rounds = Rounds(Path(folder), settings, listeners or SIZE, seed, say)
            track = rounds.world.catalogue.music.track
            artist = _unknown(track["artist"], track["weight"], track["public"] & (track["blocked"] == 0))
            if bots:
                plays = rounds.add_bots(artist, WEEK)
            rounds.train()
            told = rounds.live(days or WEEK, keep=False)
            n = len(told.user)
            shares.append(float(told.shown[0][track["artist"] == artist].sum() / told.shown[0].sum()))
            rounds.home.engine.close()
    gain = shares[1] - shares[0]
    harmed = gain > 0.001
    verdict = (
        f"{'NOT robust' if harmed else 'robust'}: {plays:,} plays by bots moved their artist from {shares[0]:.3%} to "
        f"{shares[1]:.3%} of what {n:,} listeners were shown"
    )
    return {
        "plays by bots": plays,
        "their artist's share of slots without them": shares[0],
        "their artist's share of slots with them": shares[1],
    }, verdict


def _unknown(artist: I32, weight: F64, open_to_all: FLAGS) -> int:
    """Of the artists with three tracks that everybody may play, the one talked about least."""
    tracks, talk = np.bincount(artist, open_to_all), np.bincount(artist, weight)
    return int(np.where(tracks >= 3, talk, np.inf).argmin())


def _top(counts: I64, share: float) -> float:
    most = np.sort(counts)[::-1]
    return float(most[: max(round(share * len(most)), 1)].sum() / most.sum())
