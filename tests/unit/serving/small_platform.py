"""A small, real implementation of the server's port: a few hundred tracks in memory, one file of events on disk.

Several workers share the file, as they share the log and the state of a real platform: an event posted to
one is seen by all. Recommendations follow genres the listener played; hidden tracks and blocked artists
never come back. A few listener ids fail on purpose, so that tests can see how the server reports it.

Run as a program it serves: python small_platform.py --port 8123 --workers 2 --events FILE
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from segue.bundle import BundleStore
from segue.contracts.errors import InvalidInput, NotFound, Overloaded, Unavailable
from segue.contracts.ids import format_id, new_id
from segue.contracts.vocabulary import NEEDS_ARTIST, EventType
from segue.events.incoming import decode_body
from segue.events.records import Event
from segue.events.tracks import decode_track, decode_tracks, removal
from segue.experiments.store import ExperimentStore, Kept
from segue.recommend.api import Item, Reason, Request, Response, Shelf, Stage, Trace
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
from segue.serving.server import serve
from segue.settings.tree import Serving, Settings

TRACKS, ARTISTS, LISTENERS = 320, 40, 60
BIG_TRACK = 2**62 + 12345
"""An id that a JSON parser working with doubles would round."""
BIG_USER = 2**61 + 7
NO_CONSENT_USER = 58
CRASHES, IS_DOWN, IS_BUSY, IS_SLOW, IS_SLOWER = range(900_001, 900_006)
MARKUP_TRACK = 3
NOW = 1_795_000_000_000_000
TODAY = datetime.fromtimestamp(NOW / 1e6, UTC).date()

GENRES = ("ambient", "techno", "folk", "jazz", "hip-hop", "indie", "classical", "dub")
_FIRST = (
    "Night",
    "Paper",
    "Glass",
    "Slow",
    "Copper",
    "Northern",
    "Velvet",
    "Salt",
    "Hollow",
    "Electric",
    "Morning",
    "Low",
)
_SECOND = (
    "Bus",
    "Rivers",
    "Garden",
    "Signal",
    "Tides",
    "Window",
    "Parade",
    "Letters",
    "Engine",
    "Harbour",
    "Moth",
    "Stairs",
)
_NAMES = (
    "Ona",
    "Terminal Five",
    "Kesi",
    "The Lanterns",
    "Mira Vale",
    "Oslo Twin",
    "Duna",
    "Pale Fox",
    "Ruben K",
    "Sol & Iris",
)
_COUNTRIES = ("DE", "NG", "BR", "US", "JP", "PL")
_MARKS = {"like": True, "unlike": False, "repost": True, "unrepost": False, "follow": True, "unfollow": False}
_MARKS |= {"playlist_add": True, "hide": True, "block_artist": True}
_KIND = {"unlike": "like", "unrepost": "repost", "unfollow": "follow"}


def catalogue() -> dict[int, TrackInfo]:
    """The tracks, the same in every process."""
    rng = random.Random(7)
    tracks = {}
    for n in range(TRACKS):
        track_id = BIG_TRACK if n == TRACKS - 1 else n
        artist = rng.randrange(ARTISTS)
        title: str | None = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}" + (
            f" {n % 9}" if n % 4 == 0 else ""
        )
        if n == MARKUP_TRACK:
            title = '<img src=x onerror=alert(1)> & "quotes"'
        elif n == 5:
            title = None
        elif n == 8:
            title = (
                "A Title Which Goes On For Rather Longer Than Anybody Who Set Out To Write It Can Have Intended "
                * 2
            )
        tracks[track_id] = TrackInfo(
            track_id=track_id,
            title=title,
            artist_id=artist,
            artist=f"{_NAMES[artist % len(_NAMES)]}{'' if artist < len(_NAMES) else f' {artist // len(_NAMES) + 1}'}",
            genre=GENRES[artist % len(GENRES)] if n != 5 else None,
            tags=("demo",),
            duration_ms=60_000 + rng.randrange(200_000),
            uploaded_at=NOW - rng.randrange(10**15),
        )
    return tracks


@dataclass
class Person:
    """A listener as folded from the file."""

    user_id: int
    plays: list[Play] = field(default_factory=list)
    marks: dict[tuple[str, int], tuple[bool, int]] = field(default_factory=dict)

    def marked(self, kind: str) -> set[int]:
        """Targets of the standing marks of that kind."""
        return {target for (k, target), (on, _) in self.marks.items() if k == kind and on}


class SmallPlatform:
    """The port of segue.serving.platform over `events`, a file of JSON lines shared by all workers."""

    def __init__(self, events: Path, limits: Serving, ready_after: Path | None = None) -> None:
        self._events = events
        self._limits = limits
        self._ready_after = ready_after
        self._tracks = catalogue()
        self._shuffle = random.Random()
        folder = events.parent
        self._store = ExperimentStore(folder / "experiments", Settings(), BundleStore(folder / "bundles"))
        events.touch()

    def prepare(self, request: Request) -> tuple[Response, Callable[[], None]]:
        """An answer, which nobody notes."""
        return self.recommend(request), lambda: None

    def recommend(self, request: Request) -> Response:
        """Tracks of the genres the listener played, never a hidden one or one of a blocked artist."""
        _fail_on_purpose(request.user_id)
        if request.surface == "related" and request.track_id is None:
            raise InvalidInput("track_id: `related` starts from a track; send one", field="track_id")
        began = time.perf_counter()
        person = self._person(request.user_id) if self._personal(request.user_id) else None
        pool, removed = self._pool(request, person)
        chosen = pool[: request.k]
        items = tuple(self._item(track, n, request, person) for n, track in enumerate(chosen))
        below = tuple(
            self._item(track, n, msgspec.structs.replace(request, why=False), None)
            for n, track in enumerate(pool[request.k : request.k + 24], request.k)
        )
        ms = (time.perf_counter() - began) * 1000
        removed["lost"] = len(pool) - len(chosen)
        degraded = request.surface == "station"
        stages = (
            Stage("hydrate", ms * 0.1, 1),
            Stage("source:genres", ms * 0.5, len(pool)),
            Stage("source:co_listened", 50.0, 0, "no answer within 50 ms")
            if degraded
            else Stage("source:trending", ms * 0.1, 50),
            Stage("filter", ms * 0.1, len(pool)),
            Stage("score", ms * 0.2, len(pool)),
        )
        return Response(
            request_id=format_id(new_id()),
            surface=request.surface,
            user_id=request.user_id,
            ts=time.time_ns() // 1000,
            bundle="2026-11-21-4f1c",
            config="9b1d",
            items=items,
            shelves=_shelves(items, below) if request.surface == "home" else (),
            trace=Trace(
                stages,
                removed,
                person is not None and bool(person.plays),
                ("source:co_listened",) if degraded else (),
            ),
        )

    def track(self, track_id: int) -> TrackInfo:
        """The track. Raises NotFound."""
        if track_id not in self._tracks:
            raise NotFound(f"track {track_id} is not in the catalogue", field="track_id")
        return self._tracks[track_id]

    def listener(self, user_id: int) -> ListenerProfile:
        """The listener; without consent their plays stay unread."""
        _fail_on_purpose(user_id)
        person = self._person(user_id)
        consent = user_id != NO_CONSENT_USER
        marks = [
            msgspec.convert(
                {"kind": kind, "target_id": target, "ts": ts, "title": self._name(kind, target)}, Mark
            )
            for (kind, target), (on, ts) in person.marks.items()
            if on
        ]
        return ListenerProfile(
            user_id=user_id,
            known=user_id < LISTENERS or user_id == BIG_USER or bool(person.plays or person.marks),
            consent=consent,
            explicit_ok=True,
            country=_COUNTRIES[user_id % len(_COUNTRIES)],
            plan="premium" if user_id % 3 == 0 else "free",
            plays=tuple(sorted(person.plays, key=lambda p: -p.ts)[:100]) if consent else (),
            marks=tuple(sorted(marks, key=lambda m: -m.ts)),
        )

    def listeners(self, query: str, limit: int) -> tuple[ListenerSummary, ...]:
        """The listener with that id, or a random handful."""
        ids = [u for u in [*range(LISTENERS), BIG_USER] if not query or str(u) == query]
        if not query:
            self._shuffle.shuffle(ids)
        return tuple(self._summary(u) for u in ids[:limit])

    def search_tracks(self, text: str, limit: int) -> tuple[TrackInfo, ...]:
        """Tracks whose title or artist contains the text."""
        words = text.casefold()
        fits = (t for t in self._tracks.values() if words in f"{t.title} {t.artist}".casefold())
        return tuple(fits)[:limit]

    def ingest(self, body: bytes, content_type: str, caller: str | None = None) -> Receipt:
        """Check each event, append the good ones to the file."""
        incoming = decode_body(body, content_type, time.time_ns() // 1000, self._limits)
        lines = [msgspec.json.encode(event) + b"\n" for event in incoming.events]
        with self._events.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"".join(lines))
        written: Future[None] = Future()
        written.set_result(None)
        results = (
            EventResult(r.status, event_id=r.event_id, reason=r.reason, field=r.field, detail=r.message)
            for r in incoming.results
        )
        return Receipt(tuple(results), written)

    def change_track(self, track_id: int, body: bytes) -> Future[None]:
        """Check the change and append it to the file of changes."""
        return self._change([decode_track(body, track_id, time.time_ns() // 1000)])

    def remove_track(self, track_id: int) -> Future[None]:
        """Append that the track is not to be shown."""
        return self._change([removal(track_id, time.time_ns() // 1000)])

    def change_tracks(self, body: bytes, content_type: str) -> Receipt:
        """Check each track, append the good ones."""
        incoming = decode_tracks(body, content_type, lambda: time.time_ns() // 1000, self._limits)
        results = (
            EventResult(r.status, track_id=r.track_id, reason=r.reason, field=r.field, detail=r.message)
            for r in incoming.results
        )
        return Receipt(tuple(results), self._change(incoming.records))

    def _change(self, records: list[bytes]) -> Future[None]:
        with self._events.with_name("tracks.log").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"".join(len(record).to_bytes(4, "big") + record for record in records))
        written: Future[None] = Future()
        written.set_result(None)
        return written

    def experiments(self) -> tuple[ExperimentAnswer, ...]:
        """Those in the folder beside the events."""
        return tuple(map(_answered, self._store.all()[0]))

    def experiment(self, name: str) -> ExperimentAnswer:
        """One of them."""
        return _answered(self._store.get(name))

    def put_experiment(self, name: str, body: bytes) -> ExperimentAnswer:
        """Keep one."""
        try:
            tree = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"body: not JSON: {error}", field="body") from error
        return _answered(self._store.put_tree(tree, name, TODAY))

    def stop_experiment(self, name: str) -> ExperimentAnswer:
        """End one."""
        return _answered(self._store.stop(name, NOW))

    def delete_experiment(self, name: str) -> ExperimentAnswer:
        """Take one out."""
        return _answered(self._store.delete(name))

    def ready(self) -> tuple[bool, str]:
        """Ready, unless it waits for a file that is not there yet."""
        if self._ready_after is not None and not self._ready_after.exists():
            return False, f"no bundle in {self._ready_after.name}; publish one"
        return True, ""

    def health(self) -> Health:
        """Everything works."""
        return Health({})

    def bundle_version(self) -> str | None:
        """The version, once ready."""
        return "2026-11-21-4f1c" if self.ready()[0] else None

    def close(self) -> None:
        """Leave a line that says the platform was closed in order."""
        with self._events.with_suffix(".closed").open("a") as file:
            file.write("closed\n")

    def _personal(self, user_id: int | None) -> bool:
        return user_id is not None and user_id != NO_CONSENT_USER

    def _person(self, user_id: int | None) -> Person:
        person = Person(-1 if user_id is None else user_id)
        if user_id is not None and (user_id < LISTENERS or user_id == BIG_USER):
            rng = random.Random(user_id)
            favourites = [t for t in self._tracks.values() if t.genre == GENRES[user_id % len(GENRES)]]
            for n in range(4 + user_id % 30):
                track = rng.choice(favourites)
                ms = rng.choice((8_000, 45_000, track.duration_ms or 0))
                person.plays.append(self._play(NOW - n * 400_000_000, track, ms))
        for line in self._events.read_bytes().splitlines():
            event = msgspec.json.decode(line, type=Event)
            if event.user_id == user_id:
                self._fold(person, event)
        return person

    def _fold(self, person: Person, event: Event) -> None:
        if event.type in (EventType.PLAY, EventType.SKIP) and event.track_id in self._tracks:
            person.plays.append(self._play(event.ts, self._tracks[event.track_id], event.ms_played or 0))
        elif event.type in _MARKS:
            target = event.artist_id if event.type in NEEDS_ARTIST else event.track_id
            person.marks[_KIND.get(event.type, event.type), target or 0] = (_MARKS[event.type], event.ts)

    def _play(self, ts: int, track: TrackInfo, ms: int) -> Play:
        return Play(
            ts=ts,
            track_id=track.track_id,
            title=track.title,
            artist_id=track.artist_id,
            artist=track.artist,
            genre=track.genre,
            ms_played=ms,
            duration_ms=track.duration_ms,
            listened=ms >= 30_000,
            skipped=ms < 30_000,
        )

    def _pool(self, request: Request, person: Person | None) -> tuple[list[TrackInfo], dict[str, int]]:
        hidden = person.marked("hide") if person else set()
        blocked = person.marked("block_artist") if person else set()
        removed: Counter[str] = Counter()
        allowed = []
        for track in self._tracks.values():
            if track.track_id in hidden:
                removed["hidden"] += 1
            elif track.artist_id in blocked:
                removed["blocked_artist"] += 1
            elif request.session and track.track_id in request.session:
                removed["in_session"] += 1
            else:
                allowed.append(track)
        seed = self._tracks.get(request.track_id) if request.track_id is not None else None
        seed_artist = (
            request.artist_id if request.artist_id is not None else (seed.artist_id if seed else None)
        )
        tastes = Counter(p.genre for p in person.plays) if person else Counter()
        rng = random.Random(request.seed if request.seed is not None else 11)
        order = {t.track_id: rng.random() for t in allowed}

        def score(track: TrackInfo) -> float:
            near = 3.0 * (track.artist_id == seed_artist) + 2.0 * bool(seed and track.genre == seed.genre)
            return near + tastes[track.genre] / (1 + sum(tastes.values())) + 0.6 * order[track.track_id]

        return sorted(allowed, key=score, reverse=True), dict(removed)

    def _item(self, track: TrackInfo, position: int, request: Request, person: Person | None) -> Item:
        reason = None
        if request.why:
            latest = [p for p in person.plays if p.genre == track.genre][:2] if person else []
            because: tuple[dict[str, int | str], ...] = tuple(
                {"track_id": p.track_id, "title": p.title or "", "plays": 3} for p in latest
            )
            reason = Reason(
                text=f"You play a lot of {track.genre}"
                if latest
                else f"Popular in {request.country or 'your country'}",
                because_of=because,
                features={
                    "genre_affinity": 0.42,
                    "track_skip_rate_28d": -0.13,
                    "popularity": 0.08,
                    "uploads_age_days": -0.02,
                },
                moved="from 2 to 3 by artist spacing" if position == 2 else None,
            )
        return Item(
            track_id=track.track_id,
            position=position,
            score=1.0 / (1 + position),
            sources=("genres", "trending") if position % 3 else ("exploration",),
            propensity=1.0 if position % 3 else 0.05,
            title=track.title,
            artist_id=track.artist_id,
            artist=track.artist,
            genre=track.genre,
            duration_ms=track.duration_ms,
            why=reason,
        )

    def _summary(self, user_id: int) -> ListenerSummary:
        profile = self.listener(user_id)
        return ListenerSummary(
            user_id=user_id,
            country=profile.country,
            plan=profile.plan,
            plays=len(profile.plays),
            last_play=profile.plays[0].ts if profile.plays else None,
            consent=profile.consent,
        )

    def _name(self, kind: str, target: int) -> str | None:
        if kind in NEEDS_ARTIST:
            return next((t.artist for t in self._tracks.values() if t.artist_id == target), None)
        track = self._tracks.get(target)
        return track.title if track else None


def _answered(kept: Kept) -> ExperimentAnswer:
    return ExperimentAnswer(kept.experiment, kept.status(TODAY), kept.stopped_at)


def _shelves(items: tuple[Item, ...], below: tuple[Item, ...]) -> tuple[Shelf, ...]:
    """The answer itself first, then rows of what else there is, as the real pipeline does."""
    rows = (
        Shelf("for_you", "Made for you", items),
        Shelf("again", "On repeat", below[:12]),
        Shelf("fresh", "New uploads", below[12:]),
    )
    return tuple(row for row in rows if row.items)


def _fail_on_purpose(user_id: int | None) -> None:
    if user_id == CRASHES:
        raise RuntimeError("a secret from inside")
    if user_id == IS_DOWN:
        raise Unavailable("the state store does not answer within 50 ms; try again")
    if user_id == IS_BUSY:
        raise Overloaded("too many requests for this listener", limit="10 a second")
    if user_id in (IS_SLOW, IS_SLOWER):
        time.sleep(0.1 if user_id == IS_SLOW else 1.0)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--ready-after", type=Path)
    parser.add_argument("--body", type=int, default=200_000)
    parser.add_argument("--fork-s", type=float, default=0.0)
    given = parser.parse_args()
    settings = Settings(
        serving=Serving(port=given.port, workers=given.workers, max_k=50, max_body_bytes=given.body)
    )
    make = functools.partial(SmallPlatform, given.events, settings.serving, given.ready_after)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.register_at_fork(after_in_child=functools.partial(time.sleep, given.fork_s))

    def announce(url: str) -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    serve(make, settings, on_listening=announce)


if __name__ == "__main__":
    main()
