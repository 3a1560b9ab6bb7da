"""Results: the unit table against a computation by hand, who is left out, and what the command says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import NotFound
from segue.contracts.experiments import Variant
from segue.contracts.tables import ARTISTS, DAILY_ARTISTS, EVENTS, EXPOSURES, LISTENERS, OUTCOMES, TRACKS
from segue.contracts.vocabulary import DAY
from segue.experiments.assignment import assign
from segue.experiments.metrics import METRICS, PRE_DAYS
from segue.experiments.results import collect, gini, results
from segue.experiments.store import Kept
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.wiring.home import Home
from tried_service import AT_TIMES, BY_FORCE, DAYS, NEVER, TWICE, rows_of, service, tried

END = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1_000_000
SURFACES = ("home", "station")
HELD = tried(name="held", layer="holdout", share=0.2, variants={"control": Variant()})
SLOTS = tried(name="slots", layer="s", unit="switchback", slot_minutes=120)
REQUESTS = tried(name="requests", layer="r", unit="request")
SESSIONS = tried(name="sessions", layer="t", unit="session")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    settings = Settings(warehouse=Warehouse(threads=1))
    return service(tmp_path_factory.mktemp("tried"), settings, tried(), HELD, SLOTS, REQUESTS, SESSIONS)


@pytest.fixture(scope="module")
def answers(home: Home) -> list[dict[str, Any]]:
    """The first slot of each answer on the experiment's surfaces, in its days, oldest first."""
    shown = [r for r in rows_of(home.engine, EXPOSURES) if r["position"] == 0 and r["surface"] in SURFACES]
    return sorted((r for r in shown if r["day"] >= DAYS.first), key=lambda r: r["ts"])


def logged(row: dict[str, Any], name: str = "tried") -> str | None:
    return msgspec.json.decode(row["variants"]).get(name) if row["variants"] else None


def by_hand(home: Home, first: dict[int, int]) -> dict[str, dict[int, float]]:
    """Sums of every metric by listener, by going through the rows one at a time."""
    events, slots = rows_of(home.engine, EVENTS), rows_of(home.engine, OUTCOMES)
    artist = {r["track_id"]: r["artist_id"] for r in rows_of(home.engine, TRACKS)}
    joined = {r["artist_id"]: r["joined_at"] for r in rows_of(home.engine, ARTISTS)}
    listens = Counter[int]()
    for row in rows_of(home.engine, DAILY_ARTISTS):
        if row["day"] < DAYS.first:
            listens[row["artist_id"]] += row["listens"]
    big, above = set(), 0
    for one, count in sorted(listens.items(), key=lambda pair: (-pair[1], pair[0])):
        if above * 5 < sum(listens.values()) * 4:
            big.add(one)
        above += count
    found: dict[str, Counter[int]] = {}

    def add(name: str, row: dict[str, Any], value: float, last: int = END) -> None:
        user = row["user_id"]
        if user in first:
            when = "" if first[user] <= row["ts"] < last else ".pre" if row["ts"] < first[user] else None
            if when is not None:
                found.setdefault(name.replace("|", f"{when}.") if "|" in name else name + when, Counter())[
                    user
                ] += value

    days: dict[tuple[int, date], int] = {}
    firsts: dict[tuple[int, int], int] = {}
    for row in events:
        if row["type"] in ("play", "skip"):
            add("listens_per_listener", row, row["listened"])
            add("first_week_listens", row, row["listened"], min(END, first.get(row["user_id"], 0) + 7 * DAY))
            add("minutes_per_listener", row, (row["ms_played"] or 0) / 60_000)
            add("skip_rate|numerator", row, row["skipped"])
            add("skip_rate|denominator", row, 1)
        if row["listened"]:
            key = row["user_id"], row["day"]
            days[key] = max(days.get(key, 0), row["ts"])
        if row["type"] == "play" and row["artist_id"] is not None:
            both = row["user_id"], row["artist_id"]
            firsts[both] = min(firsts.get(both, END), row["ts"])
    for name, moments in (("days_active", days), ("discovery", firsts)):
        for (user, _), ts in moments.items():
            add(name, {"user_id": user, "ts": ts}, 1)
    for row in slots:
        if row["surface"] not in SURFACES:
            continue
        for name, column in (("listens", "listened"), ("likes", "liked"), ("hides", "hidden")):
            add(f"{name}_per_exposure|numerator", row, row[column])
            add(f"{name}_per_exposure|denominator", row, 1)
        add("skips_per_start|numerator", row, row["skipped"])
        add("skips_per_start|denominator", row, row["played"])
        by = artist[row["track_id"]]
        if by is not None:
            since = joined.get(by)
            new = since is not None and since <= row["ts"] < since + 90 * DAY
            for name, value in (("small_artist_share", by not in big), ("new_artist_share", new)):
                add(f"{name}|numerator", row, value)
                add(f"{name}|denominator", row, 1)
    for row in rows_of(home.engine, EXPOSURES):
        if row["surface"] in SURFACES and row["position"] == 0:
            add("latency_ms|numerator", row, row["took_us"] / 1_000)
            add("degraded_rate|numerator", row, 0)
            add("failed_rate|numerator", row, '":"failed:' in (row["variants"] or ""))
            for name in ("latency_ms", "degraded_rate", "failed_rate"):
                add(f"{name}|denominator", row, 1)
    return {name: dict(counts) for name, counts in found.items()}


