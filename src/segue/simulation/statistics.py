"""How people listen, in numbers: the same statistics of any history of plays, to hold a simulation against real ones.

`python -m segue.simulation.statistics SESSIONS.parquet` reads 30Music's sample (Turrin et al. 2015), simulates a
service with the defaults and prints both sides; `--figure FILE.svg` draws them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segue.contracts.errors import InvalidData
from segue.contracts.vocabulary import SECOND, SESSION_GAP, EventType
from segue.simulation.catalogue import generate_catalogue
from segue.simulation.config import SimulationConfig
from segue.simulation.figure import Curve, Panel, draw
from segue.simulation.history import simulate_days

__all__ = ["PlayStatistics", "Plays", "cut_like_30music", "plays_of_events", "read_30music", "statistics"]

QUANTILES: Final = (10, 25, 50, 75, 90, 99)
RANKS: Final = (1, 10, 100, 1_000)
_COLUMNS: Final = ("session_id", "user_id", "song_id", "ts")


class Plays(NamedTuple):
    """Plays by listener and time: user, track, session (distinct across listeners) and ts (seconds), int64[n] each."""

    user: npt.NDArray[np.int64]
    track: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    ts: npt.NDArray[np.int64]


class PlayStatistics(msgspec.Struct, frozen=True):
    """Numbers of one history. Quantiles are those of QUANTILES; shares are of plays.

    session_plays: plays in a session; gap_seconds: between starts of consecutive plays of a session; away_hours: from a
    session's last start to the next session's first; repeats: of a track the listener played before, at all or in the
    same session; top_*: of the most played share of tracks; rank_share: plays of the track at each of RANKS over those
    of the first; gini: of plays over tracks; pairs_again: share of consecutive pairs of a session that occur elsewhere.
    """

    plays: int
    listeners: int
    tracks: int
    sessions: int
    plays_per_listener: float
    session_plays: tuple[float, ...]
    gap_seconds: tuple[float, ...]
    away_hours: tuple[float, ...]
    repeats: float
    repeats_in_session: float
    top_1_percent: float
    top_10_percent: float
    gini: float
    rank_share: tuple[float, ...]
    pairs_again: float


def statistics(plays: Plays) -> PlayStatistics:
    """The statistics of plays in the order of `Plays`; raises InvalidData without any."""
    n = len(plays.user)
    if n == 0:
        raise InvalidData("there are no plays to describe", field="plays", limit=">= 1")
    sizes = np.unique(plays.session, return_counts=True)[1]
    count = np.sort(np.unique(plays.track, return_counts=True)[1])[::-1]
    gap = np.diff(plays.ts)
    together = plays.session[1:] == plays.session[:-1]
    away = ~together & (plays.user[1:] == plays.user[:-1])
    pairs = _pair(plays.track[:-1][together], plays.track[1:][together])
    pair_counts = np.unique(pairs, return_counts=True)[1]
    return PlayStatistics(
        plays=n,
        listeners=len(np.unique(plays.user)),
        tracks=len(count),
        sessions=len(sizes),
        plays_per_listener=n / len(np.unique(plays.user)),
        session_plays=_quantiles(sizes),
        gap_seconds=_quantiles(gap[together]),
        away_hours=_quantiles(gap[away] / 3_600),
        repeats=1 - len(np.unique(_pair(plays.user, plays.track))) / n,
        repeats_in_session=1 - len(np.unique(_pair(plays.session, plays.track))) / n,
        top_1_percent=float(count[: max(len(count) // 100, 1)].sum() / n),
        top_10_percent=float(count[: max(len(count) // 10, 1)].sum() / n),
        gini=float(1 - 2 * (np.cumsum(count[::-1]).sum() / n - 0.5) / len(count)),
        rank_share=tuple(float(count[min(r, len(count)) - 1] / count[0]) for r in RANKS),
        pairs_again=float(pair_counts[pair_counts > 1].sum() / max(len(pairs), 1)),
    )


def cut_like_30music(plays: Plays, *, tracks: int, sessions_per_listener: float, seed: int) -> Plays:
    """Cut a history the way 30Music's sample was cut: the most played `tracks` only, a few sessions of each listener
    (geometric with the given mean), and of these the ones with three plays or more left."""
    ids, place, count = np.unique(plays.track, return_inverse=True, return_counts=True)
    kept = np.zeros(len(ids), bool)
    kept[np.argsort(-count, kind="stable")[:tracks]] = True
    plays = Plays(*(c[kept[place]] for c in plays))
    rng = np.random.default_rng(seed)
    session, first, size = np.unique(plays.session, return_index=True, return_counts=True)
    long = size >= 3
    session, owner = session[long], plays.user[first[long]]
    order = np.lexsort((rng.random(len(session)), owner))
    session, owner = session[order], owner[order]
    users, begin, inverse = np.unique(owner, return_index=True, return_inverse=True)
    quota = rng.geometric(1 / sessions_per_listener, len(users))
    chosen = session[np.arange(len(session)) - begin[inverse] < quota[inverse]]
    return Plays(*(c[np.isin(plays.session, chosen)] for c in plays))


def read_30music(path: Path) -> Plays:
    """The plays of the sample's sessions.parquet. Raises InvalidData if it is not that file."""
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InvalidData(
            f"{path} cannot be read as 30Music sessions ({error}); give its sessions.parquet with the columns "
            f"{', '.join(_COLUMNS)}",
            field="path",
        ) from error
    if set(_COLUMNS) - set(table.column_names):
        raise InvalidData(f"{path} lacks columns; it needs {', '.join(_COLUMNS)}", field="columns")
    session, user, track, ts = (table.column(c).to_numpy().astype(np.int64) for c in _COLUMNS)
    order = np.lexsort((ts, user))
    return Plays(user[order], track[order], session[order], ts[order])


