"""Train a challenger, judge it against the champion, publish it or say why not, and bring listener state up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

import segue
from segue.bundle import Bundle, BundleStore, Manifest
from segue.contracts.errors import BundleCorrupt, InvalidData, NotFound
from segue.contracts.ports import Engine
from segue.contracts.tables import EVENTS, LISTENERS
from segue.contracts.vocabulary import DAY
from segue.evaluation.backtest import Backtest, backtest, load_split, measure, sampled
from segue.evaluation.protocols import Split
from segue.flows.gate import GATED, Verdict, judge, save_cases, saved_cases
from segue.flows.ledger import Ledger
from segue.listener.fold import Profiles, fold_table
from segue.listener.states import ListenerStates
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
    until = _until(engine)
    inputs = fingerprint(engine, settings)
    champion = _champion(store, progress)
    if champion is not None and not force and champion.manifest.notes.get("inputs") == inputs:
        progress(f"{champion.version} is up to date")
        return Published(None, None, None)
    split = sampled(
        load_split(engine, None, listens_only=True, last_days=settings.gate.days), settings.gate.max_requests
    )
    progress("backtest")
    tested = backtest(engine, settings, split, progress, tasks=tuple(GATED), with_baselines=with_baselines)
    mine = {task: models["segue"] for task, models in tested.evaluations.items()}
    verdict = judge(mine, _results(engine, settings, champion, split, progress), settings.gate.tolerance)
    # The rankers that were judged are the ones that are served; what they rank is fitted anew, on everything.
    progress("fitting on everything")
    trained = train(engine, settings, until, progress, tested.rankers)
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


def fill_state(engine: Engine, settings: Settings, states: ListenerStates) -> int:
    """Merge what the warehouse knows of every listener into their states. Returns how many were written.

    Merged, not stored over: what came in by HTTP since the last landing stays.
    """
    until = _until(engine)
    events = engine.read(EVENTS)
    names = ["user_id", "ts", "type", "track_id", "artist_id", "ms_played", "listened", "skipped"]
    recent = events.filter(events.ts >= until - STATE_EVENTS_DAYS * DAY).select(*names)
    batches = engine.stream(recent.order_by(["user_id", "ts"]))
    profiles = Profiles(engine.collect(engine.read(LISTENERS)))
    return states.fill(fold_table(batches, settings.state, profiles=profiles))


def fingerprint(engine: Engine, settings: Settings) -> str:
    """Changes whenever a bundle made now would differ: tables, training settings, recipes, code."""
    entries = Ledger(engine).entries()
    digest = hashlib.sha256(segue.__version__.encode())
    for (table, day), entry in sorted(entries.items()):
        if table in TABLES:
            digest.update(f"{table} {day} {entry.version}\n".encode())
    digest.update(msgspec.json.encode((settings.training, settings.surfaces), order="deterministic"))
    return digest.hexdigest()[:16]


def _champion(store: BundleStore, progress: Progress) -> Bundle | None:
    """The champion; None where there is none, or where it is damaged and needs a successor whatever that is like."""
    try:
        return store.open() if store.current() is not None else None
    except (BundleCorrupt, NotFound) as error:
        progress(f"the champion does not open, so its successor is not compared with it: {error.message}")
        return None


def _results(
    engine: Engine, settings: Settings, champion: Bundle | None, split: Split, progress: Progress
) -> dict[str, npt.NDArray[np.float64]]:
    """The champion's results on the split's cases: as it stands if it has not seen them, else as it was judged."""
    if champion is None:
        return {}
    saved = saved_cases(champion, split.protocol.split)
    if saved:
        return saved
    seen_until = np.datetime64(champion.manifest.data_through) + np.timedelta64(1, "D")
    if int(seen_until.astype("datetime64[us]").astype(np.int64)) > split.protocol.split:
        return {}
    progress(f"champion {champion.version} on the same requests")
    try:
        artifacts = Artifacts.load(champion)
    except (BundleCorrupt, InvalidData, NotFound) as error:  # written by another version
        progress(f"the champion is not compared with: {error.message}")
        return {}
    found = measure(engine, settings, artifacts, split, progress, tasks=tuple(GATED))
    return {task: found[task].per_case[metric] for task, metric in GATED.items()}


def _until(engine: Engine) -> int:
    """The end of the last day that holds events, microseconds."""
    days = engine.days(EVENTS)
    if days is None:
        raise InvalidData(
            "there are no events: `segue import` or `segue simulate` first, then `segue run`", field="events"
        )
    return int(np.datetime64(days.last, "us").astype(np.int64)) + DAY
