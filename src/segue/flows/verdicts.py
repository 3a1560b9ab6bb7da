"""What the gate said of each bundle, as a table that people and dashboards read."""

from __future__ import annotations

import time

import msgspec
import pyarrow as pa
from msgspec import Struct

from segue.contracts.ports import Engine
from segue.contracts.tables import VERDICTS


class Comparison(Struct, frozen=True):
    """Challenger minus champion on one task, or by one rung of evidence, with the 95% interval over listeners.

    A rung that could not say anything has no numbers, and the reason as its note.
    """

    task: str
    metric: str
    challenger: float | None = None
    champion: float | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    note: str | None = None


class Verdict(Struct, frozen=True):
    """Whether the challenger may be published, and why."""

    passed: bool
    reason: str
    comparisons: tuple[Comparison, ...]


def verdicts(engine: Engine) -> dict[str, Verdict]:
    """What the gate last said of each bundle, by version; the one judged last comes last."""
    found: dict[str, Verdict] = {}
    for row in engine.collect(engine.read(VERDICTS).order_by("at")).to_pylist():
        compared = msgspec.json.decode(row["comparisons"], type=tuple[Comparison, ...])
        found.pop(row["version"], None)
        found[row["version"]] = Verdict(row["passed"], row["reason"], compared)
    return found


def enter(engine: Engine, version: str, champion: str | None, verdict: Verdict) -> None:
    """Add a verdict to the table."""
    row = {
        "at": time.time_ns() // 1000,
        "version": version,
        "champion": champion,
        "passed": verdict.passed,
        "reason": verdict.reason,
        "comparisons": msgspec.json.encode(verdict.comparisons).decode(),
    }
    engine.append(VERDICTS, pa.Table.from_pylist([row], VERDICTS.arrow))
