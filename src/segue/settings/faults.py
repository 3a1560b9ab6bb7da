"""What is wrong with a setting, in words: which key, who set it, what it must be."""

from __future__ import annotations

import copy
import difflib
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from segue.contracts.errors import InvalidSettings
from segue.settings.tree import Settings

_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_PART: Final = re.compile(r"[^.\[\]]+|\.\.\.")
_ENUM: Final = "Invalid enum value "
_WORDS: Final = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a section",
    "`null`": "nothing",
}


@dataclass(frozen=True)
class Change:
    """A setting that somebody gave: where, under which key, and the value."""

    origin: str
    key: list[str]
    value: Any


def invalid(
    tree: dict[str, Any], changes: Sequence[Change], error: msgspec.ValidationError
) -> InvalidSettings:
    """The error for a tree that is not one of settings."""
    said, _, place = str(error).partition(" - at `$")
    key = _steps(tree, place.rstrip("`"), str(error))
    wanted, limit = _wanted(said, key)
    origin = next((c.origin for c in reversed(changes) if _touch(c.key, key)), "settings")
    return InvalidSettings(f"{origin}: {'.'.join(key)}: {wanted}", field=".".join(key), limit=limit)


def fault_of(kind: Any, error: msgspec.ValidationError) -> tuple[str, str]:
    """Where a value is not one of a type, as keys ("": the whole), and what is wrong; with the choices, where they are few."""
    said, _, place = str(error).partition(" - at `$")
    path = place.strip("`.")
    choices = ", ".join(map(str, choices_of(kind, _PART.findall(path))))
    if said.startswith(_ENUM) and choices:
        said = f"{said.removeprefix(_ENUM)} is none of {choices}"
    return path, said


def fields_of(kind: Any) -> dict[str, Any] | None:
    """The fields of a section and their types; None if it is none."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return typing.get_type_hints(kind)
    return None


def value_of(kind: Any) -> Any:
    """The type of the values of a map or a list; None if it is neither."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    return inner[1] if origin is dict else inner[0] if origin is tuple else None


def _wanted(said: str, key: list[str]) -> tuple[str, str | None]:
    """What the value must be: in a sentence, and as a limit."""
    choices = [str(choice) for choice in choices_of(Settings, key)]
    enum = re.fullmatch(f"{_ENUM}(.*)", said)
    if enum and choices:
        near = difflib.get_close_matches(enum[1].strip("'"), choices, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{enum[1]} must be one of {', '.join(choices)}{hint}", f"one of {', '.join(choices)}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", said)
    if missing:
        return f"{missing[1]} is missing", missing[1]
    for type_, words in _WORDS.items():
        said = said.replace(type_, words)
    limit, _, got = said.removeprefix("Expected ").partition(", got ")
    return f"must be {limit}" + (f", not {got}" if got else ""), limit


def choices_of(kind: Any, key: Sequence[str]) -> tuple[Any, ...]:
    """The values that the part of a type under that key may have, where they are a closed set."""
    for part in key:
        kind = (fields_of(kind) or {}).get(part) or value_of(kind)
    kinds = (kind, *typing.get_args(kind))  # which are those of `Literal[...] | None`
    return next((typing.get_args(one) for one in kinds if typing.get_origin(one) is Literal), ())


def _steps(tree: dict[str, Any], place: str, said: str) -> list[str]:
    """The keys that lead to a fault. Of one within a map the library says only that it is in some value: it is looked for."""
    tree = copy.deepcopy(tree)
    node: Any = tree
    found: list[str] = []
    for name, index in _STEP.findall(place):
        step = name or index
        if step == "...":
            step = _culprit(tree, node, said)
        found.append(step)
        node = node[int(step)] if isinstance(node, list | tuple) else node.get(step)
    return found


def _culprit(tree: dict[str, Any], values: dict[str, Any], said: str) -> str:
    """The key of the map `values`, a part of `tree`, without whose others the same is said. Leaves it alone in the map."""
    every = dict(values)
    for key, value in every.items():
        values.clear()
        values[key] = value
        try:
            msgspec.convert(tree, Settings)
        except msgspec.ValidationError as error:
            if str(error) == said:
                break
    return key


def _touch(one: list[str], other: list[str]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))
