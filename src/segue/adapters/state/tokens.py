"""Tokens for stores that can only count: 40 random bits, and above them the day the record was written.

A fold writes a `fresh` token, an append adds a `step`; both are random, so a listener who was deleted and came back has no
token that was seen before. The day lets an append see, without reading the record, that the record is getting old: where
each piece expires by its own age, it must be written again before it goes, or a listener who comes seldom would lose it.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

_RANDOM_BITS: Final = 40
_STEP_BITS: Final = 20
_DAY_S: Final = 86_400


def fresh() -> int:
    """A token for a record written now. Below 2**63 for the next thousands of years."""
    return today() << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS - 1)


def step() -> int:
    """What an append adds; half a million of them stay within the random bits."""
    return 1 + secrets.randbits(_STEP_BITS)


def is_old(token: int, expire_days: int) -> bool:
    """Whether a record with that token has lived half of its time; one that was never written has."""
    return expire_days > 0 and 2 * (today() - (token >> _RANDOM_BITS)) >= expire_days


def today() -> int:
    """Days since 1970."""
    return int(time.time()) // _DAY_S
