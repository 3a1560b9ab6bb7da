"""The platform behind the server: one bundle at a time, listener state, the event log and the exposure log."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from segue.bundle import Bundle
from segue.bundle.catalogue import EXPLICIT, PUBLIC, Catalogue
from segue.contracts.errors import InvalidInput, NotFound, SegueError, Unavailable
from segue.contracts.experiments import Experiment
from segue.contracts.ids import named_id
from segue.contracts.vocabulary import MINUTE
from segue.events import changes
from segue.events.changes import Stamps
from segue.events.flood import ListenerLimit
from segue.events.incoming import decode_body
from segue.events.records import EXPOSURES_TOPIC, encode_exposure
from segue.events.tracks import decode_track, decode_tracks, removal
from segue.experiments.definition import bundles_of
from segue.experiments.store import Kept, Stamp
from segue.listener.state import ADD, BLOCK, FOLLOW, HIDE, LIKE, PLAY, REPOST, ListenerState, anonymous
from segue.recommend.api import Request, Response
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Answer, Recommender
from segue.serving.platform import (
    EventResult,
    ExperimentAnswer,
    Health,
    ListenerProfile,
    ListenerSummary,
    Mark,
    Play,
    Receipt,
    TrackInfo,
)
from segue.settings.surfaces import Surface
from segue.settings.tree import Settings
from segue.wiring.background import BackgroundWriter
from segue.wiring.catalogue import Changes
from segue.wiring.collector import Collector
from segue.wiring.dead_letters import DeadLetters
from segue.wiring.exposures import exposure_of
from segue.wiring.follower import TOPIC, Follower, group_of
from segue.wiring.health import StateWatch
from segue.wiring.home import Home
from segue.wiring.slips import all_reached
from segue.wiring.variants import Beside, Variants

LOOK_EVERY_S = 0.5
"""How often a worker looks whether another bundle is CURRENT, and whether experiments changed."""
RETRY_S = 10.0
"""How long after an experiment's bundle did not open it is tried again."""
PROFILE_PLAYS = 50
EXPOSURES_WAITING = 100_000
"""Responses that wait for the log while it cannot be written."""
_log = logging.getLogger("segue.platform")
KINDS = {
    LIKE: "like",
    REPOST: "repost",
    FOLLOW: "follow",
    HIDE: "hide",
    BLOCK: "block_artist",
    ADD: "playlist_add",
}


