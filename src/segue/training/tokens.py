"""What the catalogue says of a track, as hashed tokens with weights: artist, genre, tags, words of title and description."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KINDS: Final = {"artist_id": 1.5, "genre": 1.0, "tags": 1.0, "title": 0.7, "description": 0.4}
"""Weight of each kind of token, before IDF."""


def tokens(
    tracks: pa.Table,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Ragged tokens of tracks (contract TRACKS, in catalogue order): indptr int64[n + 1], hashes uint64, weights float32."""
    rows, hashes, weights = [], [], []
    for kind, weight in KINDS.items():
        row, words = _words(tracks[kind])
        rows.append(row)
        hashes.append(_hashes(kind, words))
        weights.append(np.full(len(row), weight, np.float32))
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(tracks)))]).astype(np.int64)
    return indptr, np.concatenate(hashes)[order], np.concatenate(weights)[order]


def _words(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Row of each word, and the words."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lists = column
    elif pa.types.is_integer(column.type):
        lists = pc.split_pattern(column.cast(pa.string()), " ")
    else:
        plain = pc.replace_substring_regex(pc.utf8_lower(column), r"[^\p{L}\p{N}]+", " ")
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
    distinct = [
        int.from_bytes(hashlib.blake2b(f"{kind}:{word}".encode(), digest_size=8).digest(), "little")
        for word in encoded.dictionary.to_pylist()
    ]
    table = np.array(distinct, np.uint64)
    return table[encoded.indices.to_numpy()] if len(words) else np.empty(0, np.uint64)
