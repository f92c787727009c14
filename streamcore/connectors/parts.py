"""Files cut into parts that several subtasks read at the same time.

A part of a file of lines or CSV records is the bytes `start` to `stop`, both at the start of a record. A
part's split has the range in its id, so a snapshot is never continued by parts that were cut elsewhere,
because of another `splits=` or because the file has changed.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from streamcore.connectors.base import Split
from streamcore.errors import ConnectorError

_GZIP_MAGIC = b"\x1f\x8b"
_SCAN_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Bytes (or row groups) of a file from `start` up to, not including, `stop`; None: to the file's end."""

    path: str
    start: int = 0
    stop: int | None = None


def part_of(split: Split) -> Part:
    """The part that a split of `split_file` stands for."""
    if split.info is None:
        return Part(split.id)
    path, start, stop = split.info
    return Part(path, start, stop)


def split_file(path: str, edges: Sequence[int]) -> list[Split]:
    """The splits of a file that is cut at `edges`: ascending, from its start to its end.

    A file that makes only one part is one split with its path as the id, just as if it were never cut.
    """
    if len(edges) <= 2:
        return [Split(path)]
    return [Split(f"{path}#{start}-{stop}", [path, start, stop]) for start, stop in itertools.pairwise(edges)]


def line_edges(path: str, count: int) -> list[int]:
    """Where to cut a plain file into about `count` equal parts of whole lines; [] for a gzip file.

    Raises:
        ConnectorError: the file can't be read.
    """
    size = file_size(path)
    if size is None:
        return []
    edges = [0]
    with open_file(path) as file:
        for target in targets(0, size, count):
            if target > edges[-1]:
                edges.append(_next_line(file, target))
    return list(dict.fromkeys([*edges, size]))


def file_size(path: str) -> int | None:
    """The bytes of a plain file; None for a gzip file, in which no position can be reached directly.

    Raises:
        ConnectorError: the file can't be read.
    """
    with open_file(path) as file:
        return None if isinstance(file, gzip.GzipFile) else os.fstat(file.fileno()).st_size


def targets(start: int, stop: int, count: int) -> list[int]:
    """Where parts would begin, after the first, if `count` of them were equal."""
    return [start + (stop - start) * number // count for number in range(1, count)]


def _next_line(file: IO[bytes], target: int) -> int:
    """Where the first line begins that doesn't begin before `target`, or the end of the file."""
    position = file.seek(target - 1)
    while data := file.read(_SCAN_BYTES):
        if found := data.find(b"\n") + 1:
            return position + found
        position += len(data)
    return position


def open_file(path: str) -> IO[bytes]:
    """A plain file, unbuffered, or the decompressed content of a gzip file, which is known by its first bytes.

    Raises:
        ConnectorError: the file can't be opened.
    """
    try:
        with Path(path).open("rb") as file:
            magic = file.read(2)
        if magic == _GZIP_MAGIC or (magic and path.endswith(".gz")):
            return cast("IO[bytes]", gzip.open(path, "rb"))
        return Path(path).open("rb", buffering=0)
    except OSError as error:
        raise ConnectorError(f"can't read {path}: {error.strerror or error}") from error
