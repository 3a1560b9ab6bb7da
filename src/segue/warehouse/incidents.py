"""What stopped the flow, kept until it is mended or accepted: a table for machines, a file each for people.

A day under an open incident is set aside: it is not built again from the same input, nothing behind it is built for that day,
and whatever learns from whole tables does so without it. A day may also be set aside by hand.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
from msgspec import Struct, structs

from segue.contracts.errors import InvalidInput
from segue.contracts.ports import Engine
from segue.contracts.tables import EVENTS, INCIDENTS, RUNS
from segue.warehouse.findings import Breach, Finding, Part

FOLDER: Final = "incidents"
"""Below the home."""
LISTED: Final = 20
"""Findings that a file lists."""
Status = Literal["open", "accepted", "mended", "replaced"]
Key = tuple[str, date | None, Part]
"""Table, day and part: what was found, and what is accepted."""
Where = tuple[str, date | None]
"""Table and day."""
BY_HAND: Final = "set aside"
"""The measure of a day that somebody set aside."""


class Incident(Struct, frozen=True):
    """Why the flow stopped, or why a day was set aside by hand (then `step` is None).

    It is mended once its tables and days were written, replaced once other things stopped the same ones. `fingerprints` says what
    each day would have been built from.
    """

    name: str
    at: int
    status: Status
    step: str | None
    table: str
    day: date | None
    findings: tuple[Finding, ...]
    fingerprints: dict[date, str]

    @property
    def days(self) -> frozenset[date]:
        """The days it is about; none where rows of any day break a rule."""
        return frozenset(finding.day for finding in self.findings if finding.day is not None)


def record(
    engine: Engine,
    home: Path,
    breach: Breach,
    step: str,
    behind: Sequence[str],
    fingerprints: Mapping[date, str] | None = None,
) -> Breach:
    """Keep what was found, in the table and in a file; the breach again, saying where.

    `fingerprints` says what the days would have been built from. The same, found of the same input, is kept once only.
    """
    name = _name(breach.findings)
    path = home / FOLDER / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_page(name, breach, step, behind), encoding="utf-8")
    prints = {
        finding.day: (fingerprints or {}).get(finding.day) for finding in breach.findings if finding.day
    }
    known = {one.name: one.fingerprints for one in incidents(engine)}
    if known.get(name) != {day: found for day, found in prints.items() if found}:
        _append(engine, name, "found", step, breach.findings, fingerprints=prints)
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
    if found.step is not None and not _acceptable(found.findings):
        raise InvalidInput(
            f"{name}: rows that break a rule of their column cannot be accepted; correct the input or the step {found.step}",
            field="incident",
        )
    excuse(engine, name, found.step, found.findings, why)
    return found


def set_aside(engine: Engine, day: date, why: str) -> Incident:
    """Leave a day out of all that is learned from whole tables, until that is accepted."""
    name = f"aside-{day}"
    finding = Finding(EVENTS.name, day, Part(BY_HAND, None, ""), "breach", 0, why)
    _append(engine, name, "found", None, [finding])
    return next(one for one in incidents(engine) if one.name == name)


def excuse(engine: Engine, name: str, step: str | None, findings: Sequence[Finding], why: str) -> None:
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
    found: dict[str, list[dict[str, Any]]] = {}
    passed: dict[str, int] = {}
    for row in _rows(engine):
        if row["status"] == "accepted":
            passed[row["incident"]] = row["at"]
        elif row["incident"] in found and found[row["incident"]][0]["at"] == row["at"]:
            found[row["incident"]].append(row)
        else:
            # Why: what is found again, of another input, stands for what was found before.
            found[row["incident"]] = [row]
    written = _written(engine) if found else {}
    told: list[Incident] = []
    later: set[Where] = set()
    for name, rows in sorted(found.items(), key=lambda named: (-named[1][0]["at"], named[0])):
        one = _incident(name, rows)
        about = {(finding.table, finding.day) for finding in one.findings}
        status: Status = "open"
        if passed.get(name, 0) >= one.at:
            status = "accepted"
        elif one.step is not None and all(written.get(where, 0) > one.at for where in about):
            status = "mended"
        elif one.step is not None and about <= later:
            status = "replaced"
        if one.step is not None:
            later |= about
        told.append(structs.replace(one, status=status))
    return told


def stopped(found: Sequence[Incident]) -> dict[tuple[str, date], str]:
    """The days that open incidents keep from being built: by table and day, what they would be built from."""
    return {
        (one.table, day): one.fingerprints.get(day, "")
        for one in found
        if one.status == "open" and one.step is not None
        for day in one.days
    }


def aside(found: Sequence[Incident]) -> frozenset[date]:
    """The days that are left out by whatever learns from whole tables."""
    return frozenset(day for one in found if one.status == "open" for day in one.days)


def _incident(name: str, rows: Sequence[dict[str, Any]]) -> Incident:
    findings = sorted(
        map(_finding, rows), key=lambda one: (one.part.client is not None, one.seen - (one.low or 0))
    )
    first = findings[0]
    prints = {row["day"]: row["fingerprint"] for row in rows if row["fingerprint"]}
    return Incident(
        name, rows[0]["at"], "open", rows[0]["step"], first.table, first.day, tuple(findings), prints
    )


def forget(home: Path, users: Collection[int]) -> int:
    """Take the rows that name one of these listeners, or any such number, out of the files. Returns how many went."""
    mine = re.compile(rf"^    \{{.*(?<![0-9])({'|'.join(map(str, users))})(?![0-9])")
    gone = 0
    for path in sorted((home / FOLDER).glob("*.md")) if users else ():
        lines = path.read_text(encoding="utf-8").split("\n")
        left = [line for line in lines if not mine.search(line)]
        if len(left) < len(lines):
            held = path.with_suffix(".part")
            held.write_text("\n".join(left), encoding="utf-8")
            held.replace(path)
            gone += len(lines) - len(left)
    return gone


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
    engine: Engine,
    name: str,
    status: str,
    step: str | None,
    findings: Sequence[Finding],
    why: str | None = None,
    fingerprints: Mapping[date, str | None] | None = None,
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
            "fingerprint": (fingerprints or {}).get(finding.day) if finding.day else None,
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
        "What is published stays published, and answers from the days before. The next run goes on without this",
        "day: it is left out of the tables behind, of training and of what bundles count, until this is mended or accepted.",
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
