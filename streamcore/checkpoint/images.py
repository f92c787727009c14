"""State in RocksDB in a checkpoint: table files, each written once for all checkpoints that need it.

::

    chk-00000007/v1-0.e2.0-000012.sst      checkpoint 7 was the first with it; 0: the subtask's first operator

RocksDB never changes a table file, so a checkpoint names those that an earlier one has written, and writes new ones
only. What else an image needs is in the state file, some kilobytes::

    {"states": {NAME: {"kind"}, ...}, "rocksdb": {"format", "groups", "small": {name: bytes}, "tables": {name: path}}}
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import FileRef, Storage
from streamcore.state.rocks_capture import ImageCapture, PortableCapture
from streamcore.state.rocks_image import image_form, read_images

Tables = dict[tuple[str, str], FileRef]
"""(operator's uid, RocksDB's name of a table file) → where it is in the storage."""


class KnownTables:
    """The table files that the next checkpoint of a subtask may name: those of the newest that it has written, if it
    knows that one to be complete. If not, that one may lead to the deletion of what only older ones name, or be deleted
    itself: then everything is written again."""

    def __init__(self) -> None:
        self._written: dict[int, Tables] = {}
        self._complete: int | None = None

    def now(self) -> Tables:
        """The table files, if any may be named."""
        if self._complete is None or max(self._written) > self._complete:
            return {}
        return self._written[self._complete]

    def wrote(self, checkpoint_id: int, tables: Tables) -> None:
        """The subtask's part of a checkpoint has been written."""
        self._written[checkpoint_id] = tables

    def forget(self, checkpoint_id: int) -> None:
        """A checkpoint has been aborted."""
        if checkpoint_id != self._complete:
            self._written.pop(checkpoint_id, None)

    def complete(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        if checkpoint_id in self._written:
            self._complete = checkpoint_id
            self._written = {number: tables for number, tables in self._written.items() if number >= checkpoint_id}


def make_portable(snapshot: SubtaskSnapshot) -> None:
    """Gives state in RocksDB the form of state in memory before it is written, for a snapshot that has files of its
    own only; it is read back from the disk when it is written."""
    for operator in snapshot.operators.values():
        operator.tables |= {name: PortableCapture(capture, name) for name, capture in images_in(operator).items()}


def write_images(storage: Storage, path: str, snapshot: SubtaskSnapshot, known: Tables) -> Tables:
    """Writes the table files that are new, and puts into the snapshot which ones it has; blocking.

    Args:
        path: of the state file.
        known: the table files of a checkpoint that later ones may build on.

    Returns:
        All table files of the snapshot.

    Raises:
        MachineError: an image can't be made.
        OSError: a file can't be written.
    """
    tables: Tables = {}
    for number, (uid, operator) in enumerate(snapshot.operators.items()):
        captures = images_in(operator)
        if not captures:
            continue
        image = next(iter(captures.values()))
        try:
            files = image.saved()
            for name, file in files.tables.items():
                ref = known.get((uid, name)) or _known_from_origin(storage, image, name)
                tables[uid, name] = ref or _put(storage, f"{path.removesuffix('.state')}.{number}-{name}", file)
        finally:
            image.release()
        paths = {name: tables[uid, name].path for name in files.tables}
        operator.keyed["rocksdb"] = image_form(image.groups, files.small, paths)
        operator.keyed["states"] |= {name: {"kind": capture.kind} for name, capture in captures.items()}
    return tables


def images_in(operator: OperatorSnapshot) -> dict[str, ImageCapture]:
    """The captured tables that are in a database, by name; all in one."""
    return {name: capture for name, capture in operator.tables.items() if isinstance(capture, ImageCapture)}


def find_images(storage: Storage, snapshot: SubtaskSnapshot, shared: list[FileRef]) -> None:
    """Gives state in RocksDB the form of other state; its files are read when that is asked for.

    Raises:
        CheckpointError: it was written by a newer version.
        UsageError: RocksDB is not installed.
    """
    files: Mapping[str, FileRef] = {file.path: file for file in shared}
    for operator in snapshot.operators.values():
        read_images(operator.keyed, files, storage.identity, storage.get)


def _known_from_origin(storage: Storage, image: ImageCapture, name: str) -> FileRef | None:
    """Where the snapshot that the attempt began with has a table file. Every checkpoint since names it there, so one
    that is kept does."""
    if image.origin is None or image.origin.place != storage.identity:
        return None
    found: FileRef | None = image.origin.tables.get(name)
    return found


def _put(storage: Storage, path: str, file: Path) -> FileRef:
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        return storage.put_parts(path, [content])
