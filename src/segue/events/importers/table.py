"""Anything in Parquet, CSV or JSON lines, by a mapping of its columns to ours (see `mapping.py`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidData
from segue.contracts.tables import ARTISTS, FRIENDSHIPS, LISTENERS, MAX_TEXT, RAW_EVENTS, TRACKS
from segue.events.columns import (
    Coerced,
    clip,
    coerce,
    is_text,
    loose,
    mask_of,
    scaled,
    single,
    stable_ids,
    times,
)
from segue.events.importers.base import Part, Piece
from segue.events.importers.mapping import IDS, LENGTHS, NAMED, TIMES, From, Mapping, load_mapping
from segue.events.importers.readers import (
    csv_header,
    csv_pieces,
    did_you_mean,
    find_files,
    json_lines,
    parquet_batches,
    parquet_columns,
    plain_suffix,
)
from segue.events.rejects import Rejects
from segue.events.validation import ROW

FORMATS: Final = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
OUTSIDE_ID: Final = {
    "user_id": "listeners.external_id",
    "track_id": "tracks.external_id",
    "artist_id": "artists.external_id",
}
PAGE: Final = 50_000
"""Rows of a Parquet file read at once."""


class TableImporter:
    """`segue import table PATH --mapping FILE`"""

    name: Final = "table"

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self.source = mapping.source
        digest = hashlib.blake2b(msgspec.json.encode(mapping), digest_size=8).hexdigest()
        self.identity = f"table/1:{mapping.source}:{digest}"

    @staticmethod
    def load(path: Path) -> TableImporter:
        """The importer of a mapping file. Raises NotFound or InvalidInput."""
        return TableImporter(load_mapping(path))

    def parts(self, path: Path) -> list[Part]:
        """Each file is a part."""
        found = find_files(path, tuple(FORMATS))
        return [Part(str(p.relative_to(path)) if path.is_dir() else p.name, (p,)) for p in found]

    def read(self, part: Part, batch_rows: int) -> Iterator[Piece]:
        """The rows with our columns. Raises InvalidData if a mapped column is absent."""
        path = part.files[0]
        for row, table, broken in self._outside(path, min(batch_rows, PAGE)):
            columns = self._columns(table, row)
            yield Piece(self._mapping.target, columns, broken)
            if self._mapping.target is TRACKS and "artists.name" in columns.column_names:
                named = {"artist_id": columns["artist_id"], "name": columns["artists.name"], ROW: row}
                yield Piece(ARTISTS, pa.table(named).filter(pc.is_valid(columns["artist_id"])), counted=False)
            if self._mapping.target is FRIENDSHIPS:
                names = [
                    "friend_id" if n == "user_id" else "user_id" if n == "friend_id" else n
                    for n in columns.column_names
                ]
                yield Piece(FRIENDSHIPS, columns.rename_columns(names), counted=False)

    def _outside(self, path: Path, rows: int) -> Iterator[tuple[pa.Array, pa.Table, Rejects]]:
        """Row numbers, the mapped columns as they are in the file, and what could not be read."""
        wanted = self._mapping.read
        match self._mapping.format or FORMATS.get(plain_suffix(path)):
            case "parquet":
                _require(path, wanted, parquet_columns(path))
                for first, table in parquet_batches(path, wanted, rows):
                    yield pa.array(np.arange(first, first + table.num_rows)), table, Rejects.none()
            case "csv":
                delimiter = "\t" if plain_suffix(path) == ".tsv" else self._mapping.delimiter
                _require(path, wanted, csv_header(path, delimiter))
                for piece in csv_pieces(path, wanted, delimiter):
                    yield pa.array(piece.rows), piece.table, piece.broken
            case "jsonl":
                for lines in json_lines(path, dict[str, Any]):
                    yield pa.array(lines.rows, pa.int64()), _table(lines.items, wanted), lines.broken
            case _:
                raise InvalidData(
                    f'{path}: cannot tell its format from its name; say format = "parquet", "csv" or "jsonl" in the mapping',
                    field="format",
                    limit="parquet, csv, jsonl",
                )

    def _columns(self, table: pa.Table, row: pa.Array) -> pa.Table:
        columns: dict[str, pa.Array | Coerced] = {ROW: row}
        for name, origin in self._mapping.columns.items():
            column = self._column(name, origin, table)
            columns[name if name in self._mapping.target.names else NAMED[name]] = column
            if name in OUTSIDE_ID and origin.read:
                self._keep_outside_id(name, _joined(origin, table), columns)
        if "artists.name" in columns and "artist_id" not in columns:
            named = pc.binary_join_element_wise("name:", columns["artists.name"], "")
            columns["artist_id"] = stable_ids(f"{self.source}/artist", named)
        return loose(columns)

    def _column(self, name: str, origin: From, table: pa.Table) -> pa.Array | Coerced:
        if origin.value is not None:
            return pa.array([origin.value] * table.num_rows)
        values = _joined(origin, table)
        if origin.values:
            values = _translated(values, origin.values)
        if name in IDS:
            return _ids(f"{self.source}/{IDS[name]}", values)
        if name in TIMES and origin.unit:
            return times(values, origin.unit)
        if name in LENGTHS:
            return scaled(values, 1_000 if origin.unit == "s" else 1)
        if name in ("title", "artist_name"):
            return clip(coerce(values, pa.string()).values, MAX_TEXT)
        if name in ("country", "tags", "genre", "blocked_countries"):
            return _tidy(name, values)
        return coerce(values, self._mapping.target.column(name).type)

    def _keep_outside_id(self, name: str, values: pa.Array, columns: dict[str, pa.Array | Coerced]) -> None:
        """An id that was text is kept as it was."""
        target = self._mapping.target
        own = {TRACKS: "track_id", ARTISTS: "artist_id", LISTENERS: "user_id"}.get(target)
        if not is_text(values.type) or "external_id" in self._mapping.columns:
            return
        if target is RAW_EVENTS:
            columns[OUTSIDE_ID[name]] = clip(coerce(values, pa.string()).values, MAX_TEXT)
        elif own == name:
            columns["external_id"] = clip(coerce(values, pa.string()).values, MAX_TEXT)


def _require(path: Path, wanted: tuple[str, ...], present: list[str]) -> None:
    for name in wanted:
        if name not in present:
            raise InvalidData(
                f"{path}: has no column {name!r}, which the mapping reads; {did_you_mean(name, present)}",
                field=name,
            )


def _table(items: list[dict[str, Any]], wanted: tuple[str, ...]) -> pa.Table:
    """Columns of JSON values: numbers stay numbers if all are, else everything is text."""
    return pa.table({name: _values([item.get(name) for item in items]) for name in wanted})


def _values(said: list[Any]) -> pa.Array:
    kinds = {type(value) for value in said if value is not None}
    small = (
        all(value is None or -(2**63) <= value < 2**63 for value in said) if kinds <= {int, float} else False
    )
    if kinds <= {int} and small:
        return pa.array(said, pa.int64())
    if kinds <= {int, float} and small:
        return pa.array([None if v is None else float(v) for v in said], pa.float64())
    if kinds == {bool}:
        return pa.array(said, pa.bool_())
    if kinds == {list}:
        return pa.array([None if v is None else [str(x) for x in v] for v in said], pa.list_(pa.string()))
    return pa.array(
        [v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode() for v in said], pa.string()
    )


def _joined(origin: From, table: pa.Table) -> pa.Array:
    """The outside column, or several joined into one text; null if any is."""
    if len(origin.read) == 1:
        return single(table[origin.read[0]])
    texts = [coerce(table[name], pa.string()).values for name in origin.read]
    return pc.binary_join_element_wise(*texts, "\x1f")


def _ids(namespace: str, values: pa.Array) -> pa.Array | Coerced:
    """Text ids are hashed; whole numbers stay themselves, and everything else is a fault of its row."""
    if not is_text(values.type):
        return coerce(values, pa.int64())
    text = coerce(values, pa.string())
    present = mask_of(pc.greater(pc.binary_length(text.values), 0))
    kept = pc.if_else(pa.array(present), text.values, pa.scalar(None, pa.string()))
    return replace(text, values=stable_ids(namespace, kept))


def _translated(values: pa.Array, meaning: dict[str, str]) -> pa.Array:
    """Their words for ours; a word without a translation stays, and the contract judges it."""
    text = coerce(values, pa.string()).values
    at = pc.index_in(text, value_set=pa.array(list(meaning), pa.string()))
    return pc.coalesce(pa.array(list(meaning.values()), pa.string()).take(at), text)


def _tidy(name: str, values: pa.Array) -> pa.Array | Coerced:
    """Countries upper case, genres and tags lower case; tags and countries in one text are cut at commas, `|` or `;`."""
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return coerce(values, pa.list_(pa.string()))
    text = coerce(values, pa.string())
    case = pc.utf8_upper if name in ("country", "blocked_countries") else pc.utf8_lower
    changed = case(pc.utf8_trim_whitespace(text.values))
    if name in ("tags", "blocked_countries"):
        changed = pc.split_pattern_regex(changed, r"\s*[,|;]\s*")
    else:
        changed = pc.if_else(pc.equal(changed, ""), pa.scalar(None, pa.string()), changed)
    return replace(text, values=changed)
