"""Following the catalogue: every worker reads the changes as they come, and writes them into the bundle it has open.

A bundle says as of which change its catalogue is. Those that came after are read before it answers its first request, and
then as they come, from a thread of its own. A record may come twice, and late: the last word on each field counts.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from segue.contracts.errors import SegueError
from segue.contracts.ports import Log, Reader, Records
from segue.contracts.vocabulary import DAY, MINUTE
from segue.events.changes import TOPIC, Latest, Stamps, TrackChange, decode_changes
from segue.recommend.artifacts import Artifacts
from segue.recommend.live import Live
from segue.wiring.slips import Slip

MOST_AT_ONCE: Final = 500
LOOK_S: Final = 0.02
"""How often the log is looked at: each look costs some microseconds, in every worker."""
PAUSE_S: Final = 1.0
"""How long after a failure it is tried again."""
IN_FLIGHT: Final = MINUTE
"""A change this much older than a bundle's catalogue has surely landed in it."""
LOOK_BACK: Final = DAY
"""How much further back the log is read than that: its clock may be another."""
REMEMBERED: Final = 10_000
"""Latest tracks and artists whose words are remembered, against older ones that come late."""
_log = logging.getLogger("segue.catalogue")


class Changes:
    """The changes since a bundle's catalogue, written into the open bundle from a thread, until it is closed.

    When it is made, all that the log holds is in effect. If the log cannot be read then, it raises what the log says, or,
    where it may come `later`, has a `trouble` until the log is back.
    """

    def __init__(
        self, log: Log, artifacts: Artifacts, stamps: Stamps, slips: Path, *, later: bool = False
    ) -> None:
        self._log = log
        self._as_of = as_of = artifacts.catalogue.as_of
        self._since = None if as_of is None else as_of - IN_FLIGHT
        self._live = Live(artifacts)
        self._stamps = stamps
        self._tracks = _Words()
        self._artists = _Words()
        self._away: str | None = None
        self._closing = threading.Event()
        self._reader: Reader | None = None
        self._slip = Slip(slips)
        try:
            while self._look():
                pass
        except Exception as error:
            if not (later and isinstance(error, SegueError)):
                self._slip.close()
                raise
            self._failed(error)
        self._thread = threading.Thread(target=self._run, name="segue-catalogue", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """What keeps changes from being in effect now, or None."""
        return self._away or self._live.lacks

    def close(self) -> None:
        """Stop following."""
        self._closing.set()
        self._thread.join()
        self._slip.close()
        if self._reader is not None:
            self._reader.close()

    def _run(self) -> None:
        pause = LOOK_S
        while not self._closing.wait(pause):
            try:
                pause = 0.0 if self._look() else LOOK_S
                self._away = None
            except Exception as error:  # noqa: BLE001 - without this thread nothing later would be in effect
                self._failed(error)
                pause = PAUSE_S

    def _look(self) -> int:
        """Take in what the log holds behind what was read. Returns how many records that was."""
        if self._reader is None:
            self._reader = self._log.reader(TOPIC, None if self._as_of is None else self._as_of - LOOK_BACK)
        return self._take(self._reader.poll(MOST_AT_ONCE))

    def _failed(self, error: Exception) -> None:
        """Say once what keeps changes waiting, however often it is tried again."""
        if self._away is None:
            foreseen = isinstance(error, SegueError)
            _log.error("changes of the catalogue cannot be read: %s", error, exc_info=not foreseen)
        self._away = str(error)

    def _take(self, found: Records) -> int:
        """Write some records into the bundle. What is no change is the landing's to report. Returns how many there were."""
        for change in decode_changes(found.records).items:
            self._stamps.saw(change.received_at)
            if self._since is None or change.received_at >= self._since:
                try:
                    self._put(change)
                except Exception:  # noqa: BLE001 - one change that cannot be made must not cost those behind it
                    _log.exception("track %d cannot be changed before the next bundle", change.track_id)
        if len(found):
            self._slip.reached(found.places)
        return len(found)

    def _put(self, change: TrackChange) -> None:
        news = dict(self._tracks.of(change.track_id).news(change))
        self._live.put(change.track_id, news, change.received_at)
        artist, name = change.artist_id, change.artist_name
        if artist is None or name is None:
            return
        if self._artists.of(artist).take("name", change.received_at, name):
            self._live.name(artist, name)


class _Words:
    """The last words on the latest things that anything was said of."""

    def __init__(self) -> None:
        self._latest: OrderedDict[int, Latest] = OrderedDict()

    def of(self, key: int) -> Latest:
        if key not in self._latest and len(self._latest) >= REMEMBERED:
            self._latest.popitem(last=False)
        latest = self._latest.setdefault(key, Latest())
        self._latest.move_to_end(key)
        return latest
