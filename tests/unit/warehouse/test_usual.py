"""What is called unusual of a day, and what is not: growth, weekdays, quiet days and floods are no losses."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from segue.warehouse.findings import ROWS, Part
from segue.warehouse.usual import MIN_DAYS, MIN_ROWS, Band, bands

FIRST = date(2026, 1, 5)  # a Monday
PARTS = [Part("device", None, name) for name in ("phone", "desktop", "tv")]
SHARES = np.array([0.6, 0.3, 0.1])
GROWTH = 1.05
"""A week."""


def day_at(n: int) -> date:
    return FIRST + timedelta(days=n)


def service(days: int, size: float = 10_000.0, seed: int = 1) -> dict[date, dict[Part, int]]:
    """A growing service with quiet Sundays whose events come in clumps of about ten."""
    dice = np.random.default_rng(seed)
    counts = {}
    for n in range(days):
        expected = size * GROWTH ** (n / 7) * (0.5 if n % 7 == 6 else 1.0) * SHARES
        rows = dice.poisson(expected / 10) * 10 + dice.integers(0, 10, 3)
        counts[day_at(n)] = of_day(*rows)
    return counts


def of_day(*rows: float) -> dict[Part, int]:
    counted = {part: int(n) for part, n in zip(PARTS, rows, strict=True)}
    return {ROWS: sum(counted.values()), **counted}


def found(counts: dict[date, dict[Part, int]], today: dict[Part, int], n: int = 60) -> dict[Part, Band]:
    return {band.part: band for band in bands({**counts, day_at(n): today}, day_at(n), {})}


def severities(counts: dict[date, dict[Part, int]], today: dict[Part, int], n: int = 60) -> dict[Part, str]:
    return {
        part: band.severity for part, band in found(counts, today, n).items() if band.severity is not None
    }


COUNTS = service(60)
USUAL = 10_000 * GROWTH ** (60 / 7) * SHARES


def test_growth_and_weekdays_are_no_surprise_and_the_usual_is_where_it_is() -> None:
    for seed in range(8):
        counts = service(90, seed=seed)
        assert [n for n in range(28, 90) if severities(counts, counts[day_at(n)], n)] == []
    phone = found(COUNTS, of_day(*USUAL))[PARTS[0]]
    assert phone.usual == pytest.approx(USUAL[0], rel=0.05)
    assert phone.low < USUAL[0] < phone.high
    sunday = found(service(62), of_day(*USUAL / 2), 62)[PARTS[0]]
    assert sunday.usual == pytest.approx(USUAL[0] / 2, rel=0.06)


def test_a_part_that_is_gone_stops_the_flow_though_the_day_is_hardly_smaller() -> None:
    assert severities(COUNTS, of_day(USUAL[0], USUAL[1], 0)) == {PARTS[2]: "breach"}
    assert found(COUNTS, of_day(USUAL[0], USUAL[1], 0))[PARTS[2]].far < -5


def test_a_part_that_lost_less_than_half_is_only_told() -> None:
    assert severities(COUNTS, of_day(USUAL[0], USUAL[1] * 0.6, USUAL[2])) == {PARTS[1]: "warn"}


def test_a_quiet_day_is_a_quiet_day_in_all_parts_and_none_has_lost_anything() -> None:
    assert severities(COUNTS, of_day(*USUAL * 0.65)) == {ROWS: "warn"}
    assert severities(COUNTS, of_day(*USUAL * 0.3)) == {ROWS: "breach"}


def test_whoever_can_only_add_rows_can_never_stop_the_flow() -> None:
    flood = of_day(USUAL[0], USUAL[1], USUAL[2] + 50 * USUAL.sum())
    made_up = flood | {Part("device", None, f"x{n}"): 900 for n in range(100)}
    assert set(severities(COUNTS, flood).values()) == {"warn"}
    assert set(severities(COUNTS, made_up).values()) == {"warn"}


def test_what_is_new_is_told_once_it_is_many() -> None:
    new = Part("device", None, "car")
    assert severities(COUNTS, of_day(*USUAL) | {new: 900}) == {new: "warn"}
    assert severities(COUNTS, of_day(*USUAL) | {new: 40}) == {}


def test_that_fewer_are_unknown_is_no_loss() -> None:
    unknown, known = Part("track_id known", None, "unknown"), Part("track_id known", None, "known")
    counts = {day: parts | {unknown: 900, known: 5_000} for day, parts in COUNTS.items()}
    assert severities(counts, of_day(*USUAL) | {unknown: 0, known: 5_900}) == {}


def test_an_hour_may_lose_what_a_change_of_clocks_takes_and_not_all() -> None:
    hours = [Part("hour", None, str(h)) for h in range(24)]
    rows = [300 + 200 * abs(h - 12) for h in range(24)]
    counts = {day: parts | dict(zip(hours, rows, strict=True)) for day, parts in COUNTS.items()}

    def severities_of(moved: list[int]) -> set[str | None]:
        today = of_day(*USUAL) | dict(zip(hours, moved, strict=True))
        judged = bands({**counts, day_at(60): today}, day_at(60), {"hour": 0.2})
        return {band.severity for band in judged if band.part.measure == "hour"}

    assert "breach" not in severities_of([*rows[1:], rows[0]])
    assert "breach" in severities_of([0, *rows[1:]])


@pytest.mark.parametrize(
    ("days", "size", "judged"),
    [(MIN_DAYS, 10_000, True), (MIN_DAYS - 1, 10_000, False), (60, MIN_ROWS * 0.7, False)],
)
def test_a_service_that_is_new_or_small_is_left_alone(days: int, size: float, judged: bool) -> None:
    counts = service(days, size)
    assert bool(bands({**counts, day_at(days): of_day(0, 0, 0)}, day_at(days), {})) is judged


def test_days_without_rows_say_nothing_of_what_is_usual() -> None:
    holes = {day: of_day(0, 0, 0) if day.day % 5 == 0 else parts for day, parts in COUNTS.items()}
    assert found(holes, of_day(*USUAL))[PARTS[0]].usual == pytest.approx(USUAL[0], rel=0.1)
    assert severities(holes, of_day(*USUAL)) == {}
