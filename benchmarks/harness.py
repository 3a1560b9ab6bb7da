"""What every benchmark shares: fair timing, and results as JSON and as a page of the docs.

A ratio is only taken between numbers of one run. Repetitions alternate (ours, peer, ours, peer, ...), so that a warm
cache or a throttled core hits both alike, and medians are reported. Everything runs on one thread and is timed by
that process's CPU clock, which a busy neighbour does not stretch.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
TICKS = os.sysconf("SC_CLK_TCK")
PACKAGES = ("numpy", "numba", "lightgbm", "faiss-cpu", "implicit")


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a row was to reach, in words, and whether it does."""

    text: str
    met: bool


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measurement. `ratio` is how many times better ours is than `peer`, whichever way `unit` points."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    unit: str
    detail: str
    goal: Goal | None = None


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows of one benchmark, with what is needed to read them later."""

    date: str
    machine: str
    versions: dict[str, str]
    seconds: float
    rows: list[Row]


Bench = Callable[[], list[Row]]


def less_is_better(
    name: str, ours: float, peer: float, unit: str, detail: str, goal: Goal | None = None
) -> Row:
    """A row of times or sizes."""
    return Row(name, ours, peer, peer / ours, unit, detail, goal)


def more_is_better(
    name: str, ours: float, peer: float, unit: str, detail: str, goal: Goal | None = None
) -> Row:
    """A row of rates."""
    return Row(name, ours, peer, ours / peer, unit, detail, goal)


def at_least(value: float, limit: float, unit: str) -> Goal:
    """The goal of a number that should be large."""
    return Goal(f"at least {limit:,g} {unit}", bool(value >= limit))


def at_most(value: float, limit: float, unit: str) -> Goal:
    """The goal of a number that should be small."""
    return Goal(f"at most {limit:,g} {unit}", bool(value <= limit))


def peak_mb(pid: int | None = None) -> float:
    """The most memory that this process, or another, ever held. Why not `ru_maxrss`: it begins with what its parent held."""
    held = Path(f"/proc/{pid or 'self'}/status").read_text().partition("VmHWM:")[2].split()
    return int(held[0]) / 1024 if held else 0.0  # one that ended and was not waited for yet holds nothing


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its descendants so far."""
    return sum(ticks for _, ticks in _family(pid)) / TICKS


def family_peak_mb(pid: int) -> float:
    """The most memory that a process and each of its living descendants ever held, added up."""
    return sum(peak_mb(number) for number, _ in _family(pid))


def _family(pid: int) -> list[tuple[int, int]]:
    """A process and its living descendants, each with the ticks it used, and those of what ended below it."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        number = int(stat.parent.name)
        parents[number], ticks[number] = int(fields[1]), sum(map(int, fields[11:15]))
    return [(number, spent) for number, spent in ticks.items() if _descends(number, pid, parents)]


def _descends(number: int, ancestor: int, parents: dict[int, int]) -> bool:
    while number != ancestor:
        if number not in parents:
            return False
        number = parents[number]
    return True


def interleaved(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of each function over alternating repetitions; one round before them is not counted."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 1):
        for function, measured in zip(functions, seconds, strict=True):
            start = time.process_time()
            function()
            if repeat > 0:
                measured.append(time.process_time() - start)
    return [statistics.median(measured) for measured in seconds]


def main(benches: Mapping[str, Bench], names: Sequence[str]) -> None:
    """Run the named benchmarks, replace their sections in the results, and write the page again."""
    unknown = [name for name in names if name not in benches]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(benches)}")
    for name in names or benches:
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        rows = benches[name]()
        gc.unfreeze()  # what one has frozen and left, its stores among it, must be gone for the next
        gc.collect()
        record(name, rows, time.perf_counter() - start)
        for row in rows:
            print("  " + " | ".join(_cells(row)), flush=True)


def record(name: str, rows: list[Row], seconds: float, results: Path = RESULTS, page: Path = PAGE) -> None:
    """Replace one section of the results and write the page again."""
    sections = msgspec.json.decode(results.read_bytes(), type=dict[str, Section]) if results.exists() else {}
    sections[name] = Section(
        datetime.now(UTC).isoformat(timespec="minutes"), machine(), versions(), round(seconds, 1), rows
    )
    results.write_bytes(msgspec.json.format(msgspec.json.encode(sections), indent=2) + b"\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(sections), encoding="utf-8")


def render(sections: Mapping[str, Section]) -> str:
    """The Markdown page of all sections."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. A ratio says how many times better ours is. Both sides ran in the same",
        "process on one thread, taking turns; medians of CPU time are shown. More: `benchmarks/README.md`.",
        "",
        _summary(sections),
    ]
    for name, section in sorted(sections.items()):
        packages = ", ".join(f"{package} {number}" for package, number in section.versions.items())
        lines += ["", f"## {name}", "", f"{section.date}, {section.machine}; {packages}.", ""]
        lines += ["| what | ours | peer | ratio | goal | detail |"]
        lines += ["| --- | ---: | ---: | ---: | --- | --- |"]
        lines += [
            "| " + " | ".join(cell.replace("|", r"\|") for cell in _cells(row)) + " |" for row in section.rows
        ]
    return "\n".join(lines) + "\n"


def _summary(sections: Mapping[str, Section]) -> str:
    goals = [(row.name, row.goal) for section in sections.values() for row in section.rows if row.goal]
    missed = [f"{name} ({goal.text})" for name, goal in goals if not goal.met]
    if not missed:
        return f"All {len(goals)} goals are met."
    return f"{len(goals) - len(missed)} of {len(goals)} goals are met. Missed: {'; '.join(missed)}."


def _cells(row: Row) -> tuple[str, str, str, str, str, str]:
    peer = "" if row.peer is None else f"{_number(row.peer)} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2g} x" if row.ratio < 1 else f"{row.ratio:.1f} x"
    goal = "" if row.goal is None else f"{row.goal.text}: {'met' if row.goal.met else '**missed**'}"
    return row.name, f"{_number(row.ours)} {row.unit}", peer, ratio, goal, row.detail


def _number(value: float) -> str:
    """Three to four figures, never in scientific notation where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def machine() -> str:
    """Processor, cores and system, in words."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Versions of the packages that matter for the numbers."""
    # `implicit` comes with `make bench` only; rows that need it cannot be measured without.
    return {
        package: version(package) for package in PACKAGES if find_spec(package.partition("-")[0]) is not None
    }
