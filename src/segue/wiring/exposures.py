"""What the exposure log keeps of a response: every response becomes a record."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from segue.contracts.ids import parse_id
from segue.events.records import Exposure, Lost
from segue.recommend.pipeline import Answer
from segue.recommend.scorers import Scored

_json = msgspec.json.Encoder(order="sorted").encode


def exposure_of(answer: Answer, *, losers: int | None) -> Exposure:
    """The log's form of an answer.

    With `losers` given the answer is one of the sample: the vectors the ranker saw are kept, and up to so many of the
    candidates that won no slot, each as likely. An interleaved page is never one of the sample.
    """
    response = answer.response
    if (
        answer.interleaved
    ):  # the vectors of two rankers, over two lists of candidates, are no sample of either
        losers = None
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
        variants=_json(response.trace.variants).decode() if response.trace.variants else None,
        took_us=round(1_000 * sum(stage.ms for stage in response.trace.stages)),
        degraded=len(response.trace.degraded),
        score=[item.score for item in shown],
        sources=[list(item.sources) for item in shown],
        propensity=[item.propensity for item in shown],
        team=[item.team for item in shown if item.team is not None] or None,
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