def test_every_metric_is_what_a_count_by_hand_gives(home: Home, answers: list[dict[str, Any]]) -> None:
    assert PRE_DAYS > 6
    found = collect(home.engine, tried(), SURFACES, DAYS, END)
    first: dict[int, int] = {}
    for row in answers:
        said = logged(row)
        if said is not None and ":" not in said:
            first.setdefault(row["user_id"], row["ts"])
    wanted = by_hand(home, first)
    table = found.units.to_pydict()
    names = {n.partition(".")[0] for n in table} - {"unit", "variant", "country", "plan"}
    assert names == set(METRICS)
    assert {name.partition(".")[0] for name, counts in wanted.items() if any(counts.values())} >= names - {
        "degraded_rate",
        "hides_per_exposure",
    }
    for name in set(table) - {"unit", "variant", "country", "plan"}:
        counts = wanted.get(name, {})
        assert table[name] == pytest.approx([counts.get(user, 0.0) for user in table["unit"]]), name
    daily = found.days.group_by("unit").aggregate([("minutes_per_listener", "sum"), ("discovery", "sum")])
    for row in daily.to_pylist():
        for name in ("minutes_per_listener", "discovery"):
            assert row[f"{name}_sum"] == pytest.approx(wanted[name].get(row["unit"], 0.0))


def test_a_day_that_it_ends_in_is_active_by_what_was_heard_before(home: Home) -> None:
    """Whoever listens again later that day does not lose it."""
    end = END - DAY // 2
    found = collect(home.engine, tried(), SURFACES, DAYS, end).units
    heard = [r for r in rows_of(home.engine, EVENTS) if r["listened"]]
    last = {r["user_id"] for r in heard if r["ts"] >= end} & {
        r["user_id"] for r in heard if END - DAY <= r["ts"] < end
    }
    assert last & set(found["unit"].to_pylist())
    whole = collect(home.engine, tried(), SURFACES, DAYS, END - DAY).units
    before = dict(zip(whole["unit"].to_pylist(), whole["days_active"].to_pylist(), strict=False))
    for user, active in zip(found["unit"].to_pylist(), found["days_active"].to_pylist(), strict=True):
        if user in last and user in before:
            assert active == before[user] + 1


