"""Files in a directory as a sink, exactly once.

A part is written under a hidden name, `.part-<subtask>-<epoch>-<n>.<ext>.inprogress`. `prepare` makes it
durable and closes it, `commit` renames it to `part-<subtask>-<epoch>-<n>.<ext>`: whoever reads the directory
sees whole, committed parts only. A restored job renames what its snapshot had prepared and deletes the
other hidden parts of its earlier attempts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from streamcore.batch import Batch, to_rows
from streamcore.connectors.base import JobStart, Sink, SinkContext, SinkWriter, TwoPhaseWriter
from streamcore.connectors.json_source import encode_json_lines
from streamcore.connectors.options import check_choice
from streamcore.connectors.part_files import (
    EXTENSIONS,
    UNFINISHED,
    Format,
    IfExists,
    PartFile,
    commit_part,
    delete_leftovers,
    disk_errors,
    is_part,
    numbers,
    prepare_directory,
    sync_directory,
    typed_columns,
)
from streamcore.errors import BadRecordError


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
        check_choice("format", format, get_args(Format))
        check_choice("if_exists", if_exists, get_args(IfExists))
        self.directory = os.fspath(directory)
        self.format = format
        self.if_exists = if_exists
        self.roll_bytes = roll_bytes

    def prepare_job(self, start: JobStart) -> None:
        """Makes the directory and deals with what is in it, as `if_exists` says.

        Raises:
            ConnectorError: it can't be made or written, or has parts and `if_exists` is `error`.
        """
        prepare_directory(Path(self.directory), self.if_exists, start, _parts)

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
    with disk_errors(Path(directory)):
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
        self._part: PartFile | None = None
        self._closed: list[dict[str, Any]] = []
        with disk_errors(self._directory):
            there = [numbers(part) for part in _parts(self._directory)]
        # parts of another run may have this subtask and epoch in their names
        taken = [n for subtask, epoch, n in there if (subtask, epoch) == (context.subtask, context.epoch)]
        self._next = max(taken, default=-1) + 1

    def write(self, batch: Batch) -> None:
        """Adds the batch to the open part; BadRecordError: a record has no form in the sink's format."""
        if len(batch) == 0:
            return
        lines = self._sink.format in ("jsonl", "text")
        content: Any = _lines(batch, self._sink.format) if lines else typed_columns(batch, self._sink.format).to_arrow()
        if self._part is not None and not lines and self._part.schema != content.schema:
            self._close_part()
        with disk_errors(self._directory):
            if self._part is None:
                final = f"part-{self._context.subtask}-{self._context.epoch}-{self._next}"
                hidden = self._directory / f".{final}.{EXTENSIONS[self._sink.format]}{UNFINISHED}"
                self._part = PartFile(hidden, self._sink.format, None if lines else content.schema)
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
        with disk_errors(self._directory):
            for handle in handles:
                commit_part(self._directory / handle["hidden"], self._directory / handle["final"], handle["size"])
        if handles:
            self._sync_directory()

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Deletes the hidden parts of this subtask's share that aren't among `prepared`."""
        with disk_errors(self._directory):
            hidden = [part for part in _parts(self._directory) if part.name.startswith(".")]
            delete_leftovers(hidden, prepared, self._context)

    def close(self) -> None:
        """Closes the open part and leaves it hidden."""
        if self._part is not None:
            with contextlib.suppress(OSError):
                self._part.close()
            self._part = None

    def _close_part(self) -> None:
        if self._part is not None:
            part, self._part = self._part, None
            hidden = part.path.name
            with disk_errors(self._directory):
                size = part.close()
            final = hidden.removeprefix(".").removesuffix(UNFINISHED)
            self._closed.append({"hidden": hidden, "final": final, "size": size})

    def _sync_directory(self) -> None:
        with disk_errors(self._directory):
            sync_directory(self._directory)


def _parts(directory: Path) -> list[Path]:
    """All parts, visible and hidden, by subtask, epoch and number."""
    found = [path for path in directory.iterdir() if is_part(path.name)]
    return sorted((path for path in found if path.name.startswith(".") == (path.suffix == UNFINISHED)), key=numbers)


def _lines(batch: Batch, format_: Format) -> bytes:
    if format_ == "jsonl":
        return encode_json_lines(batch)
    return "".join(f"{row}\n" for row in to_rows(batch)).encode("utf-8", "surrogateescape")