def plays_of_events(events: pa.Table) -> Plays:
    """The plays of RAW_EVENTS rows; sessions are cut at silences of 30 minutes after a track's end."""
    rows = events.filter(pc.field("type") == str(EventType.PLAY))
    user, track, ts = (rows.column(c).to_numpy() for c in ("user_id", "track_id", "ts"))
    ends = ts + rows.column("ms_played").to_numpy().astype(np.int64) * 1_000
    order = np.lexsort((ts, user))
    user, track, ts, ends = user[order], track[order], ts[order], ends[order]
    new = np.concatenate([[True], (user[1:] != user[:-1]) | (ts[1:] - ends[:-1] > SESSION_GAP)])
    return Plays(user, track, np.cumsum(new), ts // SECOND)


def _pair(one: npt.NDArray[np.int64], two: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """One number per distinct pair."""
    a = np.unique(one, return_inverse=True)[1]
    names, b = np.unique(two, return_inverse=True)
    pair: npt.NDArray[np.int64] = a * max(len(names), 1) + b
    return pair


def _quantiles(values: npt.NDArray[np.integer] | npt.NDArray[np.floating]) -> tuple[float, ...]:
    if not len(values):
        return tuple(float("nan") for _ in QUANTILES)
    return tuple(float(q) for q in np.percentile(values, QUANTILES))


def simulate_plays(config: SimulationConfig) -> Plays:
    """The plays of a simulated service."""
    wanted = ["type", "user_id", "track_id", "ts", "ms_played"]
    days = simulate_days(config, generate_catalogue(config))
    return plays_of_events(pa.concat_tables([day.events.select(wanted) for day in days]))


def _table(columns: dict[str, PlayStatistics]) -> str:
    """A Markdown table, one column a history."""

    def numbers(values: tuple[float, ...], form: str) -> str:
        return " / ".join(format(v, form) for v in values)

    rows: list[tuple[str, list[str]]] = []
    sides = list(columns.values())
    for name, form in (("plays", ","), ("listeners", ","), ("tracks", ","), ("sessions", ",")):
        rows.append((name, [format(getattr(s, name), form) for s in sides]))
    rows.append(("plays per listener", [f"{s.plays_per_listener:.1f}" for s in sides]))
    rows.append(("plays in a session", [numbers(s.session_plays, ".0f") for s in sides]))
    rows.append(("seconds between starts in a session", [numbers(s.gap_seconds, ".0f") for s in sides]))
    rows.append(("hours between sessions", [numbers(s.away_hours, ".0f") for s in sides]))
    rows.append(("repeats: listener had played it before", [f"{s.repeats:.1%}" for s in sides]))
    rows.append(("repeats within the session", [f"{s.repeats_in_session:.1%}" for s in sides]))
    rows.append(("plays of the top 1% of tracks", [f"{s.top_1_percent:.1%}" for s in sides]))
    rows.append(("plays of the top 10% of tracks", [f"{s.top_10_percent:.1%}" for s in sides]))
    rows.append(("Gini of plays over tracks", [f"{s.gini:.2f}" for s in sides]))
    rows.append(
        (
            f"plays at rank {', '.join(map(str, RANKS))} over rank 1",
            [numbers(s.rank_share, ".2f") for s in sides],
        )
    )
    rows.append(("consecutive pairs seen elsewhere too", [f"{s.pairs_again:.1%}" for s in sides]))
    head = f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n"
    return head + "".join(f"| {name} | {' | '.join(cells)} |\n" for name, cells in rows)


def _figure(sides: dict[str, Plays]) -> str:
    """Session lengths, popularity and gaps of several histories, side by side."""
    lengths, popularity, gaps = [], [], []
    for name, plays in sides.items():
        sizes = np.unique(plays.session, return_counts=True)[1]
        at = np.arange(1, 61)
        lengths.append(Curve(name, at, np.array([(sizes >= k).mean() for k in at])))
        count = np.sort(np.unique(plays.track, return_counts=True)[1])[::-1]
        rank = np.unique(np.geomspace(1, len(count), 80).astype(np.int64))
        popularity.append(Curve(name, rank / len(count), count[rank - 1] / count.mean()))
        gap = np.diff(plays.ts)[plays.session[1:] == plays.session[:-1]]
        apart = np.geomspace(5, 3_600, 60)
        gaps.append(Curve(name, apart, np.array([(gap >= x).mean() for x in apart])))
    return draw(
        [
            Panel("Sessions with at least so many plays", "plays in a session", "share of sessions", lengths),
            Panel("Popularity", "rank, as a share of all tracks", "plays, over the mean track's", popularity),
            Panel("Starts at least so far apart", "seconds, within a session", "share of gaps", gaps),
        ]
    )


def main(arguments: list[str], config: SimulationConfig) -> int:
    """Compare a simulated service to 30Music's sample."""
    parser = argparse.ArgumentParser(prog="python -m segue.simulation.statistics", description=main.__doc__)
    parser.add_argument("path", type=Path, help="30Music's sessions.parquet")
    parser.add_argument("--figure", type=Path, help="write the curves to this SVG file")
    chosen = parser.parse_args(arguments)
    real = read_30music(chosen.path)
    real_numbers = statistics(real)
    ours = simulate_plays(config)
    cut = cut_like_30music(
        ours,
        tracks=len(np.unique(ours.track)) // 4,
        sessions_per_listener=real_numbers.sessions / real_numbers.listeners,
        seed=1,
    )
    sides = {"30Music sample": real, "simulated, cut the same way": cut, "simulated": ours}
    sys.stdout.write(_table({name: statistics(plays) for name, plays in sides.items()}))
    if chosen.figure is not None:
        chosen.figure.write_text(_figure(sides), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], SimulationConfig()))
