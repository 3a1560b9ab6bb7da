"""Files read a piece at a time: Parquet, CSV and lines of JSON, plain or compressed.

What could be read comes out even if the file then turns out broken; the error that follows says where and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from segue.contracts.errors import InvalidData, NotFound
from segue.events.rejects import MAX_CONTENT, Rejects

T = TypeVar("T")

COMPRESSED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
MAX_LINE: Final = 4_000_000
"""Longest line in bytes; a longer one is rejected without being kept in memory."""
BLOCK: Final = 1 << 20
LINES: Final = 20_000
"""Lines decoded at once."""
_AGAIN: Final = "what came before it is imported; replace the file by a whole one and run the same command again: nothing doubles"


def find_files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file, or the files below a directory (or matching a pattern with `*`) whose names end in one of `suffixes`.

    Compressed variants count too. Sorted by name. Raises NotFound if there is none.
    """
    if path.is_file():
        return [path]
    if "*" in path.name:
        found = sorted(p for p in path.parent.glob(path.name) if p.is_file())
    elif path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and plain_suffix(p) in suffixes)
    else:
        raise NotFound(f"{path}: no such file or directory", field="path")
    if not found:
        raise NotFound(f"{path}: no file ending in {', '.join(suffixes)} (or compressed) there", field="path")
    return found


def the_file(path: Path) -> Path:
    """The path of one file. Raises NotFound, or InvalidData for a directory."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir())[:5]
        raise InvalidData(
            f"{path} is a directory; name the file itself (there: {', '.join(inside) or 'nothing'})",
            field="path",
            limit="one file",
        )
    if not path.exists():
        raise NotFound(f"{path}: no such file", field="path")
    return path


def plain_suffix(path: Path) -> str:
    """The suffix without the compression's: `.jsonl` of `a.jsonl.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSED else path.suffix.lower()


def open_bytes(path: Path) -> pa.NativeFile:
    """The file's bytes, decompressed as its name says."""
    codec = COMPRESSED.get(path.suffix.lower())
    raw = pa.OSFile(str(path), "rb")
    return pa.CompressedInputStream(raw, codec) if codec else raw


def parquet_batches(path: Path, columns: Sequence[str], batch_rows: int) -> Iterator[tuple[int, pa.Table]]:
    """Pieces of at most `batch_rows` rows with the number of their first row; `columns` that are absent are left out.

    Raises InvalidData if the file is not (whole) Parquet, after what could be read.
    """
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            present = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_rows, columns=present):
                yield row, pa.Table.from_batches([batch])
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        where = (
            f"from row {row} on" if row else "it has no readable footer, as if it were still being written"
        )
        raise InvalidData(
            f"{path}: not a whole Parquet file ({where}): {_first_line(error)}; {_AGAIN}", field="path"
        ) from error


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns. Raises InvalidData if the file is not Parquet."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{path}: not a whole Parquet file (no readable footer, as if it were still being written): {_first_line(error)}; "
            f"{_AGAIN}",
            field="path",
        ) from error


def byte_lines(path: Path) -> Iterator[tuple[int, list[bytes | None]]]:
    """Pieces of the file's lines with the number of their first line; None stands for a line longer than MAX_LINE.

    Raises InvalidData if the file ends in the middle of its compression, after the lines that could be read.
    """
    row, rest, too_long = 0, b"", False
    lines: list[bytes | None] = []
    broken: Exception | None = None
    with open_bytes(path) as stream:
        while True:
            try:
                block = stream.read(BLOCK)
            except (pa.ArrowException, OSError) as error:
                block, broken = b"", error
            if not block:
                break
            *whole, rest = (rest + block).split(b"\n")
            if whole and too_long:
                whole, too_long = [None, *whole[1:]], False
            lines += [None if line is not None and len(line) > MAX_LINE else line for line in whole]
            if len(rest) > MAX_LINE:
                rest, too_long = b"", True
            if len(lines) >= LINES:
                yield row, lines
                row, lines = row + len(lines), []
    if too_long or (rest and broken is None):
        lines.append(None if too_long else rest)
    if lines:
        yield row, lines
        row += len(lines)
    if broken is not None:
        raise InvalidData(
            f"{path}: cannot be read beyond line {row}: {_first_line(broken)}; {_AGAIN}", field="path"
        ) from broken


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """JSON lines: `rows` are the numbers of the lines that `items` came from; `broken` holds the other ones."""

    rows: list[int]
    items: list[T]
    broken: Rejects

    @property
    def read(self) -> int:
        """Lines read, without empty ones."""
        return len(self.rows) + len(self.broken)


