"""Parquet files in folders by time and by fields as a sink, exactly once.

::

    readings/
      .inprogress/part-0-1-7.parquet.inprogress        is being written, or waits for its checkpoint
      date=2026-11-21/hour=13/country=CH/part-0-1-4.parquet
      date=2026-11-21/hour=13/country=DE/part-0-1-5.parquet

A part comes to its folder whole, by a rename, when its checkpoint is complete: DuckDB, Polars and Arrow data sets can
read `readings/**/*.parquet` at any time. A restored job moves what its snapshot had prepared and deletes the other
unfinished parts of its earlier attempts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from streamcore.batch import Batch, Schema
from streamcore.connectors.base import JobStart, Sink, SinkContext, SinkWriter, TwoPhaseWriter
from streamcore.connectors.options import check_choice
from streamcore.connectors.part_files import (
    UNFINISHED,
    IfExists,
    PartFile,
    commit_part,
    delete_leftovers,
    disk_errors,
    is_part,
    prepare_directory,
    sync_directory,
    typed_columns,
)
from streamcore.connectors.partitioning import Every, Partitioning
from streamcore.errors import UsageError

Compression = Literal["zstd", "snappy", "lz4", "gzip", "none"]

HIDDEN = ".inprogress"
"""The folder of unfinished parts: one for all, so that a restore needn't look through every partition."""


class ParquetSink(Sink[Any]):
    """Writes columns, or typed rows, to Parquet files in Hive-style folders; each is there once, when its checkpoint
    is complete. Every checkpoint ends the files it finds open, so its interval says how large they get.

    Args:
        directory: is made if need be.
        by: fields of text, integers, booleans or dates, a level of folders each, from the top. Files don't have
            them. A value that is missing or empty is in the folder that Hive has for it, and is read as null.
        time: a field of times, or of milliseconds since 1970, for the levels above these; files have it too.
        every: how much of the time is in one folder, UTC: `month`, `day` (`date=`) or `hour` (`date=`, `hour=`).
        compression: `zstd`, `snappy`, `lz4`, `gzip` or `none`.
        roll_bytes: a file of at least that size is closed, and the next one begun.
        most_open: files that a subtask has open at a time, at most; the one not written to for longest is closed. A
            stream by many partitions at once should be keyed by them, else each subtask has files of all.
        buffer_bytes: what a subtask holds of row groups that aren't full, at most; the largest is written early.
        if_exists: what to do about the files of an earlier run when the job is not restored: refuse to start, remove
            them, or leave them there.

    Raises:
        UsageError: an option is wrong.
    """

    accepts = "any"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        by: Sequence[str] = (),
        time: str | None = None,
        every: Every = "day",
        compression: Compression = "zstd",
        roll_bytes: int = 128 << 20,
        most_open: int = 64,
        buffer_bytes: int = 256 << 20,
        if_exists: IfExists = "error",
    ) -> None:
        check_choice("compression", compression, get_args(Compression))
        check_choice("if_exists", if_exists, get_args(IfExists))
        if most_open < 1:
            raise UsageError(f"most_open={most_open} can't be: a subtask writes to one file or more")
        self.directory = os.fspath(directory)
        self.partitioning = Partitioning((by,) if isinstance(by, str) else tuple(by), time, every)
        self.compression = compression
        self.roll_bytes = roll_bytes
        self.most_open = most_open
        self.buffer_bytes = buffer_bytes
        self.if_exists = if_exists

    def prepare_job(self, start: JobStart) -> None:
        """Makes the directory and deals with what is in it, as `if_exists` says.

        Raises:
            ConnectorError: it can't be made or written, or has files and `if_exists` is `error`.
        """
        directory = Path(self.directory)
        prepare_directory(directory, self.if_exists, start, _parts)
        with disk_errors(directory):
            (directory / HIDDEN).mkdir(exist_ok=True)
            sync_directory(directory)

    def writer(self, context: SinkContext) -> SinkWriter:
        """The writer of one subtask."""
        return _PartitionedWriter(self, context)