def test_the_end_is_a_microsecond(home: Home) -> None:
    """Of a listener whose last play of a day is known: counted up to it, it is not in; up to the next microsecond, it is."""
    everyone = collect(home.engine, tried(), SURFACES, DAYS, END)
    units = set(everyone.units["unit"].to_pylist())
    midnight = END - 2 * DAY
    plays = [
        r
        for r in rows_of(home.engine, EVENTS)
        if r["type"] in ("play", "skip") and r["user_id"] in units and r["ts"] < midnight
    ]
    last = max(plays, key=lambda r: r["ts"])
    counts = []
    for end in (last["ts"], last["ts"] + 1, midnight):
        found = collect(home.engine, tried(), SURFACES, DAYS, end)
        counts.append(sum(found.units["skip_rate.denominator"].to_pylist()))
        days = set(found.days["day"].to_pylist())
        assert max(days) == date(1970, 1, 1) + timedelta(days=last["ts"] // DAY)
    same = sum(r["ts"] == last["ts"] for r in plays)
    assert counts == [counts[1] - same, counts[1], counts[1]]


def test_who_counts_and_who_is_left_out(home: Home, answers: list[dict[str, Any]]) -> None:
    found = collect(home.engine, tried(), SURFACES, DAYS, END)
    everyone = sorted(rows_of(home.engine, EXPOSURES), key=lambda r: (r["ts"], r["position"]))
    order = list(
        dict.fromkeys(r["user_id"] for r in everyone if r["surface"] in SURFACES and logged(r) is not None)
    )
    variants: dict[int, set[str]] = {}
    for unit, variant in zip(*(found.units[name].to_pylist() for name in ("unit", "variant")), strict=True):
        variants.setdefault(unit, set()).add(variant)
    assert variants.pop(order[TWICE]) == {"control", "treatment"}
    assert order[BY_FORCE] not in variants
    assert order[NEVER] not in variants
    assert variants[order[AT_TIMES]] == {assign(tried(), order[AT_TIMES])}
    assert found.left_out == {"forced": 1, "failed": 1}
    assert {user: {assign(tried(), user)} for user in variants} == variants
    exposed = {r["user_id"] for r in answers if logged(r) is not None}
    assert set(variants) == exposed - {order[n] for n in (TWICE, BY_FORCE, NEVER)}
    people = {r["user_id"]: r for r in rows_of(home.engine, LISTENERS)}
    for row in found.units.select(["unit", "country", "plan"]).to_pylist():
        assert (row["country"], row["plan"]) == (
            people[row["unit"]]["country"] or "unknown",
            people[row["unit"]]["plan"] or "unknown",
        )


@pytest.mark.parametrize("one", [SLOTS, REQUESTS, SESSIONS], ids=lambda one: one.unit)
def test_other_units_have_the_slots_of_their_requests(
    home: Home, answers: list[dict[str, Any]], one: Any
) -> None:
    found = collect(home.engine, one, SURFACES, DAYS, END)
    slots = Counter(r["request_id"] for r in rows_of(home.engine, OUTCOMES))
    table = found.units.to_pylist()
    assert len({row["unit"] for row in table}) == len(table) > 10
    assert sum(row["likes_per_exposure.denominator"] for row in table) == sum(
        slots[r["request_id"]] for r in answers if logged(r, one.name)
    )
    for row in table:
        assert row["variant"] == assign(one, str(row["unit"]))
    assert "listens_per_listener" not in found.units.column_names


def test_a_holdout_is_held_against_everyone_else(home: Home, answers: list[dict[str, Any]]) -> None:
    found = results(home.engine, Kept(HELD), SURFACES, END)
    held = {r["user_id"] for r in answers if logged(r, "held")}
    rest = {r["user_id"] for r in answers} - held
    units = found.analysis.units
    assert units["control"] <= len(held)
    assert units["everyone-else"] == len(rest)
    assert found.analysis.srm.expected["control"] / sum(units.values()) == pytest.approx(0.2)


def test_results_say_what_was_not_measured(home: Home) -> None:
    kept = Kept(tried())
    found = results(home.engine, kept, SURFACES, END)
    assert found.analysis.metrics.keys() | set(found.unmeasured) == set(METRICS)
    assert found.analysis.twice == 1
    assert any("forced into a variant" in said for said in found.analysis.warnings)
    assert not found.analysis.running
    roles = {name: one.metric.role for name, one in found.analysis.metrics.items()}
    assert (roles["listens_per_exposure"], roles["skips_per_start"]) == ("goal", "guardrail")
    assert set(found.creators) == {"control", "treatment"}
    assert all(0 < one.gini < 1 and one.slots > one.artists for one in found.creators.values())
    half = results(home.engine, kept, SURFACES, END - 2 * DAY - 1)
    assert half.analysis.running
    assert half.last == DAYS.last - timedelta(days=2)
    assert sum(half.analysis.units.values()) <= sum(found.analysis.units.values())


def test_an_experiment_that_was_stopped_is_read_as_one_that_somebody_looked_at(home: Home) -> None:
    stopped = results(home.engine, Kept(tried(), stopped_at=END - DAY), SURFACES, END + DAY).analysis
    assert stopped.running  # always-valid numbers, although nothing more is to come
    assert stopped.decision.verdict != "wait"


def test_nothing_landed_is_said(home: Home) -> None:
    later = tried(starts=date(2026, 12, 1), ends=date(2026, 12, 5))
    with pytest.raises(NotFound, match="no exposures from 2026-12-01 on have landed yet"):
        results(home.engine, Kept(later), SURFACES, END + 20 * DAY)
    with pytest.raises(NotFound, match="nobody was exposed to it"):
        results(home.engine, Kept(tried(name="other")), SURFACES, END)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_gini_is_the_mean_difference(values: list[int]) -> None:
    each, counts = np.unique(values, return_counts=True)
    pairs = np.abs(np.subtract.outer(values, values)).mean() / (2 * np.mean(values))
    assert gini(each, counts) == pytest.approx(pairs)


def test_the_table_has_no_nulls(home: Home) -> None:
    units = collect(home.engine, tried(), SURFACES, DAYS, END).units
    assert all(pc.sum(pc.is_null(units[name])).as_py() == 0 for name in units.column_names)
