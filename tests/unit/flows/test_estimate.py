"""What a run will cost is told without touching anything, and a run over its budget builds nothing."""

from __future__ import annotations

from pathlib import Path

import made_flow
import msgspec
import pytest
from made_flow import D, commits, home_with, raw_events, run, work

from segue.contracts.errors import Overloaded
from segue.contracts.ports import Days
from segue.contracts.tables import EVENTS, RAW_EVENTS, TRACKS
from segue.flows.estimate import ROW_BYTES, Estimate, scan_bytes
from segue.flows.steps import BUILD, build_events


def by_step(found: list[Estimate]) -> dict[str, Estimate]:
    return {one.step: one for one in found}


def with_budget(budget: int) -> made_flow.Settings:
    plain = made_flow.settings()
    warehouse = msgspec.structs.replace(plain.warehouse, budget=budget)
    return msgspec.structs.replace(plain, warehouse=warehouse)


def test_a_first_run_is_told_from_what_landed_and_guessed_behind(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(4)))
    before = commits(tmp_path)
    told = made_flow.runner(engine, tmp_path).estimate()
    assert commits(tmp_path) == before
    assert {one.step: [one.days] for one in told} == work(run(engine, tmp_path))
    first, *behind = told
    assert (first.step, first.read_rows, first.read_from, first.made_from) == (
        "events",
        240,
        "tables",
        "guess",
    )
    assert first.reads == {"raw_events": Days(D[0], D[3]).widen(before=1), "tracks": None}
    read = (engine.read(RAW_EVENTS), engine.read(TRACKS))
    assert first.read_bytes == sum(map(engine.scan_bytes, read))
    assert {(one.read_from, one.seconds) for one in behind} == {("guess", None)}
    assert by_step(told)["listens"].read_bytes == 240 * ROW_BYTES


def test_a_later_run_is_told_from_those_before(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(4), per_day=200))
    for day in D[:4]:
        run(engine, tmp_path, days=Days(day, day))
    engine.append(RAW_EVENTS, raw_events([4], seed=4, per_day=200))
    told = made_flow.runner(engine, tmp_path).estimate()
    done = [one for one in run(engine, tmp_path) if one.state == "done"]
    assert [(one.step, one.days) for one in told] == [(one.step, one.days) for one in done]
    for expected, actual in zip(told, done, strict=True):
        assert expected.made_from == "history"
        assert expected.read_from == ("tables" if expected.step == "events" else "history")
        assert expected.rows == pytest.approx(actual.written_rows, rel=0.5)
        if expected.step != "debuts":  # it reads two weeks, of which each day has another part yet
            assert expected.read_bytes == pytest.approx(actual.read_bytes, rel=0.5), expected.step
        assert expected.seconds is not None
        assert expected.seconds > 0
    assert made_flow.runner(engine, tmp_path).estimate() == []


def test_a_step_over_tables_that_are_there_is_told_from_them(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))
    run(engine, tmp_path)
    told = made_flow.runner(engine, tmp_path).estimate(["listens"], Days(D[1], D[1]), force=True)
    assert [(one.step, one.days, one.read_from) for one in told] == [("listens", Days(D[1], D[1]), "tables")]
    assert told[0].read_bytes == engine.scan_bytes(engine.read(EVENTS, Days(D[1], D[1])))


def test_parallel_chunks_are_told_as_they_would_run(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(4)))
    runner = made_flow.runner(engine, tmp_path, given=made_flow.settings(chunk_rows=240))
    assert len([one for one in runner.estimate(parallel=2) if one.step == "events"]) == 2
    assert len([one for one in runner.estimate() if one.step == "events"]) == 1


def test_a_run_over_its_budget_does_nothing(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))
    before = commits(tmp_path)
    cost = sum(one.read_bytes for one in made_flow.runner(engine, tmp_path).estimate())
    landed: list[str] = []
    over = made_flow.runner(engine, tmp_path, given=with_budget(cost - 1))
    with pytest.raises(
        Overloaded, match=rf"about {cost:,} bytes, and warehouse.budget is {cost - 1:,}.* outcomes"
    ):
        list(over.run(first=lambda: landed.append("landed")))
    assert landed == []
    assert commits(tmp_path) == before
    within = made_flow.runner(engine, tmp_path, given=with_budget(cost))
    assert len(work(within.run())) == len(BUILD)


def test_what_lands_with_the_run_counts(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))
    run(engine, tmp_path)
    before = commits(tmp_path)
    over = made_flow.runner(
        engine, tmp_path, given=with_budget(scan_bytes(engine, build_events, Days(D[0], D[2])))
    )
    assert set(work(over.run())) == set(), "up to date costs nothing"
    with pytest.raises(Overloaded, match=r"warehouse\.budget"):
        list(over.run(first=lambda: engine.append(RAW_EVENTS, raw_events(range(3), seed=8))))
    after = commits(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {"raw_events"}


def test_bytes_have_a_price_where_the_engine_bills_by_them() -> None:
    warehouse = made_flow.settings().warehouse
    assert warehouse.dollars(2**40) == 0
    assert msgspec.structs.replace(warehouse, price_per_tib=5.0).dollars(2**39) == 2.5
