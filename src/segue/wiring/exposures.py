"""The exposure log: every response becomes a record, written in the background so that no listener waits for a disk.

Records wait in memory for at most FLUSH_S seconds. When the log cannot be written they wait longer, up to MOST of them; what
comes after that is counted as lost and said in the process's log, since answering listeners comes first.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import SegueError
from segue.contracts.ids import parse_id
from segue.contracts.ports import Log
from segue.events.records import Exposure, Lost, encode_exposure
from segue.recommend.pipeline import Answer
from segue.recommend.scorers import Scored

TOPIC = "exposures"
FLUSH_S = 0.2
MOST = 100_000
_log = logging.getLogger("segue.exposures")


class ExposureWriter:
    """Appends exposure records from a thread of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: list[bytes] = []
        self._lost = 0
        self._turn = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)
        self._thread.start()

    def add(self, exposure: Exposure) -> None:
        """Hand over one response."""
        record = encode_exposure(exposure)
        with self._turn:
            if len(self._waiting) >= MOST:
                self._lost += 1
                return
            self._waiting.append(record)

    def close(self) -> None:
        """Write what waits, and stop."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._turn:
                self._turn.wait(FLUSH_S)
                closing, records, lost = self._closing, self._waiting, self._lost
                self._waiting, self._lost = [], 0
            if lost:
                _log.error("%d responses are missing from the exposure log: it could not be written", lost)
            try:
                self._log.append(TOPIC, records)
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must go on
                _log.error("exposure log: %s", error, exc_info=not isinstance(error, SegueError))
                with self._turn:
                    self._waiting = (records + self._waiting)[:MOST]


def exposure_of(answer: Answer, *, losers: int | None) -> Exposure:
    """The log's form of an answer.

    With `losers` given the answer is one of the sample: the vectors the ranker saw are kept, and up to so many of the
    candidates that won no slot, each as likely.
    """
    response = answer.response
    shown = list(response.items)
    for shelf in response.shelves[1:]:
        shown += shelf.items
    ids = answer.query.catalogue.track_id
    return Exposure(
        request_id=parse_id(response.request_id),
        ts=response.ts,
        user_id=response.user_id,
        surface=response.surface,
        track_id=[item.track_id for item in shown],
        position=[item.position for item in shown],
        bundle=response.bundle,
        config=response.config,
        score=[item.score for item in shown],
        sources=[list(item.sources) for item in shown],
        propensity=[item.propensity for item in shown],
        features=_vectors(answer.scored, answer.shown) if losers is not None else None,
        removed={reason: ids[tracks].tolist() for reason, tracks in answer.removals.by_reason().items()}
        or None,
        lost=_lost(answer, losers) if losers else None,
    )


def _lost(answer: Answer, most: int) -> Lost | None:
    """Some of the candidates that won no slot; None if all won one."""
    losing = np.setdiff1d(np.arange(len(answer.candidates)), answer.shown)
    if len(losing) == 0:
        return None
    kept = np.random.default_rng().choice(losing, min(most, len(losing)), replace=False)
    tracks = answer.candidates.tracks[kept]
    return Lost(
        share=len(kept) / len(losing),
        track_id=answer.query.catalogue.track_id[tracks].tolist(),
        score=answer.scored.final[kept].tolist(),
        sources=[list(answer.candidates.sources_of(row)) for row in kept.tolist()],
        features=_vectors(answer.scored, kept),
    )


def _vectors(scored: Scored, rows: npt.NDArray[np.integer[Any]]) -> list[bytes] | None:
    """Feature vectors as the ranker saw them; None where no ranker was asked."""
    if scored.features is None:
        return None
    return [vector.tobytes() for vector in scored.features[rows].astype("<f4")]
