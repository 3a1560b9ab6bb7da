"""What the catalogue says of a track, as hashed tokens of several kinds: artist, genre, tags, words of title and description.

`tokens` makes those of a whole catalogue, `tokens_of` the same of one track that comes in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KINDS: Final = ("artist_id", "genre", "tags", "title", "description")
"""Columns of TRACKS that tokens come from; a token's kind is its position here."""
WEIGHTS: Final[npt.NDArray[np.float32]] = np.array([1.5, 1.0, 1.0, 0.7, 0.4], np.float32)
"""Weight of each kind of token, before IDF."""
_WORD: Final = re.compile(r"[^\W_]+")
"""What `[^\\p{L}\\p{N}]+` leaves between, in Arrow's spelling below."""


def tokens(
    tracks: pa.Table,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Ragged tokens of tracks (contract TRACKS, in catalogue order): indptr int64[n + 1], hashes uint64, kinds uint8."""
    rows, hashes, kinds = [], [], []
    for code, kind in enumerate(KINDS):
        row, words = _words(tracks[kind])
        rows.append(row)
        hashes.append(_hashes(kind, words))
        kinds.append(np.full(len(row), code, np.uint8))
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(tracks)))]).astype(np.int64)
    return indptr, np.concatenate(hashes)[order], np.concatenate(kinds)[order]


def tokens_of(track: Mapping[str, Any]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Hashes uint64[m] and kinds uint8[m] of the tokens of one track, given as columns of TRACKS; absent is unknown."""
    found = [
        (_hash(kind, word), code)
        for code, kind in enumerate(KINDS)
        for word in _words_of(track.get(kind))
        if word
    ]
    return np.array([h for h, _ in found], np.uint64), np.array([code for _, code in found], np.uint8)


def _words_of(said: str | int | list[str] | None) -> list[str]:
    if isinstance(said, list):
        return said
    return [] if said is None else _WORD.findall(str(said))


def _words(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Row of each word, and the words."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lists = column
    elif pa.types.is_integer(column.type):
        lists = pc.split_pattern(column.cast(pa.string()), " ")
    else:
        plain = pc.replace_substring_regex(column, r"[^\p{L}\p{N}]+", " ")
        lists = pc.split_pattern(pc.utf8_trim_whitespace(plain), " ")
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    rows = pc.list_parent_indices(lists).to_numpy()
    words = pc.list_flatten(lists)
    said = pc.greater(pc.fill_null(pc.utf8_length(words), 0), 0)
    return rows[said.to_numpy(zero_copy_only=False)].astype(np.int64), words.filter(said)


def _hashes(kind: str, words: pa.Array) -> npt.NDArray[np.uint64]:
    encoded = words.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    table = np.array([_hash(kind, word) for word in encoded.dictionary.to_pylist()], np.uint64)
    return table[encoded.indices.to_numpy()] if len(words) else np.empty(0, np.uint64)


def _hash(kind: str, word: str) -> int:
    digest = hashlib.blake2b(f"{kind}:{word.lower()}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
