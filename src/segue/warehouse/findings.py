"""What a check of a table found: one record a thing, and the error that stops what is downstream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal, NamedTuple

from msgspec import Struct

from segue.contracts.errors import ContractBroken

Severity = Literal["breach", "warn"]


class Part(NamedTuple):
    """One part of one measure (contracts.measures), of all rows or of one client's alone."""

    measure: str
    client: str | None
    part: str

    def __str__(self) -> str:
        said = self.measure if self.part == "" else f"{self.measure} {self.part}"
        return said if self.client is None else f"{said} of {self.client}"


ROWS = Part("rows", None, "")
"""All rows of a day."""


class Finding(Struct, frozen=True):
    """`seen` is held against what is usual, `low` to `high`; a rule that every row must keep has no such range.

    `day` is None where rows of any day break a rule; `said` is the whole in words; `gone_to` is the part where the rows may
    be that are missed.
    """

    table: str
    day: date | None
    part: Part
    severity: Severity
    seen: float
    said: str
    low: float | None = None
    high: float | None = None
    gone_to: Part | None = None


class Breach(ContractBroken):
    """What was found breaks the contract. `examples` are rows, as text; `findings` begin with the one that says most."""

    def __init__(
        self,
        message: str,
        findings: Sequence[Finding],
        *,
        field: str,
        limit: str,
        examples: Sequence[str] = (),
    ) -> None:
        super().__init__(message, field=field, limit=limit)
        self.findings = tuple(findings)
        self.examples = tuple(examples)
