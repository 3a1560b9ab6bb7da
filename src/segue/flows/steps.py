"""The steps of the flow.

`BUILD` makes the tables, `PUBLISH` what answers requests from them, `UPKEEP` looks after what is there. To add one: write a
function that reads what it declares and writes what it declares, and put it into one of them. Its place in the order follows
from the tables. Raise `version` when a change of code changes what it writes.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from segue.contracts import tables as t
from segue.contracts.schema import Table
from segue.contracts.vocabulary import DEBUT_DAYS
from segue.flows.ledger import MAINTAIN
from segue.flows.maintenance import maintain
from segue.flows.publish import (
    fill_state,
    no_challenger,
    no_champion,
    no_state,
    publish_challenger,
    train_challenger,
)
from segue.flows.registry import Read, Step, step
from segue.flows.task import Task
from segue.warehouse import co_listens, daily, debuts, events, listens, outcomes, sessions

CHALLENGER = Table("challenger", "The newest bundle.", (), key=(), daily=False)
MAINTENANCE = Table("maintenance", "That tables were looked after.", (), key=(), daily=False)
STATE = Table("listener_state", "A record per listener, read at each request.", (), key=(), daily=False)


@step(
    reads=[Read(t.RAW_EVENTS, before=1), Read(t.TRACKS, tracked=False)],
    writes=[t.EVENTS],
    version=2,
    name="events",
)
def build_events(task: Task) -> None:
    """Clean events: duplicates out, artists in, sessions cut, plays judged."""
    task.write(t.EVENTS, events.clean_events(task.read(t.RAW_EVENTS), task.read(t.TRACKS)))


@step(reads=[Read(t.EVENTS, after=1)], writes=[t.SESSIONS], name="sessions")
def build_sessions(task: Task) -> None:
    """Listeners' stretches of activity, in the day they began."""
    task.write(t.SESSIONS, sessions.sessions(task.read(t.EVENTS)))


@step(reads=[Read(t.EVENTS)], writes=[t.LISTENS], name="listens")
def build_listens(task: Task) -> None:
    """Plays of 30 s or more, or to the track's end."""
    task.write(t.LISTENS, listens.listens(task.read(t.EVENTS)))


@step(reads=[Read(t.EVENTS)], writes=[t.DAILY_TRACKS], name="daily-tracks")
def build_daily_tracks(task: Task) -> None:
    """What happened to each track in a day."""
    task.write(t.DAILY_TRACKS, daily.daily_tracks(task.read(t.EVENTS)))


@step(reads=[Read(t.EVENTS)], writes=[t.DAILY_ARTISTS], name="daily-artists")
def build_daily_artists(task: Task) -> None:
    """What happened to each artist in a day."""
    task.write(t.DAILY_ARTISTS, daily.daily_artists(task.read(t.EVENTS)))


@step(reads=[Read(t.EVENTS)], writes=[t.DAILY_LISTENERS], name="daily-listeners")
def build_daily_listeners(task: Task) -> None:
    """What each listener did in a day."""
    task.write(t.DAILY_LISTENERS, daily.daily_listeners(task.read(t.EVENTS)))


@step(reads=[Read(t.LISTENS, before=1)], writes=[t.CO_LISTENS], name="co-listens")
def build_co_listens(task: Task) -> None:
    """Pairs of tracks heard close together, in the day of the later one."""
    task.write(t.CO_LISTENS, co_listens.co_listens(task.read(t.LISTENS)))


@step(reads=[Read(t.EXPOSURES), Read(t.EVENTS, after=1)], writes=[t.OUTCOMES], name="outcomes", version=2)
def build_outcomes(task: Task) -> None:
    """What was shown, and what the listener then did with it within 24 hours."""
    task.write(t.OUTCOMES, outcomes.outcomes(task.read(t.EXPOSURES), task.read(t.EVENTS)))


