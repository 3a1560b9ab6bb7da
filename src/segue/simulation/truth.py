"""The truth behind a simulated history, kept apart from it: what every listener likes, at every moment.

An evaluation may hold a model against it; nothing that is trained or served may read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidInput, NotFound
from segue.simulation.taste import LISTEN_BIAS, LISTEN_SLOPE
from segue.simulation.world import F32, I32, TRACK_BASE, USER_BASE

__all__ = ["Truth", "read_truth", "truth_relevance"]

Ids = npt.NDArray[np.int64]

_ARRAYS: Final = (
    "track_vector",
    "track_genre",
    "track_quality",
    "track_scene",
    "track_release",
    "track_mood",
    "taste_start",
    "taste_end",
    "liking_start",
    "liking_end",
)
_ABOUT: Final = "truth.json"
_BATCH: Final = 262_144


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What belongs to the arrays: the history's period in microseconds and the outside ids of index 0."""

    start_us: int
    end_us: int
    first_track_id: int
    first_user_id: int
    formula: str = (
        "relevance = genre[track] of the listener + taste . vector + quality, listener's parts moving in a straight line "
        "from start to end; listen chance = 1 / (1 + exp(-(bias + slope * relevance)))"
    )
    bias: float = LISTEN_BIAS
    slope: float = LISTEN_SLOPE


@dataclass(frozen=True, slots=True)
class Truth:
    """True preferences over a period. Ids are those of the tables; a moment outside the period counts as its edge.

    track_vector float32[n, d]; track_genre, track_scene, track_release int32[n]; track_quality float32[n]; track_mood
    uint8[n]; taste_* float32[u, d] and liking_* float32[u, genres] at the start and the end; start_us, end_us in
    microseconds.
    """

    track_vector: F32
    track_genre: I32
    track_quality: F32
    track_scene: I32
    track_release: I32
    track_mood: npt.NDArray[np.uint8]
    taste_start: F32
    taste_end: F32
    liking_start: F32
    liking_end: F32
    start_us: int
    end_us: int

    def relevance(self, users: Ids, tracks: Ids, ts: Ids) -> F32:
        """How much each listener likes each track at each moment: float32[n] from three columns int64[n].

        Raises InvalidInput for unequal lengths or an id that is not of this history.
        """
        if not len(users) == len(tracks) == len(ts):
            raise InvalidInput(
                f"users, tracks and ts must be equally long, got {len(users)}, {len(tracks)}, {len(ts)}",
                field="users",
            )
        user = _index(users, USER_BASE, len(self.taste_start), "user_id")
        track = _index(tracks, TRACK_BASE, len(self.track_genre), "track_id")
        drift = self._drift(np.asarray(ts))
        out = np.empty(len(user), np.float32)
        for at in range(0, len(user), _BATCH):
            rows = slice(at, at + _BATCH)
            u, i, f = user[rows], track[rows], drift[rows]
            genre = self.track_genre[i]
            taste = self.taste_start[u] + f[:, None] * (self.taste_end[u] - self.taste_start[u])
            liking = self.liking_start[u, genre] + f * (
                self.liking_end[u, genre] - self.liking_start[u, genre]
            )
            out[rows] = np.einsum("nd,nd->n", taste, self.track_vector[i]) + liking + self.track_quality[i]
        return out

    def listen_chance(self, users: Ids, tracks: Ids, ts: Ids) -> F32:
        """The chance that a started play becomes a listen, before what the moment adds: float32[n]."""
        logit = LISTEN_BIAS + LISTEN_SLOPE * self.relevance(users, tracks, ts)
        chance: F32 = (1.0 / (1.0 + np.exp(-logit))).astype(np.float32)
        return chance

    def scores(self, users: Ids, ts: int) -> F32:
        """Relevance of all tracks for some listeners at one moment: float32[len(users), n_tracks]."""
        user = _index(users, USER_BASE, len(self.taste_start), "user_id")
        f = self._drift(np.array([ts], np.int64))[0]
        taste = self.taste_start[user] + f * (self.taste_end[user] - self.taste_start[user])
        liking = self.liking_start[user] + f * (self.liking_end[user] - self.liking_start[user])
        scores: F32 = taste @ self.track_vector.T + liking[:, self.track_genre] + self.track_quality
        return scores

    def write(self, folder: Path) -> None:
        """Write the arrays as .npy files and `truth.json` beside them. The folder is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        about = _About(self.start_us, self.end_us, TRACK_BASE, USER_BASE)
        (folder / _ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about)))

    def _drift(self, ts: Ids) -> F32:
        passed = (ts - self.start_us) / (self.end_us - self.start_us)
        drift: F32 = np.clip(passed, 0.0, 1.0).astype(np.float32)
        return drift


def truth_relevance(truth: Truth, users: Ids, tracks: Ids, ts: Ids) -> F32:
    """`truth.relevance`, as a function to hand to an evaluation."""
    return truth.relevance(users, tracks, ts)


def read_truth(folder: Path) -> Truth:
    """The truth written by `Truth.write`, memory-mapped. Raises NotFound if a file is missing."""
    for name in (_ABOUT, *(f"{n}.npy" for n in _ARRAYS)):
        if not (folder / name).is_file():
            raise NotFound(
                f"{folder / name} is not there; simulate a history with its truth first", field=name
            )
    about = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=_About)
    arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in _ARRAYS}
    return Truth(**arrays, start_us=about.start_us, end_us=about.end_us)


def _index(ids: Ids, base: int, n: int, field: str) -> I32:
    index = ids.astype(np.int64) - base
    if len(index) and (int(index.min()) < 0 or int(index.max()) >= n):
        raise InvalidInput(
            f"{field} must be between {base} and {base + n - 1}, found {int(ids.min())} to {int(ids.max())}",
            field=field,
            limit=f"{base}..{base + n - 1}",
        )
    return index.astype(np.int32)
