"""A number that stands for a set of records, in whatever order and batches they come: the sum of their hashes.

A benchmark can so compare millions of results with the right ones without keeping them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, kernel
from streamcore.batch.dictionary import dictionary_id
from streamcore.connectors.base import Batch, Sink, SinkContext, SinkWriter

Array = np.ndarray[Any, Any]

_MASK = (1 << 64) - 1
_KEPT_DICTIONARIES = 16


class Digest:
    """Adds up records. `str(digest)` is their number and the sum of their hashes.

    Example:
        >>> one, other = Digest(), Digest()
        >>> one.add(Columns.of(a=np.array([1, 2])).arrays)
        >>> for number in (2, 1):
        ...     other.add(Columns.of(a=np.array([number])).arrays)
        >>> str(one) == str(other)
        True
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0
        self._hashes: dict[tuple[int, ...], tuple[pa.Array, Array]] = {}

    def __str__(self) -> str:
        return f"{self._count} {self._sum:016x}"

    def add(self, columns: Mapping[str, Any]) -> None:
        """Adds records, given as their columns in the order of the fields: NumPy arrays of numbers, Arrow arrays of
        text."""
        hashes = np.zeros(len(next(iter(columns.values()))), np.uint64)
        for values in columns.values():
            numbers = self._numbers(values)
            mix(hashes, np.ascontiguousarray(numbers).view(np.uint64))
        self._count += len(hashes)
        self._sum = (self._sum + int(hashes.sum())) & _MASK

    def _numbers(self, values: Any) -> Array:
        if isinstance(values, np.ndarray):
            return values if values.dtype.kind == "f" else values.astype(np.int64, copy=False)
        encoded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
        return self._hashes_of(encoded)[encoded.indices.to_numpy().astype(np.int64, copy=False)]

    def _hashes_of(self, encoded: pa.DictionaryArray) -> Array:
        """A number of each text of a dictionary; those of dictionaries that come again are kept."""
        where = dictionary_id(encoded)
        if where not in self._hashes:
            texts = encoded.dictionary
            hashes = np.array([zlib.crc32(text.encode()) for text in texts.to_pylist()], np.int64)
            if len(self._hashes) >= _KEPT_DICTIONARIES:
                self._hashes.clear()
            self._hashes[where] = texts, hashes  # while the texts are held, nothing else can have their address
        return self._hashes[where][1]


class DigestSink(Sink[Any]):
    """Leaves the digest of all records in a file when it is closed."""

    accepts = "columns"
    parallelism = 1

    def __init__(self, path: str) -> None:
        self.path = path

    def writer(self, context: SinkContext) -> SinkWriter:
        return _DigestWriter(self.path)


class _DigestWriter(SinkWriter):
    def __init__(self, path: str) -> None:
        self._path = path
        self._digest = Digest()

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, Columns), "a columnar sink got rows"
        self._digest.add(batch.arrays)

    def close(self) -> None:
        Path(self._path).write_text(str(self._digest))


@kernel
def mix(hashes: Array, values: Array) -> None:
    """Takes a column (n,) into the hashes of its rows, in place; both uint64."""
    for row in range(len(hashes)):
        bits = (hashes[row] ^ values[row]) * np.uint64(0x9E3779B97F4A7C15)
        hashes[row] = bits ^ (bits >> np.uint64(29))
