"""Read settings: defaults, a TOML file, SEGUE_* variables, `--set key=value`. Later wins; unknown keys are refused."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from segue.contracts.errors import InvalidSettings
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
    tree: Tree = msgspec.to_builtins(Settings())
    for origin, key, value in _changes(home, config, environ, overrides):
        _set(tree, key, value, origin)
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise InvalidSettings(
            f"settings: {error}", field=str(error).rpartition("`$.")[2].rstrip("`")
        ) from error


def _changes(
    home: Path, config: Path | None, environ: Mapping[str, str], overrides: Sequence[str]
) -> list[tuple[str, list[str], Any]]:
    changes: list[tuple[str, list[str], Any]] = []
    path = config or home / FILE_NAME
    if config is not None or path.exists():
        changes += [(str(path), key, value) for key, value in _leaves(_read_toml(path))]
    for name in sorted(environ):
        if name.startswith("SEGUE_") and name not in _RESERVED:
            key = [part.lower() for part in name.removeprefix("SEGUE_").split("__")]
            changes.append((name, key, _value(environ[name])))
    for item in overrides:
        text, equals, value = item.partition("=")
        if not equals:
            raise InvalidSettings(f"--set {item!r}: write it as section.key=value", field=text)
        changes.append((f"--set {text}", text.strip().split("."), _value(value.strip())))
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


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


# Maps whose keys are names, not settings: new keys may be added there.
_OPEN = {"sources", "weights", "blend", "surfaces"}
# A map of somebody else's names, which have dots of their own: what follows is one name, and every value a text.
_FOREIGN = "conf"


def _set(tree: Tree, key: list[str], value: Any, origin: str) -> None:
    node = tree
    for depth, part in enumerate(key):
        if depth > 0 and key[depth - 1] == _FOREIGN:
            node[".".join(key[depth:])] = (
                value if isinstance(value, str) else msgspec.json.encode(value).decode()
            )
            return
        matched = _match(node, part)
        open_map = depth > 0 and key[depth - 1] in _OPEN
        if matched is None and not open_map:
            near = difflib.get_close_matches(part, list(node), 1)
            hint = (
                f"did you mean {'.'.join([*key[:depth], near[0]])}?"
                if near
                else f"known here: {', '.join(node)}"
            )
            raise InvalidSettings(f"{origin}: unknown setting {'.'.join(key)!r}; {hint}", field=".".join(key))
        name = matched or part
        if depth == len(key) - 1:
            node[name] = value
            return
        below = node.setdefault(name, {})
        if not isinstance(below, dict):
            raise InvalidSettings(
                f"{origin}: {'.'.join(key[: depth + 1])} is a value, not a section", field=".".join(key)
            )
        node = below


def _match(node: Tree, part: str) -> str | None:
    """The key of `node` that `part` names; variables cannot carry a dash, so next_up finds next-up."""
    if part in node:
        return part
    return next((name for name in node if name.replace("-", "_") == part), None)
