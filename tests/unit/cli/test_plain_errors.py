"""What every command shares: refusals are one line and status 2; whatever else goes wrong is not hidden."""

from __future__ import annotations

import errno
import json

import msgspec
import pytest
import typer

from segue.cli.console import plain_errors, print_json, working
from segue.contracts import errors


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.SegueError)
    ],
)
def test_every_error_of_ours_is_one_line(
    kind: type[errors.SegueError], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise kind("k: 0 is out of range;\n  ask for [1] to 200 [/] items", field="k")
    assert ended.value.exit_code == 2
    said = capsys.readouterr()
    assert said.err == "error: k: 0 is out of range; ask for [1] to 200 [/] items\n"
    assert said.out == ""


def test_a_long_message_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), plain_errors():
        raise errors.NotFound("word " * 100 + "end")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_systems_errors_name_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "/home/[x]/part")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "error: /home/[x]/part: No space left on device\n"


def test_a_bug_is_not_dressed_up_as_a_refusal() -> None:
    with pytest.raises(KeyError), plain_errors():
        raise KeyError("x")


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with working("train") as say:
        say("iALS")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_json_is_one_document_of_structs_too(capsys: pytest.CaptureFixture[str]) -> None:
    class Said(msgspec.Struct):
        title: str

    print_json({"a": Said("Ödegård")})
    assert json.loads(capsys.readouterr().out) == {"a": {"title": "Ödegård"}}
