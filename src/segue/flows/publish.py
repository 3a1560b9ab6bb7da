"""Train a challenger, judge it against the champion, publish it or say why not, and bring listener state up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

import segue
from segue.bundle import BundleStore, Manifest
from segue.contracts.errors import InvalidData
from segue.contracts.ports import Engine, StateStore
from segue.contracts.tables import EVENTS, LISTENERS
from segue.contracts.vocabulary import DAY
from segue.evaluation.backtest import Backtest, backtest, load_split, measure, sampled
from segue.evaluation.protocols import Split
from segue.flows.gate import GATED, Verdict, judge, save_cases, saved_cases
from segue.flows.ledger import Ledger
from segue.listener.codec import decode, encode
from segue.listener.fold import Profiles, fold_table, merge
from segue.recommend.artifacts import Artifacts
from segue.settings.tree import Settings
from segue.training.build import train, write

Progress = Callable[[str], None]
TABLES = ("events", "tracks", "artists", "listeners")
"""Tables that a bundle is made from."""
STATE_EVENTS_DAYS = 400
"""Events older than this do not enter listener state."""


@dataclass(frozen=True)
class Published:
    """What became of a challenger. `manifest` is None where the champion is already made from these inputs."""

    manifest: Manifest | None
    verdict: Verdict | None
    backtest: Backtest | None


def train_and_publish(
    engine: Engine,
    settings: Settings,
    store: BundleStore,
    progress: Progress,
    *,
    force: bool = False,
    with_baselines: bool = False,
) -> Published:
    """Train, judge, and publish or refuse. Does nothing if the champion was made from the same inputs."""
    inputs = fingerprint(engine, settings)
    current = store.current()
    if (
        current is not None
        and not force
        and store.open(current, verify=False).manifest.notes.get("inputs") == inputs
    ):
        progress(f"{current} is up to date")
        return Published(None, None, None)
    split = sampled(load_split(engine, None), settings.gate.max_requests)
    progress("backtest")
    tested = backtest(engine, settings, split, progress, tasks=tuple(GATED), with_baselines=with_baselines)
    mine = {task: models["segue"] for task, models in tested.evaluations.items()}
    verdict = judge(mine, _champion(engine, settings, store, split, progress), settings.gate.tolerance)
    progress("training on everything")
    trained = train(engine, settings, _until(engine), progress)
    metrics = {
        task: {name: float(values.mean()) for name, values in found.per_case.items()}
        for task, found in mine.items()
    }
    manifest = write(
        trained,
        store,
        settings,
        metrics,
        notes={"inputs": inputs, "gate": verdict.reason},
        extra=lambda writer: save_cases(writer, mine, split.protocol.split),
    )
    if verdict.passed:
        store.publish(manifest.version)
        store.prune(settings.bundles.keep)
    return Published(manifest, verdict, tested)


def fill_state(engine: Engine, settings: Settings, state: StateStore) -> int:
    """Merge what the warehouse knows of every listener into the state store. Returns how many were written.

    Merged, not stored over: what came in by HTTP since the last landing stays.
    """
    until = _until(engine)
    events = engine.read(EVENTS)
    names = ["user_id", "ts", "type", "track_id", "artist_id", "ms_played", "listened", "skipped"]
    recent = events.filter(events.ts >= until - STATE_EVENTS_DAYS * DAY).select(*names)
    batches = engine.stream(recent.order_by(["user_id", "ts"]))
    profiles = Profiles(engine.collect(engine.read(LISTENERS)))

    def merged(user_id: int, record: bytes) -> bytes:
        before = state.get(user_id)
        return encode(merge(decode(record), decode(before), settings.state)) if before is not None else record

    return state.load(
        (user, merged(user, record))
        for user, record in fold_table(batches, settings.state, profiles=profiles)
    )


def fingerprint(engine: Engine, settings: Settings) -> str:
    """Changes whenever a bundle made now would differ: tables, training settings, recipes, code."""
    entries = Ledger(engine).entries()
    digest = hashlib.sha256(segue.__version__.encode())
    for (table, day), entry in sorted(entries.items()):
        if table in TABLES:
            digest.update(f"{table} {day} {entry.version}\n".encode())
    digest.update(msgspec.json.encode((settings.training, settings.surfaces), order="deterministic"))
    return digest.hexdigest()[:16]


def _champion(
    engine: Engine, settings: Settings, store: BundleStore, split: Split, progress: Progress
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The champion's results on the split's cases: as it stands if it has not seen them, else as it was judged."""
    if store.current() is None:
        return {}
    champion = store.open()
    saved = saved_cases(champion, split.protocol.split)
    if saved:
        return saved
    seen_until = np.datetime64(champion.manifest.data_through) + np.timedelta64(1, "D")
    if int(seen_until.astype("datetime64[us]").astype(np.int64)) > split.protocol.split:
        return {}
    progress(f"champion {champion.version} on the same requests")
    found = measure(engine, settings, Artifacts.load(champion), split, progress, tasks=tuple(GATED))
    return {task: found[task].per_case[metric] for task, metric in GATED.items()}


def _until(engine: Engine) -> int:
    """The end of the last day that holds events, microseconds."""
    days = engine.days(EVENTS)
    if days is None:
        raise InvalidData(
            "there are no events: `segue import` or `segue simulate` first, then `segue run`", field="events"
        )
    return int(np.datetime64(days.last, "us").astype(np.int64)) + DAY
