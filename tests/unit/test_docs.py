"""What the documents say is so: generated pages, links, commands, make targets and settings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import msgspec
import pytest
import typer

from segue.cli.main import COMMANDS, load
from segue.settings import Settings, load_settings
from segue.wiring.reference import pages

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("examples/*.md"),
    ],
    key=lambda p: str(p),
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
COMMAND = re.compile(r"(?:^|\s|`)(?:\.venv/bin/)?(segue [a-z0-9][^`\n]*)")
UsageError = typer.BadParameter.__mro__[1]
"""The parser's error for a command line that it cannot read; Typer keeps its own copy of Click and exports only this subclass."""
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)


def code(text: str) -> list[str]:
    """Lines of code blocks, and code within sentences."""
    blocks = [line for block in FENCE.findall(text) for line in block.splitlines()[1:-1]]
    return blocks + re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


@pytest.mark.parametrize("name", list(pages()))
def test_reference_pages_are_what_the_code_says(name: str) -> None:
    committed = ROOT / "docs" / "reference" / name
    assert committed.read_text(encoding="utf-8") == pages()[name], f"{committed} is stale: run `make docs`"


def test_no_reference_page_is_left_over() -> None:
    found = {path.name for path in (ROOT / "docs" / "reference").iterdir()}
    assert found - {"benchmarks.md"} == set(pages())


@every_document
def test_relative_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        where, _, anchor = target.partition("#")
        file = (path.parent / where) if where else path
        assert file.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in headings(file), f"{path.name} links to {target}"


def headings(path: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_document
def test_commands_parse(path: Path) -> None:
    for line in code(path.read_text(encoding="utf-8")):
        for said in COMMAND.findall(line):
            parse(said)


def parse(said: str) -> None:
    """Let the real parser read a command line. Raises UsageError where there is no such command."""
    words = shlex.split(said, comments=True)[1:]
    if words[0] not in COMMANDS:
        raise UsageError(f"{said}: there is no command {words[0]!r}")
    command, words = load(words[0]), words[1:]
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            raise UsageError(f"{said}: there is no command {words[0]!r}")
        command, words = command.commands[words[0]], words[1:]
    if words:  # `segue import` in a sentence: its arguments are elsewhere
        command.make_context(said, words)


def test_a_wrong_command_would_be_noticed() -> None:
    parse("segue recommend --user 12 --why   # a comment")
    for wrong in ("segue recomend", "segue run --form 3", "segue bundle drop"):
        with pytest.raises(UsageError):
            parse(wrong)


@every_document
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for line in code(path.read_text(encoding="utf-8")):
        for target in re.findall(r"(?:^|\s)make ([a-z-]+)", line):
            assert target in targets, line


@every_document
def test_named_modules_exist(path: Path) -> None:
    modules = {
        str(file.relative_to(ROOT))
        for folder in ("src", "tests", "benchmarks")
        for file in (ROOT / folder).rglob("*.py")
    }
    for said in code(path.read_text(encoding="utf-8")):
        for name in re.findall(r"^[a-z0-9_./-]+\.py$", said):
            assert any(f"/{module}".endswith(f"/{name}") for module in modules), f"{path.name} names {name}"


SECTIONS = "|".join(Settings.__struct_fields__)


@every_document
def test_settings_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for key in re.findall(rf"`((?:{SECTIONS})\.[\w.-]+)`", text):
        assert exists(key.split(".")), key
    changes = re.findall(r"--set ([\w.-]+=\S+?)[`\s]", text)
    variables = dict(re.findall(r"(SEGUE_[A-Z_]+__[A-Z_]+)=([^`\s]+)", text))
    load_settings(ROOT / "absent", environ=variables, overrides=[c for c in changes if "KEY" not in c])


def exists(key: list[str]) -> bool:
    """Whether a key names a setting or a section of the defaults."""
    node = msgspec.to_builtins(Settings())
    for part in key:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def test_every_target_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M).group(1).split())  # type: ignore[union-attr]
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert phony <= explained


def leaves(words: tuple[str, ...], command: object) -> list[tuple[tuple[str, ...], str]]:
    """Every command below a command, as what is typed and its help."""
    below = getattr(command, "commands", None)
    if below is None:
        return [(words, str(getattr(command, "help", "")))]
    return [leaf for name, found in below.items() for leaf in leaves((*words, name), found)]


COMMAND_HELP = [
    leaf for name in COMMANDS if not COMMANDS[name].hidden for leaf in leaves((name,), load(name))
]


@pytest.mark.parametrize(("words", "text"), COMMAND_HELP, ids=[" ".join(words) for words, _ in COMMAND_HELP])
def test_help_teaches_with_an_example_and_what_comes_next(words: tuple[str, ...], text: str) -> None:
    purpose, *_, example, following = text.split("\n\n")
    assert purpose
    assert example.startswith(f"Example: `segue {' '.join(words)}")
    assert following.startswith("Next: ")
    for said in re.findall(r"`(segue [^`]+)`", text.replace("\n", " ")):
        parse(re.sub(r"\b(VERSION|NAME)\b", "x", said))
