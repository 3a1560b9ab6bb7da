"""Tables from outside: CSV or Parquet, only the columns that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from segue.contracts.errors import InvalidData, InvalidInput, NotFound
from segue.experiments.units import EXACT

__all__ = ["read_table"]

PARQUET = b"PAR1"


def read_table(path: Path, columns: Sequence[str], texts: Sequence[str]) -> pa.Table:
    """Those columns of a CSV file with a header, or of a Parquet file, which is known by its first bytes.

    The columns in `texts` are read as text: ids keep their zeros, and a number that is none is no id. Raises `NotFound` for no
    file, `InvalidInput` for a column that is not there or there twice, `InvalidData` for a file that is neither.
    """
    if path.is_dir():
        raise InvalidInput(f"{path}: is a folder; name the file in it that is the table", field="csv")
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file", field="csv")
    wanted = list(dict.fromkeys(columns))
    with path.open("rb") as file:
        parquet = file.read(len(PARQUET)) == PARQUET
    try:
        if parquet:
            _there(path, pq.read_schema(path).names, wanted)
            return _texts(path, pq.read_table(path, columns=wanted), texts)
        _there(path, _header(path), wanted)
        as_text = csv.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.string() for name in texts},
            strings_can_be_null=True,
        )
        return csv.read_csv(path, convert_options=as_text)
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise InvalidData(
            f"{path}: cannot be read as CSV (commas, UTF-8) or Parquet: {error}", field="csv"
        ) from error


def _texts(path: Path, table: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in dict.fromkeys(names):
        column = table[name]
        if pa.types.is_floating(column.type):
            column = _whole(path, name, pc.if_else(pc.is_nan(column), None, column))
        try:
            column = column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidData(
                f"{path}: column {name!r} is {column.type}, not text: {error}", field=name
            ) from error
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _whole(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers that were made fractional, as a missing one makes them, as whole ones. Raises `InvalidData` where ids are so
    large that several have become the same number.
    """
    if (pc.max(pc.abs(column)).as_py() or 0.0) > EXACT:
        raise InvalidData(
            f"{path}: column {name!r} is {column.type} and has values above {EXACT:,}, where several ids become one number: "
            "write them as text or as whole numbers",
            field=name,
            limit=f"{EXACT:,}",
        )
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _header(path: Path) -> list[str]:
    with csv.open_csv(path, read_options=csv.ReadOptions(block_size=1 << 20)) as reader:
        return list(reader.schema.names)


def _there(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise InvalidInput(
                f"{path}: {names.count(name)} columns are called {name!r}: which is meant? Rename the others",
                field=name,
            )
        if name not in names:
            other = len(names) == 1 and any(mark in names[0] for mark in ";\t|")
            hint = ": separate columns by commas" if other else ""
            raise InvalidInput(
                f"{path}: there is no column {name!r}; there are {', '.join(names[:20])}{hint}", field=name
            )
