"""Co-listening: tracks played near each other, in either order, damped so that hits are not everybody's
neighbour.

Every pair of plays within one session adds distance^-power x 2^-(gap / half-life); the sum of a pair is
divided by powers of both tracks' plays. With both powers at one half this is a cosine, at target power 0 a
conditional probability; in between it is the asymmetric similarity that won the Million Song Dataset
challenge (Aiolli 2013). Fit on `Sessions.by_listener()` instead of on sittings, it relates tracks across the
days of one listener's history.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from segue.models.sequence_rules import count_pairs, damping, score_lists
from segue.models.sessions import DAY_US, Sessions

__all__ = ["CoListen", "CoListenConfig"]

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]


class CoListenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pair is worth.

    window: greatest distance in plays; power: weight distance^-power; gap_half_life_days: of the time between
    the two plays (none: no decay); half_life_days: of the newer play's age at fit time (none: no decay);
    source_damping, target_damping: powers of the tracks' weighted plays a pair is divided by; neighbours:
    kept per track.
    """

    window: int = 20
    power: float = 0.5
    gap_half_life_days: float | None = 60.0
    half_life_days: float | None = None
    source_damping: float = 0.75
    target_damping: float = 0.25
    neighbours: int = 200


@dataclass(frozen=True, slots=True)
class CoListen:
    """Neighbour lists: ``neighbours`` int32[n_items, K] (best first, -1 at the end), ``weights``
    float32[n_items, K].
    """

    config: CoListenConfig
    neighbours: Ids
    weights: Scores

    @classmethod
    def fit(cls, sessions: Sessions, config: CoListenConfig, *, now: int) -> CoListen:
        """Count the pairs of all sessions. ``now`` (microseconds) is the moment ages are measured from."""
        weight = sessions.play_weights(now, config.half_life_days)
        near = np.concatenate([[0.0], np.arange(1, config.window + 1, dtype=np.float64) ** -config.power])
        count = np.bincount(sessions.items, weights=weight, minlength=sessions.n_items).astype(np.float64)
        occ_indptr, occurrences = sessions.occurrences()
        gap_rate = 0.0 if config.gap_half_life_days is None else 1.0 / (config.gap_half_life_days * DAY_US)
        ids, scores = count_pairs(
            sessions.indptr,
            sessions.items,
            sessions.ts,
            weight,
            sessions.session_of_play(),
            occ_indptr,
            occurrences,
            near,
            near,
            gap_rate,
            damping(count, config.source_damping),
            damping(count, config.target_damping),
            config.neighbours,
        )
        return cls(config, ids, scores)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save, by name."""
        return {"neighbours": self.neighbours, "weights": self.weights}

    @classmethod
    def from_arrays(cls, config: CoListenConfig, arrays: dict[str, npt.NDArray[np.generic]]) -> CoListen:
        """The model back from `arrays` (mapped from disk or in memory) and its config."""
        return cls(config, arrays["neighbours"], arrays["weights"])  # type: ignore[arg-type]

    def score(self, items: Ids, item_weights: Scores, k: int) -> tuple[Ids, Scores]:
        """The ``k`` tracks most co-listened with a weighted set of tracks (ids int32[m], scores float32[m]).

        ``items``: int32[n], negative for unknown; ``item_weights``: float32[n]. Tracks of the set itself may
        come back.
        """
        found: tuple[Ids, Scores] = score_lists(
            self.neighbours,
            self.weights,
            items,
            item_weights.astype(np.float64),
            np.empty(0, dtype=np.int32),
            1.0,
            k,
        )
        return found
