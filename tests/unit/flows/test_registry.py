"""Declarations that make no sense are found when they are made, and the order follows from the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from segue.contracts.schema import Column, Table
from segue.flows.registry import Partition, Read, Step, in_order, step
from segue.flows.steps import STEPS
from segue.flows.task import Task


def table(name: str, *, daily: bool = True, derived: bool = True) -> Table:
    columns = (Column("day", pa.date32(), ""),) if daily else (Column("id", pa.int64(), ""),)
    return Table(name, "", columns, key=(), daily=daily, derived=derived)


SOURCE = table("source", derived=False)
A, B, C, WHOLE = table("a"), table("b"), table("c"), table("whole", daily=False)


def made(name: str, reads: Sequence[Read], writes: Sequence[Table], partition: Partition = "day") -> Step:
    def run(task: Task) -> None:
        """Nothing."""

    return step(reads=reads, writes=writes, partition=partition, name=name)(run)


def test_steps_come_behind_those_they_read_and_else_as_given() -> None:
    last = made("last", [Read(B), Read(A)], [C])
    second = made("second", [Read(A)], [B])
    first = made("first", [Read(SOURCE)], [A])
    other = made("other", [Read(SOURCE)], [WHOLE], "whole")
    assert [s.name for s in in_order([last, second, first, other])] == ["first", "second", "last", "other"]


def test_the_flow_is_given_in_its_own_order() -> None:
    assert in_order(STEPS) == STEPS


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            lambda: [made("x", [Read(SOURCE)], [A]), made("y", [Read(SOURCE)], [A])],
            "x and y both write table a",
        ),
        (lambda: [made("x", [Read(B)], [A]), made("y", [Read(A)], [B])], "in a circle"),
        (lambda: [made("x", [Read(B)], [A])], "x reads b, which no step writes"),
    ],
)
def test_a_flow_that_cannot_run_is_refused(steps: Callable[[], list[Step]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        in_order(steps())


@pytest.mark.parametrize(
    ("reads", "writes", "partition", "message"),
    [
        ([], [A], "day", "declare what it reads"),
        ([Read(SOURCE)], [], "day", "declare what it reads"),
        ([Read(SOURCE)], [WHOLE], "day", "cannot write table whole"),
        ([Read(SOURCE)], [A], "whole", "cannot write table a"),
        ([Read(WHOLE)], [A], "day", "its first read drives it"),
        ([Read(SOURCE, tracked=False)], [A], "day", "its first read drives it"),
        ([Read(SOURCE, before=0, after=-2)], [A], "day", "from 0 before to -2 after"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(
    reads: list[Read], writes: list[Table], partition: Partition, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made("x", reads, writes, partition)


def test_a_step_is_named_and_told_by_its_function() -> None:
    @step(reads=[Read(SOURCE)], writes=[A])
    def build_this(task: Task) -> None:
        """Builds this."""

    assert (build_this.name, build_this.doc) == ("build-this", "Builds this.")
