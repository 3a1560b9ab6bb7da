"""Spark MLlib's ALS against ours: what each finds of the same sessions, judged on `home` of real plays.

    python -m benchmarks.als 30music/sessions.parquet --split 2014-12-21

Both are fitted on sessions, as in training, with the settings as shipped; in both, listeners are folded in by our solver from
the tracks they had heard. Both are fitted with other regularizations as well, since what is best for one is not for the other.
Seconds are on the wall: Java does its work in a process of its own. The first fit also starts it.
"""

from __future__ import annotations

import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as Grid

from segue.contracts.vocabulary import SECOND
from segue.evaluation.bootstrap import paired
from segue.evaluation.protocols import HOME, Evaluation, Ids, Plays, Split, Task, evaluate, temporal_split
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions, top_k
from segue.settings.tree import Settings, Training, Warehouse
from segue.wiring.engines import open_factorizer

METRICS = ("recall@50", "ndcg@50")
LISTEN_S = 30
OTHERS = (0.1, 10.0)
"""Regularizations beside the shipped one, as multiples of it."""
Found = tuple[str, float, Evaluation]


def main() -> None:
    """Print a line for each fit."""
    asked = _arguments()
    split = temporal_split(_plays(asked.path), int(asked.split.replace(tzinfo=UTC).timestamp()) * SECOND)
    out, found = Console(width=150), list[Found]()
    for one in _fits(split, asked.repeats, asked.factors):
        out.print(f"{one[0]}: {one[1]:.1f} s", style="dim")
        found.append(one)
    ours = found[0][2]
    task = split.tasks[HOME]
    grid = Grid(
        "model",
        *METRICS,
        "ndcg@50 against ours",
        "s",
        title=f"home, {task.n_cases:,} listeners",
        title_justify="left",
    )
    for name, seconds, result in found:
        measured = result.metrics()
        shown = [
            f"{m.value:.4f} [{m.ci95[0]:.4f}, {m.ci95[1]:.4f}]" for m in map(measured.__getitem__, METRICS)
        ]
        lead = "" if result is ours else _lead(result, ours)
        grid.add_row(name, *shown, lead, f"{seconds:.1f}")
    out.print(grid)


def _fits(split: Split, repeats: int, factors: int) -> Iterator[Found]:
    """Ours first, then Spark's."""
    train, shipped = split.train, Training()
    rows = np.repeat(np.arange(len(train.user)), np.diff(train.indptr))
    sessions = Interactions.from_pairs(
        rows, train.items, n_users=len(train.user), n_items=train.n_items
    ).binary()
    config = IALSConfig(
        factors=factors,
        epochs=shipped.epochs,
        regularization=shipped.regularization,
        unobserved_weight=shipped.unobserved,
        seed=shipped.seed,
        threads=2,
    )
    IALS.fit(sessions, msgspec.structs.replace(config, epochs=1))  # compiles
    for times in (*[1.0] * repeats, *OTHERS):
        other = msgspec.structs.replace(config, regularization=times * config.regularization)
        started = time.perf_counter()
        model = IALS.fit(sessions, other)
        yield (
            f"ours, {times:g} x regularization",
            time.perf_counter() - started,
            _judged(split, model, config),
        )
    with tempfile.TemporaryDirectory(prefix="segue-als-") as folder:
        settings = Settings(training=Training(als="spark"), warehouse=Warehouse(threads=2))
        spark = open_factorizer(Path(folder), settings)
        assert spark is not None
        for times in (*[1.0] * repeats, *OTHERS):
            other = msgspec.structs.replace(config, regularization=times * config.regularization)
            started = time.perf_counter()
            found = IALS.fit_by(spark, sessions, other)
            seconds = time.perf_counter() - started
            yield f"Spark, {times:g} x regularization", seconds, _judged(split, found, config)


def _judged(split: Split, fitted: IALS, config: IALSConfig) -> Evaluation:
    # Listeners are folded in with the shipped settings, whatever the tracks were fitted with.
    model = IALS.of_items(fitted.item_factors, config)

    def scorer(task: Task, rows: slice) -> Ids:
        indptr, items, _ = split.histories(task.listener[rows])
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        heard = Interactions.from_pairs(row, items, n_users=len(indptr) - 1, n_items=model.n_items).binary()
        found: Ids = top_k(model.scores(heard), task.cut)[0]
        return found

    return evaluate(split.tasks[HOME], scorer)


def _lead(mine: Evaluation, ours: Evaluation) -> str:
    found = paired(mine.per_case["ndcg@50"], ours.per_case["ndcg@50"], ours.user)
    return f"{found.difference:+.4f} [{found.lo:+.4f}, {found.hi:+.4f}]"


def _plays(path: Path) -> Plays:
    """Plays of 30 s or more."""
    rows = pq.read_table(path)
    rows = rows.filter(pc.greater_equal(rows["playtime"], LISTEN_S))
    user, track, ts, session = (rows[name].to_numpy() for name in ("user_id", "song_id", "ts", "session_id"))
    return Plays(user, track, ts * SECOND, session)


def _arguments() -> Namespace:
    parser = ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path, help="30Music's sessions.parquet")
    parser.add_argument("--split", type=datetime.fromisoformat, required=True, help="UTC day to judge from")
    parser.add_argument("--repeats", type=int, default=2, help="how often the shipped settings are fitted")
    parser.add_argument("--factors", type=int, default=Training().factors, help="dimensions")
    return parser.parse_args()


if __name__ == "__main__":
    main()
