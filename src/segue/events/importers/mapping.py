"""How somebody's own columns become ours: a TOML file, checked key by key.

source = "my-service"                    # sets these ids apart from other systems'
table = "events"                         # or tracks, artists, listeners, friendships
[columns]
user_id = "listener"                     # our column = their column
ts = { column = "played_at", unit = "s" }            # s, ms, us or iso
ms_played = { column = "seconds", unit = "s" }
type = { column = "action", values = { heard = "play", heart = "like" } }
device = { value = "phone" }             # the same for all rows
track_id = { columns = ["artist", "title"] }         # several columns together name it
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.schema import Table
from segue.contracts.tables import ARTISTS, FRIENDSHIPS, LISTENERS, RAW_EVENTS, TRACKS
from segue.events.importers.readers import did_you_mean
from segue.events.validation import GIVEN_LATER

TARGETS: Final[dict[str, Table]] = {
    "events": RAW_EVENTS,
    "tracks": TRACKS,
    "artists": ARTISTS,
    "listeners": LISTENERS,
    "friendships": FRIENDSHIPS,
}
NAMED: Final = {"title": "tracks.title", "artist_name": "artists.name", "duration_ms": "tracks.duration_ms"}
"""What an event's row may say in passing about its track and artist; a track's row, about its artist."""
TIMES: Final = ("ts", "joined_at", "uploaded_at")
LENGTHS: Final = ("ms_played", "duration_ms")
IDS: Final = {
    "user_id": "user",
    "friend_id": "user",
    "track_id": "track",
    "artist_id": "artist",
    "session_id": "session",
    "playlist_id": "playlist",
}
"""Columns that hold ids, and what they are ids of. Outside ids of one kind and one source agree across tables."""


class From(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a column comes from: one column, several that together name something, or one value for all rows."""

    column: str | None = None
    columns: tuple[str, ...] = ()
    value: str | int | bool | None = None
    unit: Literal["s", "ms", "us", "iso"] | None = None
    values: dict[str, str] = {}

    @property
    def read(self) -> tuple[str, ...]:
        """The outside columns it reads."""
        return self.columns or ((self.column,) if self.column else ())


class Mapping(Struct, frozen=True, forbid_unknown_fields=True):
    """A checked mapping file."""

    columns: dict[str, From]
    source: str = "table"
    table: Literal["events", "tracks", "artists", "listeners", "friendships"] = "events"
    format: Literal["parquet", "csv", "jsonl"] | None = None
    delimiter: str = ","

    @property
    def target(self) -> Table:
        """The table the rows go to."""
        return TARGETS[self.table]

    @property
    def read(self) -> tuple[str, ...]:
        """Every outside column it reads, each once."""
        return tuple(dict.fromkeys(name for origin in self.columns.values() for name in origin.read))


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises NotFound, or InvalidInput naming the key and the nearest known one.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such mapping file", field="mapping") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{path}: not a TOML file: {error}", field="mapping") from error
    _known_keys(path, "", tree, Mapping.__struct_fields__)
    columns = tree.get("columns", {})
    target = TARGETS.get(str(tree.get("table", "events")))
    if target is not None and isinstance(columns, dict):
        _known_keys(path, "columns.", columns, _allowed(target))
        for name, origin in columns.items():
            if isinstance(origin, dict):
                _known_keys(path, f"columns.{name}.", origin, From.__struct_fields__)
        tree["columns"] = {k: {"column": v} if isinstance(v, str) else v for k, v in columns.items()}
    try:
        mapping = msgspec.convert(tree, Mapping)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"{path}: {error}", field=str(error).rpartition("`$.")[2].rstrip("`") or None
        ) from error
    _check(path, mapping)
    return mapping


def _allowed(target: Table) -> list[str]:
    if target is RAW_EVENTS:
        return [*(name for name in target.names if name not in GIVEN_LATER), *NAMED]
    return [*target.names, "artist_name"] if target is TRACKS else list(target.names)


def _known_keys(path: Path, prefix: str, tree: dict[str, Any], known: tuple[str, ...] | list[str]) -> None:
    for key in tree:
        if key not in known:
            raise InvalidInput(
                f"{path}: unknown key {prefix + key!r}; {did_you_mean(key, list(known))}", field=prefix + key
            )


def _check(path: Path, mapping: Mapping) -> None:
    if not mapping.source or ":" in mapping.source:
        raise InvalidInput(
            f"{path}: source: {mapping.source!r} must be a name without a colon, as ids are written SOURCE:ID",
            field="source",
        )
    for name, origin in mapping.columns.items():
        field = f"columns.{name}"
        ways = [bool(origin.column), bool(origin.columns), origin.value is not None]
        if sum(ways) != 1:
            raise InvalidInput(f"{path}: {field}: give one of column, columns or value", field=field)
        if origin.columns and name not in IDS:
            raise InvalidInput(
                f"{path}: {field}: several columns can only name an id ({', '.join(IDS)})", field=field
            )
        units = ("s", "ms", "us", "iso") if name in TIMES else ("s", "ms") if name in LENGTHS else ()
        if origin.unit and origin.unit not in units:
            fits = (
                f"its unit is {' or '.join(units)}"
                if units
                else f"only {', '.join((*TIMES, *LENGTHS))} have a unit"
            )
            raise InvalidInput(
                f"{path}: {field}: {fits}", field=f"{field}.unit", limit=" or ".join(units) or None
            )
        if name in TIMES and origin.column and origin.unit is None:
            raise InvalidInput(
                f"{path}: {field}: say the unit: s, ms, us or iso",
                field=f"{field}.unit",
                limit="s, ms, us, iso",
            )
    given = set(mapping.columns) | ({"artist_id"} if "artist_name" in mapping.columns else set())
    later = GIVEN_LATER if mapping.target is RAW_EVENTS else ()
    optional = ("explicit", "public", "explicit_ok", "personalization_consent")
    for column in mapping.target.columns:
        if not column.nullable and column.name not in (*later, *optional) and column.name not in given:
            raise InvalidInput(
                f"{path}: says nothing about {column.name} ({column.doc}), which every row of {mapping.table} needs",
                field=f"columns.{column.name}",
            )
