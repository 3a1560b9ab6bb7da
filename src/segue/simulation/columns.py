"""From kernels' rows to the Arrow tables of the contracts, cut at midnight and sorted by listener and time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ids import uuid7_column
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.contracts.vocabulary import HOUR, SECOND
from segue.simulation.catalogue import Catalogue
from segue.simulation.policy import SOURCE_NAMES
from segue.simulation.session import (
    BLOCK_ARTIST,
    FOLLOW,
    PLAY,
    PLAYLIST_ADD,
    SEARCHED,
    SKIP,
    SURFACES,
    TYPES,
    UNFOLLOW,
    Requests,
    Rows,
    Sessions,
    Slates,
)
from segue.simulation.words import COUNTRIES, DEVICES
from segue.simulation.world import ARTIST_BASE, F32, F64, I16, I32, I64, TRACK_BASE, U8, USER_BASE

__all__ = ["EventColumns", "ExposureColumns", "Vocabulary"]

POLICY_VERSION = "logging-policy-1"


class _Columns:
    """What both kinds of columns share: they are NamedTuples of arrays of one length."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, in order."""
        return cls(*(np.concatenate(c) for c in zip(*parts, strict=True)))  # type: ignore[call-overload, no-any-return]

    def pick(self, rows: npt.NDArray[Any]) -> Self:
        """Some rows, by index or mask."""
        return type(self)(*(c[rows] for c in self))  # type: ignore[attr-defined, call-arg]


class _EventColumns(NamedTuple):
    event: U8
    ts: I64
    received: I64
    user: I32
    session: I64
    type: U8
    track: I32
    ms: I32
    surface: I16
    position: I16
    request: U8
    asked: npt.NDArray[np.bool_]
    extra: I16
    device: U8


class _ExposureColumns(NamedTuple):
    request: U8
    ts: I64
    user: I32
    surface: I32
    position: I16
    track: I32
    score: F32
    sources: U8
    propensity: F64