class _PartitionedWriter(TwoPhaseWriter):
    """Every method raises ConnectorError when the disk is full or the directory can't be used."""

    def __init__(self, sink: ParquetSink, context: SinkContext) -> None:
        self._sink = sink
        self._context = context
        self._root = Path(sink.directory)
        self._checked: Schema | None = None
        self._open: dict[str, PartFile] = {}
        """Folder -> the part that is written for it; the one not written to for longest is first."""
        self._closed: list[dict[str, Any]] = []
        self._next = 0

    def write(self, batch: Batch) -> None:
        """Adds the batch to the open parts.

        Raises:
            ConnectorError: the records aren't typed, or can't be partitioned as the sink is to.
            BadRecordError: a value isn't of its field's type, or is too long to name a folder.
        """
        if len(batch) == 0:
            return
        columns = typed_columns(batch, "parquet")
        if columns.schema is not self._checked:
            self._sink.partitioning.check(columns.schema)
            self._checked = columns.schema
        with disk_errors(self._root):
            for folder, records in self._sink.partitioning.split(columns):
                self._write(folder, records.to_arrow())

    def prepare(self) -> list[Any]:
        """Makes what was written durable; the handles are `{"hidden": name, "folder": path, "size": bytes}`."""
        with disk_errors(self._root):
            for folder in list(self._open):
                self._close_part(folder)
            handles, self._closed = self._closed, []
            if handles:
                sync_directory(self._root / HIDDEN)
        return handles

    def commit(self, handles: Sequence[Any]) -> None:
        """Moves the parts to their folders, unless that was done before.

        Raises:
            ConnectorError: a part is gone or isn't as it was prepared.
        """
        changed: set[Path] = set()
        with disk_errors(self._root):
            for handle in handles:
                folder = self._root / handle["folder"]
                folder.mkdir(parents=True, exist_ok=True)
                hidden = self._root / HIDDEN / handle["hidden"]
                commit_part(hidden, folder / handle["hidden"].removesuffix(UNFINISHED), handle["size"])
                above = handle["folder"].count("/") + 1
                changed |= {folder, *folder.parents[:above]}  # another subtask may have made them a moment ago
            for directory in sorted(changed, reverse=True):
                sync_directory(directory)

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Deletes the unfinished parts of this subtask's share that aren't among `prepared`."""
        with disk_errors(self._root):
            hidden = [path for path in (self._root / HIDDEN).iterdir() if is_part(path.name)]
            delete_leftovers(hidden, prepared, self._context)

    def close(self) -> None:
        """Closes the open parts and leaves them hidden."""
        while self._open:
            with contextlib.suppress(OSError):
                self._open.popitem()[1].close()

    def _write(self, folder: str, records: pa.RecordBatch) -> None:
        if folder in self._open and self._open[folder].schema != records.schema:
            self._close_part(folder)
        part = self._open.pop(folder, None)
        if part is None:
            if len(self._open) == self._sink.most_open:
                self._close_part(next(iter(self._open)))
            part = PartFile(self._free_path(folder), "parquet", records.schema, self._sink.compression)
        self._open[folder] = part
        part.write(records)
        if part.size() >= self._sink.roll_bytes:
            self._close_part(folder)
        elif sum(other.waiting_bytes for other in self._open.values()) > self._sink.buffer_bytes:
            max(self._open.values(), key=lambda other: other.waiting_bytes).write_waiting()

    def _free_path(self, folder: str) -> Path:
        """A name that no part of an earlier run has, which may have had this subtask and epoch too."""
        while True:
            name = f"part-{self._context.subtask}-{self._context.epoch}-{self._next}.parquet"
            hidden = self._root / HIDDEN / f"{name}{UNFINISHED}"
            self._next += 1
            if not (hidden.exists() or (self._root / folder / name).exists()):
                return hidden

    def _close_part(self, folder: str) -> None:
        part = self._open.pop(folder)
        self._closed.append({"hidden": part.path.name, "folder": folder, "size": part.close()})


def _parts(directory: Path) -> Iterator[Path]:
    """All parts of a tree, unfinished ones too."""
    return (path for path in directory.rglob("part-*") if is_part(path.name))
