"""Names of topics and groups, and the size of records: what every log accepts, and no other may refuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from segue.contracts.errors import InvalidInput

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def named(kind: str, name: str) -> str:
    """The name. Raises InvalidInput, naming its kind (topic or group), where it is none."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"log {kind} {name[:80]!r}: use lower-case letters, digits, - and _",
            field=kind,
            limit=_NAME.pattern,
        )
    return name


def check_sizes(records: Sequence[bytes], most: int) -> None:
    """Raise InvalidInput if a record has more than `most` bytes."""
    for record in records:
        if len(record) > most:
            raise InvalidInput(
                f"a log record of {len(record):,} bytes is too large; split it",
                field="record",
                limit=f"{most:,} bytes",
            )
