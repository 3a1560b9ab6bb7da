"""Tables from outside: CSV or Parquet, only the columns that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from segue.contracts.errors import InvalidData, InvalidInput, NotFound

__all__ = ["read_table"]

PARQUET = b"PAR1"


def read_table(path: Path, columns: Sequence[str], texts: Sequence[str]) -> pa.Table:
    """Those columns of a CSV file with a header, or of a Parquet file, which is known by its first bytes.

    The columns in `texts` are read from CSV as text: ids keep their zeros. Raises `NotFound` for no file, `InvalidInput` for a
    column that is not there, `InvalidData` for a file that is neither.
    """
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file", field="csv")
    wanted = list(dict.fromkeys(columns))
    with path.open("rb") as file:
        parquet = file.read(len(PARQUET)) == PARQUET
    try:
        if parquet:
            _there(path, pq.read_schema(path).names, wanted)
            return pq.read_table(path, columns=wanted)
        _there(path, _header(path), wanted)
        as_text = csv.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.string() for name in texts},
            strings_can_be_null=True,
        )
        return csv.read_csv(path, convert_options=as_text)
    except pa.ArrowInvalid as error:
        raise InvalidData(f"{path}: cannot be read as CSV or Parquet: {error}", field="csv") from error


def _header(path: Path) -> list[str]:
    with csv.open_csv(path, read_options=csv.ReadOptions(block_size=1 << 20)) as reader:
        return list(reader.schema.names)


def _there(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InvalidInput(
                f"{path}: there is no column {name!r}; there are {', '.join(names[:20])}", field=name
            )