@step(
    reads=[
        Read(t.OUTCOMES, before=DEBUT_DAYS - 1),
        Read(t.EXPOSURES, before=DEBUT_DAYS - 1),
        Read(t.TRACKS, tracked=False),
    ],
    writes=[t.DEBUTS],
    name="debuts",
)
def build_debuts(task: Task) -> None:
    """Whom new uploads have reached, and how they were received."""
    task.write(t.DEBUTS, debuts.debuts(task.read(t.OUTCOMES), task.read(t.EXPOSURES), task.read(t.TRACKS)))


@step(
    reads=[
        Read(t.EVENTS),
        Read(t.DAILY_TRACKS),
        Read(t.DAILY_ARTISTS),
        Read(t.TRACKS),
        Read(t.ARTISTS),
        Read(t.LISTENERS),
        Read(t.DEBUTS),
    ],
    writes=[CHALLENGER],
    version=3,
    partition="whole",
    settings=[
        "training",
        "programme",
        "surfaces",
        "gate.days",
        "gate.max_requests",
        "state.max_plays",
        "state.max_marks",
    ],
    name="train",
    gone=no_challenger,
)
def train(task: Task) -> None:
    """A challenger: models and rankers, judged on the last days, in a bundle that is not published yet."""
    task.wrote(CHALLENGER, rows=train_challenger(task).tracks)


@step(
    reads=[Read(CHALLENGER), Read(t.EVENTS, tracked=False)],
    writes=[t.VERDICTS],
    partition="whole",
    settings=["gate.tolerance"],
    name="publish",
    gone=no_champion,
)
def publish(task: Task) -> None:
    """The gate: the challenger becomes the champion unless it ranks worse."""
    task.wrote(t.VERDICTS, rows=publish_challenger(task))


@step(
    reads=[Read(t.EVENTS), Read(t.LISTENERS)],
    writes=[STATE],
    partition="whole",
    settings=["state.max_plays", "state.max_marks"],
    name="state",
    gone=no_state,
)
def state(task: Task) -> None:
    """Listeners' latest plays and marks, where requests read them."""
    task.wrote(STATE, fill_state(task.engine, task.settings, task.stores.state, task.days.last))


@step(reads=[], writes=[MAINTENANCE], partition="upkeep", name=MAINTAIN)
def look_after(task: Task) -> None:
    """Tables looked after: days that are kept no longer dropped, small files merged, files that nobody needs deleted."""
    task.wrote(MAINTENANCE, rows=maintain(task.engine, task.settings, task.as_of, task.say))


BUILD: tuple[Step, ...] = (
    build_events,
    build_sessions,
    build_listens,
    build_daily_tracks,
    build_daily_artists,
    build_daily_listeners,
    build_co_listens,
    build_outcomes,
    build_debuts,
)
PUBLISH: tuple[Step, ...] = (train, publish, state)
FLOW: tuple[Step, ...] = (*BUILD, *PUBLISH)
UPKEEP: tuple[Step, ...] = (look_after,)
STEPS: tuple[Step, ...] = (*FLOW, *UPKEEP)

LAND: Final = "land"
"""What comes before the steps: taking in what servers logged. It writes the tables that the flow starts from."""
LANDED: Final = (
    t.RAW_EVENTS,
    t.EXPOSURES,
    t.CANDIDATES,
    t.REJECTS,
    t.TRACKS,
    t.ARTISTS,
    t.LISTENERS,
)


class Listed(Struct, frozen=True):
    """A step as a scheduler sees it: what it reads and writes, and behind which other steps it comes."""

    step: str
    doc: str
    partition: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    after: tuple[str, ...]


def listed() -> list[Listed]:
    """The landing and all steps, in the order they run."""
    writer = {table.name: LAND for table in LANDED}
    writer |= {table.name: made.name for made in STEPS for table in made.writes}
    landing = Listed(
        LAND, "What servers logged, into tables.", "log", (), tuple(table.name for table in LANDED), ()
    )
    return [
        landing,
        *(
            Listed(
                made.name,
                made.doc,
                made.partition,
                tuple(read.table.name for read in made.reads),
                tuple(table.name for table in made.writes),
                tuple(dict.fromkeys(writer[r.table.name] for r in made.reads if r.table.name in writer)),
            )
            for made in STEPS
        ),
    ]
