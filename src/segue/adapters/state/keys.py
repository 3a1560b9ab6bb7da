"""What all state stores share: which ids are listeners, and work in slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID

T = TypeVar("T")


def checked(user_id: int) -> int:
    """The id. Raises InvalidInput if it is no listener's."""
    if not 0 <= user_id <= MAX_ID:
        raise InvalidInput(
            f"user_id: {user_id} is no listener's id; use 0 to {MAX_ID}",
            field="user_id",
            limit=f"0..{MAX_ID}",
        )
    return user_id


def slices(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`; the last may be shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