def json_lines(path: Path, type_: type[T]) -> Iterator[Decoded[T]]:
    """Lines decoded as `type_`, piece by piece. A line that is no such JSON is a reject, an empty one is nothing."""
    decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)
    for first, lines in byte_lines(path):
        rows: list[int] = []
        items: list[T] = []
        broken = Rejects.none()
        for row, line in enumerate(lines, first):
            if line is not None and not line.strip():
                continue
            reason, field = "too_long_line", None
            if line is not None:
                try:
                    items.append(decoder.decode(line))
                    rows.append(row)
                    continue
                except UnicodeDecodeError:
                    reason = "not_utf8"
                except msgspec.ValidationError as error:
                    reason, field = _wrong_type(str(error))
                except (msgspec.DecodeError, RecursionError):
                    reason = "not_json"
            broken.rows.append(row)
            broken.reasons.append(reason)
            broken.fields.append(field)
            broken.contents.append(None if line is None else line[:MAX_CONTENT].decode("utf-8", "replace"))
        yield Decoded(rows, items, broken)


def csv_header(path: Path, delimiter: str) -> list[str]:
    """Names in the first line. Raises InvalidData for an empty file."""
    for _, lines in byte_lines(path):
        if lines[0] is not None and lines[0].strip():
            first = lines[0].decode("utf-8-sig", "replace").rstrip("\r")
            return [name.strip().strip('"') for name in first.split(delimiter)]
    raise InvalidData(f"{path}: is empty; a CSV file begins with the names of its columns", field="path")


@dataclass(frozen=True)
class CsvPiece:
    """Rows of a CSV file as bytes, their numbers (the header not counted), and the lines with another number of values."""

    rows: npt.NDArray[np.int64]
    table: pa.Table
    broken: Rejects


def csv_pieces(
    path: Path, columns: Sequence[str], delimiter: str, *, quoted: bool = True
) -> Iterator[CsvPiece]:
    """The file in pieces, every value as bytes: what they mean is decided per value, so that one bad value costs one row.

    Raises InvalidData if the file cannot be cut into rows at all (an unclosed quote, a truncated compression).
    """
    header = csv_header(path, delimiter)
    skipped: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        skipped.append((row.number - 2, row.text))  # Arrow counts from 1, the header being the first
        return "skip"

    row = 0
    try:
        reader = pv.open_csv(
            open_bytes(path),
            read_options=pv.ReadOptions(
                use_threads=False, block_size=MAX_LINE, column_names=header, skip_rows=1
            ),
            parse_options=pv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, invalid_row_handler=skip
            ),
            convert_options=pv.ConvertOptions(
                column_types={name: pa.binary() for name in header},
                include_columns=[name for name in dict.fromkeys(columns) if name in header],
                check_utf8=False,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        table = reader.schema.empty_table()
        for batch in reader:
            table = pa.Table.from_batches([batch])
            span = np.arange(row, row + table.num_rows + len(skipped))
            numbers = np.setdiff1d(span, [n for n, _ in skipped])[: table.num_rows]
            row = int(numbers[-1]) + 1 if len(numbers) else row
            yield CsvPiece(numbers, table, _wrong_lines(skipped, row))
        if skipped:
            yield CsvPiece(
                np.empty(0, np.int64), table.slice(0, 0), _wrong_lines(skipped, skipped[-1][0] + 1)
            )
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{path}: cannot be read beyond row {row}: {_first_line(error)}; {_AGAIN}", field="path"
        ) from error


def _wrong_lines(skipped: list[tuple[int, str]], before: int) -> Rejects:
    """Take the lines ahead of row `before` off the list (Arrow parses ahead, so there may be later ones)."""
    due = [(row, text) for row, text in skipped if row < before]
    skipped[:] = skipped[len(due) :]
    n = len(due)
    contents: list[str | None] = [text[:MAX_CONTENT] for _, text in due]
    return Rejects([row for row, _ in due], ["wrong_number_of_values"] * n, [None] * n, contents)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: the nearest known one, else all."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _wrong_type(message: str) -> tuple[str, str | None]:
    """Reason and field from msgspec's message, which ends in a path like `$.track_metadata.track_name`."""
    path = message.rpartition("`$")[2].rstrip("`").strip(".") if "`$" in message else ""
    if "missing required field" in message:
        name = message.split("`")[1]
        return f"missing_{name}", name
    kind = "out_of_range" if ">=" in message or "<=" in message else "wrong_type"
    return (f"{kind}_{path.rpartition('.')[2]}", path) if path else (kind, None)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
