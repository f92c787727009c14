"""Files in a directory as a sink, exactly once.

A part is written under a hidden name, `.part-<subtask>-<epoch>-<n>.<ext>.inprogress`. `prepare` makes it
durable and closes it, `commit` renames it to `part-<subtask>-<epoch>-<n>.<ext>`: whoever reads the directory
sees whole, committed parts only. A restored job renames what its snapshot had prepared and deletes the
other hidden parts of its earlier attempts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, get_args

import msgspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from streamcore.batch import Batch, Columns, Schema, schema_of, to_columns, to_rows
from streamcore.connectors.base import JobStart, Sink, SinkContext, SinkWriter, TwoPhaseWriter
from streamcore.connectors.json_source import encode_json_lines
from streamcore.errors import BadRecordError, ConnectorError, UsageError

Format = Literal["jsonl", "csv", "parquet", "text"]
IfExists = Literal["error", "replace", "append"]

_EXTENSIONS = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "text": "txt"}
_PART = re.compile(r"(\.?)part-(\d+)-(\d+)-(\d+)\.(?:jsonl|csv|parquet|txt)(\.inprogress)?")
_ROW_GROUP_ROWS = 131_072
_BUFFER_BYTES = 1 << 20


class FileSink(Sink[Any]):
    """Writes records to part files in a directory; each is there once, when its checkpoint is complete.

    Args:
        directory: is made if need be.
        format: `jsonl` (any rows: dataclasses, NamedTuples and dicts as objects; NaN as null), `text`
            (`str` of each row), `csv` with a header, or `parquet` (both from columns or typed rows).
        if_exists: what to do about the parts of an earlier run when the job is not restored: refuse to
            start, remove them, or leave them there.
        roll_bytes: a part of at least that size is closed, and the next one begun.

    Raises:
        UsageError: an option is wrong.
    """

    accepts = "any"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        format: Format = "jsonl",  # noqa: A002 - the usual name
        if_exists: IfExists = "error",
        roll_bytes: int = 128 << 20,
    ) -> None:
        for name, value, known in (("format", format, get_args(Format)), ("if_exists", if_exists, get_args(IfExists))):
            if value not in known:
                raise UsageError(f"{name}={value!r} is unknown", hint=f"use one of: {', '.join(known)}")
        self.directory = os.fspath(directory)
        self.format = format
        self.if_exists = if_exists
        self.roll_bytes = roll_bytes

    def prepare_job(self, start: JobStart) -> None:
        """Makes the directory and deals with what is in it, as `if_exists` says.

        Raises:
            ConnectorError: it can't be made or written, or has parts and `if_exists` is `error`.
        """
        directory = Path(self.directory)
        with _disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise ConnectorError(f"can't write to the directory {directory}", hint="check its permissions and owner")
        if start.restored or self.if_exists == "append":
            return
        parts = _parts(directory)
        if self.if_exists == "replace":
            for part in parts:
                part.unlink(missing_ok=True)
        elif visible := [part for part in parts if not part.name.startswith(".")]:
            raise ConnectorError(
                f"{directory} has the output of an earlier run ({len(visible)} parts, such as {visible[0].name})",
                hint='give another directory, or if_exists="replace" or "append"',
            )

    def writer(self, context: SinkContext) -> SinkWriter:
        """The writer of one subtask."""
        return _FileWriter(self, context)


def read_jsonl(directory: str | os.PathLike[str]) -> list[Any]:
    """The values of all committed `jsonl` parts of a directory, by subtask, then in the order written.

    Raises:
        ConnectorError: there is no such directory.
        BadRecordError: a part is damaged.
    """
    values: list[Any] = []
    decode = msgspec.json.Decoder().decode_lines
    with _disk_errors(Path(directory)):
        parts = [part for part in _parts(Path(directory)) if part.suffix == ".jsonl" and part.name[0] != "."]
    for part in parts:
        try:
            values += decode(part.read_bytes())
        except ValueError as error:
            raise BadRecordError(f"{part} is damaged: {error}") from error
    return values


class _FileWriter(TwoPhaseWriter):
    """Every method raises ConnectorError when the disk is full or the directory can't be used."""

    def __init__(self, sink: FileSink, context: SinkContext) -> None:
        self._sink = sink
        self._directory = Path(sink.directory)
        self._context = context
        self._part: _Part | None = None
        self._closed: list[dict[str, Any]] = []
        with _disk_errors(self._directory):
            numbers = [_numbers(part) for part in _parts(self._directory)]
        # parts of another run may have this subtask and epoch in their names
        taken = [n for subtask, epoch, n in numbers if (subtask, epoch) == (context.subtask, context.epoch)]
        self._next = max(taken, default=-1) + 1

    def write(self, batch: Batch) -> None:
        """Adds the batch to the open part; BadRecordError: a record has no form in the sink's format."""
        if len(batch) == 0:
            return
        lines = self._sink.format in ("jsonl", "text")
        content: Any = _lines(batch, self._sink.format) if lines else _record_batch(batch, self._sink.format)
        if self._part is not None and not lines and self._part.schema != content.schema:
            self._close_part()
        with _disk_errors(self._directory):
            if self._part is None:
                name = f"part-{self._context.subtask}-{self._context.epoch}-{self._next}"
                schema = None if lines else content.schema
                self._part = _Part(self._directory, name, self._sink.format, schema)
                self._next += 1
            self._part.write(content)
            if self._part.size() >= self._sink.roll_bytes:
                self._close_part()

    def prepare(self) -> list[Any]:
        """Makes what was written durable; the handles are `{"hidden": name, "final": name, "size": bytes}`."""
        self._close_part()
        handles, self._closed = self._closed, []
        if handles:
            self._sync_directory()
        return handles

    def commit(self, handles: Sequence[Any]) -> None:
        """Renames the hidden parts, unless that was done before.

        Raises:
            ConnectorError: a part is gone or isn't as it was prepared.
        """
        for handle in handles:
            hidden, final = self._directory / handle["hidden"], self._directory / handle["final"]
            with _disk_errors(self._directory):
                if hidden.exists():
                    if hidden.stat().st_size != handle["size"]:
                        raise ConnectorError(f"{hidden} was changed: {handle['size']} bytes of it were prepared")
                    hidden.replace(final)
                elif not final.exists():
                    what = f"output was lost: neither {final} nor its hidden form {hidden.name} is there any more"
                    raise ConnectorError(what, hint="restore an older checkpoint, or run the job from the start")
        if handles:
            self._sync_directory()

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Deletes the hidden parts of this subtask's share (by subtask number modulo the parallelism) that
        aren't among `prepared`; never those of a later attempt."""
        kept = {handle["hidden"] for handle in prepared}
        with _disk_errors(self._directory):
            for part in _parts(self._directory):
                subtask, epoch, _ = _numbers(part)
                is_mine = subtask % self._context.parallelism == self._context.subtask
                if part.name.startswith(".") and part.name not in kept and is_mine and epoch <= self._context.epoch:
                    part.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the open part and leaves it hidden."""
        if self._part is not None:
            with contextlib.suppress(OSError):
                self._part.close()
            self._part = None

    def _close_part(self) -> None:
        if self._part is not None:
            part, self._part = self._part, None
            with _disk_errors(self._directory):
                self._closed.append({"hidden": part.hidden, "final": part.name, "size": part.close()})

    def _sync_directory(self) -> None:
        with _disk_errors(self._directory):
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class _Part:
    """One file while it is written: lines as bytes, or record batches of one schema."""

    def __init__(self, directory: Path, name: str, format_: Format, schema: pa.Schema | None) -> None:
        self.name = f"{name}.{_EXTENSIONS[format_]}"
        self.hidden = f".{self.name}.inprogress"
        self.schema = schema
        self._file: IO[bytes] = (directory / self.hidden).open("xb", buffering=_BUFFER_BYTES)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._writer: Any = None
        if schema is not None:
            self._writer = (pacsv.CSVWriter if format_ == "csv" else pq.ParquetWriter)(self._file, schema)
        # a write makes a row group, and small ones make Parquet slow to read; CSV needs no such care
        self._group_rows = _ROW_GROUP_ROWS if format_ == "parquet" else 1

    def write(self, content: Any) -> None:
        if self._writer is None:
            self._file.write(content)
            return
        self._waiting.append(content)
        self._waiting_rows += content.num_rows
        if self._waiting_rows >= self._group_rows:
            self._write_waiting()

    def size(self) -> int:
        return self._file.tell()

    def close(self) -> int:
        """Makes the file durable and closes it; returns its size in bytes."""
        with self._file:
            if self._writer is not None:
                self._write_waiting()
                self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def _write_waiting(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._waiting, self._waiting_rows = [], 0
            self._writer.write_table(table)


def _numbers(part: Path) -> tuple[int, int, int]:
    match = _PART.fullmatch(part.name)
    assert match is not None, f"{part} is not the name of a part"
    return int(match[2]), int(match[3]), int(match[4])


def _parts(directory: Path) -> list[Path]:
    """All parts, visible and hidden, by subtask, epoch and number."""
    matches = [(path, _PART.fullmatch(path.name)) for path in directory.iterdir()]
    return sorted((path for path, match in matches if match and bool(match[1]) == bool(match[5])), key=_numbers)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ConnectorError(f"the disk of {path} is full", hint="make room, then restart the job") from error
        raise ConnectorError(f"can't use {path} for output: {error.strerror or error}") from error


def _lines(batch: Batch, format_: Format) -> bytes:
    if format_ == "jsonl":
        return encode_json_lines(batch)
    return "".join(f"{row}\n" for row in to_rows(batch)).encode("utf-8", "surrogateescape")


def _record_batch(batch: Batch, format_: Format) -> pa.RecordBatch:
    row_type: Any = None if isinstance(batch, Columns) else type(batch[0])
    schema = batch.schema if isinstance(batch, Columns) else _row_schema(row_type)
    if schema is None:
        raise ConnectorError(
            f"{format_} needs columns or typed rows, not rows of {row_type.__name__}",
            hint="make the rows a dataclass or a NamedTuple with annotations, or write jsonl",
        )
    if format_ == "csv" and (nested := [field.name for field in schema.fields if pa.types.is_nested(field.type)]):
        raise ConnectorError(f"CSV has no form for the column {nested[0]!r}", hint="write parquet or jsonl")
    return to_columns(batch, schema).to_arrow()


@functools.cache
def _row_schema(row_type: Any) -> Schema | None:
    return schema_of(row_type) if getattr(row_type, "__annotations__", None) else None
