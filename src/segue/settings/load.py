"""Read settings: defaults, a TOML file, SEGUE_* variables, `--set key=value`. Later wins; unknown keys are refused."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from segue.contracts.errors import InvalidSettings
from segue.contracts.vocabulary import Surface
from segue.settings.faults import Change, fields_of, invalid, value_of
from segue.settings.tree import Settings

DEFAULT_HOME = Path(".segue")
FILE_NAME = "segue.toml"
_RESERVED = {"SEGUE_HOME", "SEGUE_CONFIG"}

Tree = dict[str, Any]


def load_settings(
    home: Path, *, config: Path | None = None, environ: Mapping[str, str] = {}, overrides: Sequence[str] = ()
) -> Settings:
    """The settings of a home directory.

    `config` defaults to `home/segue.toml` where that exists. Variables are SEGUE_SECTION__KEY (`SEGUE_SERVING__PORT=9000`);
    overrides are `section.key=value`, values in TOML's notation, bare words being text.

    Raises InvalidSettings naming the key, what it must be, and the nearest known key.
    """
    return _changed(Settings(), _changes(home, config, environ, overrides))


def change_settings(settings: Settings, changes: Mapping[str, Any], origin: str) -> Settings:
    """The settings with others' values under some dotted keys; a table as value changes the keys that it has.

    Raises InvalidSettings, as `load_settings`, naming `origin` as where the change is from.
    """
    return _changed(settings, _leaf_changes(changes, origin))


def leaf_keys(changes: Mapping[str, Any]) -> set[str]:
    """The dotted keys of the single settings that `change_settings` would change."""
    return {".".join(change.key) for change in _leaf_changes(changes, "")}


def _leaf_changes(changes: Mapping[str, Any], origin: str) -> list[Change]:
    return [change for key, value in changes.items() for change in _below(origin, key.split("."), value)]


def _changed(settings: Settings, changes: Iterable[Change]) -> Settings:
    tree: Tree = msgspec.to_builtins(settings)
    made = [_set(tree, change) for change in changes]
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise invalid(tree, made, error) from error


def _changes(
    home: Path, config: Path | None, environ: Mapping[str, str], overrides: Sequence[str]
) -> list[Change]:
    changes: list[Change] = []
    path = config or home / FILE_NAME
    if config is not None or path.exists():
        changes += [Change(str(path), key, value) for key, value in _leaves(_read_toml(path))]
    for name in sorted(environ):
        if name.startswith("SEGUE_") and name not in _RESERVED:
            key = [part.lower() for part in name.removeprefix("SEGUE_").split("__")]
            changes += _given(name, key, environ[name])
    for item in overrides:
        text, equals, value = item.partition("=")
        if not equals:
            raise InvalidSettings(f"--set {item!r}: write it as section.key=value", field=text)
        changes += _given("--set", text.strip().split("."), value.strip())
    return changes


def _read_toml(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidSettings(f"{path}: no such settings file", field=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path}: not valid TOML: {error}", field=str(path)) from error


def _leaves(tree: Tree, prefix: tuple[str, ...] = ()) -> list[tuple[list[str], Any]]:
    found: list[tuple[list[str], Any]] = []
    for key, value in tree.items():
        path = (*prefix, key)
        if isinstance(value, dict) and value:
            found += _leaves(value, path)
        else:
            found.append((list(path), value))
    return found


def _given(origin: str, key: list[str], text: str) -> list[Change]:
    return _below(origin, key, _value(text))


def _below(origin: str, key: list[str], value: Any) -> list[Change]:
    leaves = _leaves(value, tuple(key)) if isinstance(value, dict) and value else [(key, value)]
    return [Change(origin, *leaf) for leaf in leaves]


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


_NAMES: Final[dict[str, tuple[str, ...]]] = {"surfaces": tuple(Surface)}
"""The names that a map may have, where they are a closed set. In other maps any name may be added."""


def _set(tree: Tree, change: Change) -> Change:
    """Write the change into the tree. Returns it with the key spelt as in the tree. Raises InvalidSettings."""
    node: Any = tree
    kind: Any = Settings
    spelt: list[str] = []
    for depth, part in enumerate(change.key):
        if value_of(kind) is str:
            # Why: names of others, such as Spark's properties, have dots of their own, and every value is a text.
            text = (
                change.value if isinstance(change.value, str) else msgspec.json.encode(change.value).decode()
            )
            rest = ".".join(change.key[depth:])
            node[rest] = text
            return Change(change.origin, [*spelt, rest], text)
        if not isinstance(node, dict) or (value_of(kind) is None and fields_of(kind) is None):
            raise InvalidSettings(
                f"{change.origin}: {'.'.join(spelt)} is a value, not a section", field=".".join(change.key)
            )
        fields = fields_of(kind)
        closed = fields or _NAMES.get(".".join(spelt))
        name = _match({*node, *(closed or ())}, part)
        if name is None and closed is not None:
            raise _unknown(change, spelt, part, {*closed, *node})
        spelt.append(name or part)
        kind = fields[spelt[-1]] if fields else value_of(kind)
        if len(spelt) == len(change.key):
            node[spelt[-1]] = change.value
        else:
            node = node.setdefault(spelt[-1], {})
    return Change(change.origin, spelt, change.value)


def _unknown(change: Change, above: list[str], part: str, known: Iterable[str]) -> InvalidSettings:
    near = difflib.get_close_matches(part, known, 1)
    hint = f"did you mean {'.'.join([*above, *near])}?" if near else f"known here: {', '.join(sorted(known))}"
    key = ".".join(change.key)
    return InvalidSettings(f"{change.origin}: unknown setting {key!r}; {hint}", field=key, limit=hint)


def _match(names: Iterable[str], part: str) -> str | None:
    """The name that `part` means; variables cannot carry a dash, so next_up finds next-up."""
    if part in names:
        return part
    return next((name for name in names if name.replace("-", "_") == part), None)
