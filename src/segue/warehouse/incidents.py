"""What stopped the flow, kept until it is mended or accepted: a table for machines, a file each for people."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
from msgspec import Struct

from segue.contracts.errors import InvalidInput
from segue.contracts.ports import Engine
from segue.contracts.tables import INCIDENTS, RUNS
from segue.warehouse.findings import Breach, Finding, Part

FOLDER: Final = "incidents"
"""Below the home."""
LISTED: Final = 20
"""Findings that a file lists."""
Status = Literal["open", "accepted", "mended", "replaced"]
Key = tuple[str, date | None, Part]
"""Table, day and part: what was found, and what is accepted."""


class Incident(Struct, frozen=True):
    """Why the flow stopped. It is mended once its table and day were written, replaced once other things stopped the same day."""

    name: str
    at: int
    status: Status
    step: str
    table: str
    day: date | None
    findings: tuple[Finding, ...]


def record(engine: Engine, home: Path, breach: Breach, step: str, behind: Sequence[str]) -> Breach:
    """Keep what was found, in the table and in a file; the breach again, saying where. The same is kept once only."""
    name = _name(breach.findings)
    path = home / FOLDER / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_page(name, breach, step, behind), encoding="utf-8")
    if name not in {row["incident"] for row in _rows(engine)}:
        _append(engine, name, "found", step, breach.findings)
    what = f"{', '.join(behind)} do not run" if behind else "no other step reads it"
    how = (
        f", and accept it with `segue quality accept {name}` if all is right"
        if _acceptable(breach.findings)
        else ""
    )
    return Breach(
        f"{breach.message}; {what}, and what is published stays. See {path}{how}",
        breach.findings,
        field=breach.field or "",
        limit=breach.limit or "",
        examples=breach.examples,
    )


def accept(engine: Engine, name: str, why: str) -> Incident:
    """Let what this incident is about pass, for its day. Raises InvalidInput if there is none, or rows break a rule."""
    known = {incident.name: incident for incident in incidents(engine)}
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise InvalidInput(
            f"there is no incident {name!r}; {f'did you mean {near[0]!r}?' if near else '`segue quality` lists them'}",
            field="incident",
        )
    found = known[name]
    if not _acceptable(found.findings):
        raise InvalidInput(
            f"{name}: rows that break a rule of their column cannot be accepted; correct the input or the step {found.step}",
            field="incident",
        )
    excuse(engine, name, found.step, found.findings, why)
    return found


def excuse(engine: Engine, name: str, step: str, findings: Sequence[Finding], why: str) -> None:
    """Enter that these findings are accepted."""
    _append(engine, name, "accepted", step, findings, why)


def accepted(engine: Engine) -> dict[Key, str]:
    """What is accepted, and the incident it was found in."""
    return {
        (row["table"], row["day"], Part(row["measure"], row["client"], row["part"])): row["incident"]
        for row in _rows(engine)
        if row["status"] == "accepted"
    }


def incidents(engine: Engine) -> list[Incident]:
    """All there were, the latest first."""
    rows = _rows(engine)
    names = {row["incident"]: row for row in reversed(rows) if row["status"] == "found"}
    passed = {row["incident"] for row in rows if row["status"] == "accepted"}
    written = _written(engine)
    found: list[Incident] = []
    stopped = set()
    for name, first in sorted(names.items(), key=lambda named: (-named[1]["at"], named[0])):
        said = [_finding(row) for row in rows if row["incident"] == name and row["status"] == "found"]
        said.sort(key=lambda finding: (finding.part.client is not None, finding.seen - (finding.low or 0)))
        where = (first["table"], first["day"])
        status: Status = "open"
        if name in passed:
            status = "accepted"
        elif written.get(where, 0) > first["at"]:
            status = "mended"
        elif where in stopped:
            status = "replaced"
        stopped.add(where)
        found.append(Incident(name, first["at"], status, first["step"], *where, tuple(said)))
    return found


def _written(engine: Engine) -> Mapping[tuple[str, date | None], int]:
    """When each table and day was last written, by the ledger; a table also as a whole."""
    rows = engine.read(RUNS)
    latest = engine.collect(rows.group_by("table", "day").aggregate(last=rows.started_at.max())).to_pylist()
    found: dict[tuple[str, date | None], int] = {}
    for row in latest:
        found[row["table"], row["day"]] = row["last"]
        found[row["table"], None] = max(row["last"], found.get((row["table"], None), 0))
    return found


def _name(findings: Sequence[Finding]) -> str:
    """Says table and day; the same findings have the same name."""
    first = findings[0]
    said = repr(sorted((str(f.day), str(f.part)) for f in findings)).encode()
    digest = hashlib.blake2b(said, digest_size=2).hexdigest()
    return f"{first.table}-{first.day or 'rows'}-{digest}"


def _acceptable(findings: Sequence[Finding]) -> bool:
    return all(finding.high is not None for finding in findings)


def _append(
    engine: Engine, name: str, status: str, step: str, findings: Sequence[Finding], why: str | None = None
) -> None:
    at = time.time_ns() // 1000
    rows = [
        {
            "at": at,
            "incident": name,
            "status": status,
            "step": step,
            "table": finding.table,
            "day": finding.day,
            **finding.part._asdict(),
            "seen": float(finding.seen),
            "low": finding.low,
            "high": finding.high,
            "said": why or finding.said,
        }
        for finding in findings
    ]
    engine.append(INCIDENTS, pa.Table.from_pylist(rows, INCIDENTS.arrow))


def _rows(engine: Engine) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = engine.collect(engine.read(INCIDENTS).order_by("at", "incident")).to_pylist()
    return rows


def _finding(row: Mapping[str, Any]) -> Finding:
    part = Part(row["measure"], row["client"], row["part"])
    return Finding(
        row["table"], row["day"], part, "breach", row["seen"], row["said"], row["low"], row["high"]
    )


def _page(name: str, breach: Breach, step: str, behind: Sequence[str]) -> str:
    first = breach.findings[0]
    of_day = f" of {first.day}" if first.day else ""
    lines = [
        f"# {name}",
        "",
        f"Found {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, when step `{step}` would have written table `{first.table}`{of_day}.",
        "",
        "## What is unusual" if first.high is not None else "## What is broken",
        "",
        *(f"* {finding.said}" for finding in breach.findings[:LISTED]),
    ]
    if len(breach.findings) > LISTED:
        lines.append(f"* and {len(breach.findings) - LISTED} more: `segue quality --json`")
    if breach.examples:
        lines += ["", "## Such as these rows", "", *(f"    {row}" for row in breach.examples)]
    lines += [
        "",
        "## What stopped",
        "",
        f"Nothing was written by `{step}`. What reads it did not run: {', '.join(f'`{b}`' for b in behind) or 'no other step'}.",
        "What is published stays published, and answers from the days before.",
        "",
        "## What to do",
        "",
        "1. Find out what changed where these rows come from: a release of a client, an import, a pipeline in front of Segue.",
        "2. Mend it, and send or import the day's rows again; `segue run` goes on from here, and this is then `mended`.",
    ]
    if _acceptable(breach.findings):
        lines += [
            f"3. If all is right as it is: `segue quality accept {name} --why '...'`, then `segue run`. That holds for this day",
            "   and these measures, and for what follows from them in tables behind.",
        ]
    else:
        lines.append("3. Rows that break a rule of their column cannot be accepted.")
    return "\n".join([*lines, ""])