class HomePlatform:
    """Implements `segue.serving.platform.Platform` over a home directory. Open one per process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._state = home.state
        self._exposures = BackgroundWriter(home.log, EXPOSURES_TOPIC, EXPOSURES_WAITING)
        group, limits = group_of(home.settings.state), home.settings.serving
        self._collector = Collector(
            home.log,
            TOPIC,
            lambda place: home.log.passed(TOPIC, group, place),
            limits.max_waiting_events,
        )
        self._slips = home.root / "following"
        self._changes = Collector(
            home.log,
            changes.TOPIC,
            lambda place: all_reached(self._slips, place),
            limits.max_waiting_events,
        )
        self._stamps = Stamps(lambda: time.time_ns() // 1000)
        self._listener_limit = ListenerLimit(limits.listener_events_per_s)
        self._dead_letters = DeadLetters(home.log, limits.dead_letters_per_s)
        self._dice = random.Random()
        self._beside = Beside(home.bundles, home.log, self._stamps, self._slips, self._warmed)
        self._variants: Variants | None = None
        """Answers by the experiments, over the champion."""
        self._live: tuple[Experiment, ...] = ()
        self._wanted: set[str] = set()
        """Bundles that variants answer from: those that are open, and why the others are not."""
        self._artifacts: dict[str, Artifacts] = {}
        self._failed: dict[str, str] = {}
        self._unfit: dict[str, str] = {}
        """What is wrong with experiments that therefore do not run."""
        self._seen: tuple[Stamp, str, frozenset[str], frozenset[str]] | None = None
        """The experiments' directory, the champion and the other bundles as last looked at."""
        self._turn = threading.Lock()
        """Held by who changes the champion or the experiments."""
        self._retry_at = 0.0
        self._champion: Recommender | None = None
        """Answers from the bundle that is CURRENT."""
        self._bundle: Bundle | None = None
        self._following: Changes | None = None
        """Keeps that bundle's catalogue up to date."""
        self._reason = "starting"
        self._closing = threading.Event()
        self._look()
        self._follower = Follower(home.log, home.state, self._facts, group)
        self._state_watch = StateWatch(home.state)
        # Apart from one another: a bundle takes seconds to open, and an experiment is stopped meanwhile all the same.
        self._watchers = [
            threading.Thread(target=self._watch, args=(look,), name=name, daemon=True)
            for name, look in (("bundles", self._look), ("experiments", self._look_at_experiments))
        ]
        for watcher in self._watchers:
            watcher.start()

    def recommend(self, request: Request) -> Response:
        """Answer one request and log the exposure."""
        response, note = self.prepare(request)
        note()
        return response

    def prepare(self, request: Request) -> tuple[Response, Callable[[], None]]:
        """The answer to one request, and what logs the exposure."""
        answer = self.answer(request)
        return answer.response, partial(self._expose, answer)

    def answer(self, request: Request) -> Answer:
        """Answer one request, with what the exposure log keeps of it."""
        if self._variants is None:
            raise self._no_bundle()
        return self._variants.answer(request)

    def _expose(self, answer: Answer) -> None:
        logged = self._home.settings.serving
        sampled = self._dice.random() < logged.log_sample_share
        exposure = exposure_of(answer, losers=logged.log_losers if sampled else None)
        self._exposures.add(encode_exposure(exposure))

    def track(self, track_id: int) -> TrackInfo:
        """The track. Raises NotFound."""
        catalogue = self._open().artifacts.catalogue
        at = int(catalogue.positions([track_id])[0])
        if at < 0 or not catalogue.flags[at] & PUBLIC:
            raise NotFound(f"track_id: {track_id} is not in the catalogue", field="track_id")
        return _info(catalogue, at)

    def search_tracks(self, text: str, limit: int) -> tuple[TrackInfo, ...]:
        """Public tracks by words of title or artist, most played first."""
        artifacts = self._open().artifacts
        return tuple(_info(artifacts.catalogue, int(at)) for at in artifacts.search(text, limit))

    def listener(self, user_id: int) -> ListenerProfile:
        """What is known of a listener; without consent their plays are not read."""
        catalogue = self._open().artifacts.catalogue
        state = self._state.read(user_id) or anonymous(user_id)
        plays = state.plays[::-1][:PROFILE_PLAYS] if state.consent else state.plays[:0]
        marks = state.marks[state.marks["on"]]
        return ListenerProfile(
            user_id=user_id,
            known=state.known,
            consent=state.consent,
            explicit_ok=state.explicit_ok,
            country=state.country,
            plan=state.plan,
            joined_at=state.joined_at,
            plays=tuple(_play(catalogue, row) for row in plays),
            marks=tuple(_mark(catalogue, row) for row in marks),
        )

    def listeners(self, query: str, limit: int) -> tuple[ListenerSummary, ...]:
        """The listener with that id, ours or SOURCE:ID; without a query, a handful from an arbitrary place on."""
        try:
            ids = [named_id("user", query)] if query else self._state.sample(limit)
        except ValueError:
            return ()
        found = (self._state.read(user_id) for user_id in ids)
        return tuple(_summary(state) for state in found if state is not None)

    def ingest(self, body: bytes, content_type: str, caller: str | None = None) -> Receipt:
        """Check the events of a body and hand the good ones to the collector. Raises InvalidInput, Overloaded."""
        now, limits = time.time_ns() // 1000, self._home.settings.serving
        incoming = decode_body(body, content_type, now, limits, self._listener_limit.admit)
        acknowledged = self._collector.submit(incoming.records)
        kept = self._dead_letters.keep(incoming.refused, caller, now)
        results = (
            EventResult(
                status=result.status,
                event_id=result.event_id,
                reason=result.reason,
                field=result.field,
                detail=result.message,
            )
            for result in incoming.results
        )
        return Receipt(tuple(results), acknowledged, kept)

    def change_track(self, track_id: int, body: bytes) -> Future[None]:
        """Check what is said of a track and hand it to the collector. Raises InvalidInput, Overloaded."""
        return self._changes.submit([decode_track(body, track_id, self._stamps.next())])

    def remove_track(self, track_id: int) -> Future[None]:
        """Hand to the collector that a track is not to be shown. Raises Overloaded."""
        return self._changes.submit([removal(track_id, self._stamps.next())])

    def change_tracks(self, body: bytes, content_type: str) -> Receipt:
        """Check the tracks of a body and hand the good ones to the collector. Raises InvalidInput, Overloaded."""
        incoming = decode_tracks(body, content_type, self._stamps.next, self._home.settings.serving)
        acknowledged = self._changes.submit(incoming.records)
        results = (
            EventResult(
                status=result.status,
                track_id=result.track_id,
                reason=result.reason,
                field=result.field,
                detail=result.message,
            )
            for result in incoming.results
        )
        return Receipt(tuple(results), acknowledged)

    def ready(self) -> tuple[bool, str]:
        """Whether a bundle is open and warm."""
        return (True, "ready") if self._champion is not None else (False, self._reason)

    def experiments(self) -> tuple[ExperimentAnswer, ...]:
        """The experiments of the home whose files can be read."""
        return tuple(map(_answered, self._home.experiments.all()[0]))

    def experiment(self, name: str) -> ExperimentAnswer:
        """One of them. Raises NotFound."""
        return _answered(self._home.experiments.get(name))

    def put_experiment(self, name: str, body: bytes) -> ExperimentAnswer:
        """Keep an experiment. Raises InvalidInput, Conflict."""
        try:
            tree = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"body: not JSON: {error}", field="body", limit="a JSON object") from error
        return _answered(self._home.experiments.put_tree(tree, name, _today()))

    def stop_experiment(self, name: str) -> ExperimentAnswer:
        """End one for good. Raises NotFound."""
        return _answered(self._home.experiments.stop(name, time.time_ns() // 1000))

    def delete_experiment(self, name: str) -> ExperimentAnswer:
        """Take one out. Raises NotFound."""
        return _answered(self._home.experiments.delete(name))

    def health(self) -> Health:
        """Whether listener state is read, it and the catalogue are kept up to date, and variants can be given."""
        following, variants = self._following, self._variants
        unable = {**self._unfit, **self._failed, **(variants.trouble if variants is not None else {})}
        parts = {
            "state": self._state_watch.trouble,
            "follower": self._follower.trouble,
            "catalogue": (following.trouble if following is not None else None) or self._beside.trouble,
            "experiments": "; ".join(f"{name}: {why}" for name, why in unable.items()) or None,
        }
        lacking = {part: trouble for part, trouble in parts.items() if trouble is not None}
        return Health(lacking, self._follower.lag_s(), self._follower.backlog)

    def bundle_version(self) -> str | None:
        """The version requests are answered from."""
        return self._champion.artifacts.version if self._champion else None

    def close(self) -> None:
        """Stop watching, write what waits, release the stores."""
        self._closing.set()
        for watcher in self._watchers:
            watcher.join()
        if self._following is not None:
            self._following.close()
        self._beside.drop(keep=())
        self._collector.close()
        self._changes.close()
        self._follower.close()
        self._state_watch.close()
        self._exposures.close()
        self._dead_letters.close()
        self._state.close()
        self._home.log.close()

    def _facts(self) -> Catalogue | None:
        return self._champion.artifacts.catalogue if self._champion else None

    def _open(self) -> Recommender:
        if self._champion is None:
            raise self._no_bundle()
        return self._champion

    def _no_bundle(self) -> Unavailable:
        return Unavailable(f"no bundle to answer from: {self._reason}", field="bundle")

    def _watch(self, look: Callable[[], None]) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                look()
            except Exception:  # noqa: BLE001 - without this thread nothing later would be seen
                _log.exception("what is published, or tried, could not be taken in")

    def _look(self) -> None:
        """See what is published and what is tried."""
        self._look_at_bundle()
        self._look_at_experiments()
        self._open_beside()

    def _look_at_experiments(self) -> None:
        """Take in another set of experiments, or other bundles for them. One whose bundle is yet to be opened waits for that."""
        with self._turn:
            champion, store = self._champion, self._home.experiments
            if champion is None:
                return
            opened, failed = frozenset(self._artifacts), frozenset(self._failed)
            try:
                seen = (store.stamp(), champion.artifacts.version, opened, failed)
                if seen == self._seen:
                    return
                live, unfit = store.live(_today())
            except OSError as error:  # what cannot be read leaves the experiments as they were
                self._unfit = {"experiments": str(error)}
                return
            self._wanted = {version for one in live for version in bundles_of(one)}
            known = {champion.artifacts.version, *opened, *failed}
            self._live = tuple(one for one in live if bundles_of(one) <= known)
            self._variants, self._unfit = self._varied(champion), unfit
            self._seen = seen

    def _open_beside(self) -> None:
        """Open the bundles that variants answer from; those that do not open are tried again."""
        wanted = {version for version in self._wanted if version != self.bundle_version()}
        due = self._failed and time.monotonic() > self._retry_at
        if wanted == {*self._artifacts, *self._failed} and not due:
            return
        self._artifacts, self._failed = self._beside.need(wanted)
        self._retry_at = time.monotonic() + RETRY_S
        for version, why in self._failed.items():
            _log.error("the bundle %s of an experiment does not open: %s", version, why)
        self._look_at_experiments()
        self._beside.drop(keep=wanted)

    def _varied(self, champion: Recommender) -> Variants:
        """Answers by the experiments as last seen."""
        return Variants(
            champion, self._live, self._home.settings, self._artifacts, self._recommender, self._state.read
        )

    def _look_at_bundle(self) -> None:
        """Open CURRENT if it is another bundle than ours. A bundle that does not open leaves the one before in place."""
        try:
            version = self._home.bundles.current()
            if version is None:
                self._reason = f"{self._home.root}: no bundle is published yet; run `segue run`"
            elif self._champion is None or version != self._champion.artifacts.version:
                before, opened = self._bundle, self._home.bundles.open(version)
                self._switch(self._recommender(self._warmed(opened), self._home.settings.surfaces))
                self._bundle = opened
                if before is not None:
                    before.give_back()
        except SegueError as error:
            self._reason = error.message
        except OSError as error:  # as when the bundle was removed while it was being opened
            self._reason = str(error)

    def _switch(self, champion: Recommender) -> None:
        """Answer from another bundle, once its catalogue has what came after it.

        Who answers from a bundle already stays with it while the log is away: what was withdrawn is withdrawn there.
        """
        before = self._following
        self._following = Changes(
            self._home.log,
            champion.artifacts,
            self._stamps,
            self._slips,
            later=before is None and self._home.settings.log.when_down == "bundle",
        )
        with self._turn:
            self._variants = self._varied(champion)
            self._champion = champion
        if before is not None:
            before.close()

    def _warmed(self, bundle: Bundle) -> Artifacts:
        """Load a bundle and answer one request of each surface, so that no listener pays for compiling."""
        artifacts = Artifacts.load(bundle)
        warm_up(artifacts, self._home.settings)
        return artifacts

    def _recommender(self, artifacts: Artifacts, surfaces: dict[str, Surface]) -> Recommender:
        settings = self._home.settings
        return Recommender(
            artifacts,
            surfaces,
            self._state.read,
            settings.serving.max_k,
            without_state=settings.state.when_down == "popular",
        )


def open_platform(
    root: Path, config: Path | None, environ: dict[str, str], overrides: tuple[str, ...]
) -> HomePlatform:
    """A platform of its own for one worker process, with one thread per matrix product."""
    threadpool_limits(limits=1)
    return HomePlatform(Home.open(root, config=config, environ=environ, overrides=overrides))


def warm_up(artifacts: Artifacts, settings: Settings) -> None:
    """Search, and answer each surface from each kind of seed, so that no real request pays for compiling."""
    artifacts.search("a", 1)
    tracks = artifacts.indexes.most_played[:5]
    if len(tracks) == 0:
        return
    catalogue = artifacts.catalogue
    ids = catalogue.track_id[tracks]
    now = time.time_ns() // 1000
    plays = np.zeros(len(ids), PLAY)
    plays["ts"] = plays["session_start"] = now - np.arange(len(ids))[::-1] * MINUTE
    plays["track_id"], plays["artist_id"], plays["listened"] = ids, -1, True
    known = ListenerState(0, plays=plays)
    patient = {n: msgspec.structs.replace(s, deadline_ms=60_000) for n, s in settings.surfaces.items()}
    recommender = Recommender(artifacts, patient, lambda _: known, settings.serving.max_k)
    seeds = [
        Request("", 0, track_id=int(ids[0])),
        Request("", None, track_id=int(ids[0]), session=tuple(ids.tolist())),
        Request("", 0),
        *(
            Request("", 0, artist_id=artist)
            for artist in catalogue.artists_of(tracks[:1]).tolist()
            if artist >= 0
        ),
    ]
    for surface, seed in product(patient, seeds):
        with suppress(InvalidInput):  # some surfaces need another kind of seed
            recommender.recommend(
                msgspec.structs.replace(seed, surface=surface, k=1, now=now, seed=0, why=True)
            )


def _today() -> date:
    return datetime.now(UTC).date()


def _answered(kept: Kept) -> ExperimentAnswer:
    return ExperimentAnswer(kept.experiment, kept.status(_today()), kept.stopped_at)


def _info(catalogue: Catalogue, at: int) -> TrackInfo:
    artist, genre = int(catalogue.artist[at]), int(catalogue.genre[at])
    duration, uploaded = int(catalogue.duration_ms[at]), int(catalogue.uploaded_at[at])
    return TrackInfo(
        track_id=int(catalogue.track_id[at]),
        title=catalogue.titles[at],
        artist_id=int(catalogue.artist_id[artist]) if artist >= 0 else None,
        artist=catalogue.artist_names[artist] if artist >= 0 else None,
        genre=catalogue.genres[genre] if genre >= 0 else None,
        duration_ms=duration if duration >= 0 else None,
        uploaded_at=uploaded if uploaded >= 0 else None,
        explicit=bool(catalogue.flags[at] & EXPLICIT),
    )


def _play(catalogue: Catalogue, row: np.void) -> Play:
    track_id = int(row["track_id"])
    at = int(catalogue.positions([track_id])[0])
    known = _info(catalogue, at) if at >= 0 else TrackInfo(track_id)
    return Play(
        ts=int(row["ts"]),
        track_id=track_id,
        title=known.title,
        artist_id=known.artist_id,
        artist=known.artist,
        genre=known.genre,
        ms_played=int(row["ms_played"]) if row["ms_played"] >= 0 else None,
        duration_ms=known.duration_ms,
        listened=bool(row["listened"]),
        skipped=bool(row["skipped"]),
    )


def _mark(catalogue: Catalogue, row: np.void) -> Mark:
    kind, target = int(row["kind"]), int(row["target_id"])
    title = None
    if kind in (FOLLOW, BLOCK):
        at = int(catalogue.artist_positions([target])[0])
        title = catalogue.artist_names[at] if at >= 0 else None
    else:
        at = int(catalogue.positions([target])[0])
        title = catalogue.titles[at] if at >= 0 else None
    return Mark(kind=KINDS[kind], target_id=target, ts=int(row["ts"]), title=title)  # type: ignore[arg-type]


def _summary(state: ListenerState) -> ListenerSummary:
    read = state.consent and len(state.plays) > 0
    return ListenerSummary(
        user_id=state.user_id,
        country=state.country,
        plan=state.plan,
        plays=len(state.plays) if read else 0,
        last_play=int(state.plays["ts"][-1]) if read else None,
        consent=state.consent,
    )
