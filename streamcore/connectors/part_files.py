"""What sinks of files have in common: part files, hidden until they are committed.

A part is named `part-<subtask>-<epoch>-<n>.<ext>`. It is written under a hidden name, made durable and closed when a
checkpoint begins, and renamed when that checkpoint is complete; renaming is atomic, and doing it again does no harm.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from streamcore.batch import Batch, Columns, Schema, schema_of, to_columns
from streamcore.connectors.base import JobStart, SinkContext
from streamcore.errors import ConnectorError

Format = Literal["jsonl", "csv", "parquet", "text"]
IfExists = Literal["error", "replace", "append"]

EXTENSIONS = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "text": "txt"}
UNFINISHED = ".inprogress"
_PART = re.compile(r"\.?part-(\d+)-(\d+)-(\d+)\.(?:jsonl|csv|parquet|txt)(?:\.inprogress)?")
_ROW_GROUP_ROWS = 131_072
_BUFFER_BYTES = 1 << 20


class PartFile:
    """One file while it is written: lines as bytes, or record batches of one schema.

    Raises:
        OSError: it can't be made or written.
    """

    def __init__(self, path: Path, format_: Format, schema: pa.Schema | None, compression: str = "snappy") -> None:
        self.path = path
        self.schema = schema
        self._file: IO[bytes] = path.open("xb", buffering=_BUFFER_BYTES)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self.waiting_bytes = 0
        """Of what isn't in the file yet, since its row group isn't full."""
        self._writer: Any = None
        if schema is not None and format_ == "csv":
            self._writer = pacsv.CSVWriter(self._file, schema)
        elif schema is not None:
            self._writer = pq.ParquetWriter(self._file, schema, compression=compression)
        # a write makes a row group, and small ones make Parquet slow to read; CSV needs no such care
        self._group_rows = _ROW_GROUP_ROWS if format_ == "parquet" else 1

    def write(self, content: Any) -> None:
        if self._writer is None:
            self._file.write(content)
            return
        self._waiting.append(content)
        self._waiting_rows += content.num_rows
        self.waiting_bytes += content.nbytes
        if self._waiting_rows >= self._group_rows:
            self.write_waiting()

    def size(self) -> int:
        """Bytes in the file so far."""
        return self._file.tell()

    def close(self) -> int:
        """Makes the file durable and closes it; returns its size in bytes."""
        with self._file:
            if self._writer is not None:
                self.write_waiting()
                self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def write_waiting(self) -> None:
        """Ends the row group."""
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._waiting, self._waiting_rows, self.waiting_bytes = [], 0, 0
            self._writer.write_table(table)


def is_part(name: str) -> bool:
    """Whether a file is named as a part, visible or hidden."""
    return _PART.fullmatch(name) is not None


def numbers(part: Path) -> tuple[int, int, int]:
    """The subtask, the epoch and the number in the name of a part."""
    match = _PART.fullmatch(part.name)
    assert match is not None, f"{part} is not the name of a part"
    return int(match[1]), int(match[2]), int(match[3])


def prepare_directory(
    directory: Path, if_exists: IfExists, start: JobStart, parts: Callable[[Path], Iterable[Path]]
) -> None:
    """Makes the directory of a sink and deals with the `parts` of an earlier run in it, as `if_exists` says.

    Raises:
        ConnectorError: it can't be made or written, or has visible parts and `if_exists` is `error`.
    """
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConnectorError(f"can't write to the directory {directory}", hint="check its permissions and owner")
    if start.restored or if_exists == "append":
        return
    with disk_errors(directory):
        found = list(parts(directory))
        if if_exists == "replace":
            for part in found:
                part.unlink(missing_ok=True)
        elif visible := [part for part in found if not part.name.endswith(UNFINISHED)]:
            raise ConnectorError(
                f"{directory} has the output of an earlier run ({len(visible)} parts, such as {visible[0].name})",
                hint='give another directory, or if_exists="replace" or "append"',
            )


def commit_part(hidden: Path, final: Path, size: int) -> None:
    """Renames a prepared part of so many bytes, unless that was done before.

    Raises:
        ConnectorError: the part is gone or isn't as it was prepared.
    """
    if hidden.exists():
        if hidden.stat().st_size != size:
            raise ConnectorError(f"{hidden} was changed: {size} bytes of it were prepared")
        hidden.replace(final)
    elif not final.exists():
        what = f"output was lost: neither {final} nor its hidden form {hidden.name} is there any more"
        raise ConnectorError(what, hint="restore an older checkpoint, or run the job from the start")


def delete_leftovers(hidden: Iterable[Path], prepared: Sequence[Any], context: SinkContext) -> None:
    """Deletes the `hidden` parts of a subtask's share (by subtask number modulo the parallelism) that aren't among
    `prepared`; never those of a later attempt."""
    kept = {handle["hidden"] for handle in prepared}
    for part in hidden:
        subtask, epoch, _ = numbers(part)
        is_mine = subtask % context.parallelism == context.subtask
        if part.name not in kept and is_mine and epoch <= context.epoch:
            part.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk into a ConnectorError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ConnectorError(f"the disk of {path} is full", hint="make room, then restart the job") from error
        raise ConnectorError(f"can't use {path} for output: {error.strerror or error}") from error


def typed_columns(batch: Batch, format_: Format) -> Columns:
    """A batch that isn't empty as columns; typed rows have the schema of their type.

    Raises:
        ConnectorError: its rows have no type, or CSV has no form for a column.
        BadRecordError: a value isn't of its field's type.
    """
    row_type: Any = None if isinstance(batch, Columns) else type(batch[0])
    schema = batch.schema if isinstance(batch, Columns) else _row_schema(row_type)
    if schema is None:
        raise ConnectorError(
            f"{format_} needs columns or typed rows, not rows of {row_type.__name__}",
            hint="make the rows a dataclass or a NamedTuple with annotations, or write jsonl",
        )
    if format_ == "csv" and (nested := [field.name for field in schema.fields if pa.types.is_nested(field.type)]):
        raise ConnectorError(f"CSV has no form for the column {nested[0]!r}", hint="write parquet or jsonl")
    return to_columns(batch, schema)


@functools.cache
def _row_schema(row_type: Any) -> Schema | None:
    return schema_of(row_type) if getattr(row_type, "__annotations__", None) else None
