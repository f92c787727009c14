"""One subtask's part of a checkpoint, written and read: a state file, and a chain of table files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamcore.checkpoint.images import find_images, images_in
from streamcore.checkpoint.log import SubtaskEntry, tables_path
from streamcore.checkpoint.snapshot_file import SubtaskSnapshot
from streamcore.checkpoint.storage import FileRef, Storage
from streamcore.checkpoint.table_file import assemble, decode_tables, encode_tables
from streamcore.errors import StateCodecError
from streamcore.state.capture import Capture

_LONGEST_CHAIN = 32


def write_part(
    storage: Storage, path: str, snapshot: SubtaskSnapshot, base: Sequence[FileRef], *, allow_pickle: bool
) -> tuple[FileRef, list[FileRef]]:
    """Writes a part whose tables have all been copied; blocking.

    Args:
        path: of the state file.
        base: the table files of the checkpoint since which the tables were captured.

    Returns:
        The state file and the chain of table files.

    Raises:
        StateCodecError: something in it has no plain form.
    """
    captures = {
        (uid, name): table
        for uid, op in snapshot.operators.items()
        for name, table in op.tables.items()
        if name not in images_in(op)
    }
    tables = list(base)
    if captures and not (base and all(capture.is_empty for capture in captures.values())):
        saved = {name: _saved(name, capture) for name, capture in captures.items()}
        own = storage.put_parts(tables_path(path), encode_tables(saved, allow_pickle=allow_pickle))
        is_whole = all(table.is_whole for table in saved.values())
        tables = [own] if is_whole else [*base, own]
    return storage.put(path, snapshot.encode(allow_pickle=allow_pickle)), tables


def _saved(name: tuple[str, str], capture: Capture) -> Any:
    try:
        return capture.saved()
    except StateCodecError as error:
        raise StateCodecError(f"operator {name[0]!r}, state {name[1]!r}: {error.message}", hint=error.hint) from error


def read_part(storage: Storage, entry: SubtaskEntry, *, allow_pickle: bool, as_fields: bool = False) -> SubtaskSnapshot:
    """Reads a part; the state in table files is among each operator's keyed state; blocking.

    Args:
        as_fields: leaves records as their fields (see `plain.decode`), so that no class has to be loaded.

    Raises:
        DamagedCheckpointError: a file is missing or damaged.
        CheckpointError: it was written by a newer version.
        StateCodecError: a value is of a class that isn't loaded, or pickled although that is not allowed.
    """
    snapshot = SubtaskSnapshot.decode(storage.get(entry.file), allow_pickle=allow_pickle, as_fields=as_fields)
    chain = [decode_tables(storage.get(file), allow_pickle=allow_pickle, as_fields=as_fields) for file in entry.tables]
    for (uid, name), table in assemble(chain, allow_pickle=allow_pickle).items():
        snapshot.operators[uid].keyed["states"][name] = table
    find_images(storage, snapshot, entry.shared)
    return snapshot


class Increments:
    """Which checkpoint the next one of a subtask may build on: the newest that it has written, if it knows that one to
    be complete; and none when its chain has become so long that writing everything is cheaper for who restores it.

    If it has written a newer one and not heard of it, that one may be complete, and may have led to the deletion of
    files that only older ones need: then everything is written again.
    """

    def __init__(self) -> None:
        self._written: dict[int, list[FileRef]] = {}
        self._complete: int | None = None

    @property
    def base(self) -> int | None:
        """The checkpoint to build on; None: write everything."""
        if self._complete is None or not (files := self._written[self._complete]):
            return None
        if max(self._written) > self._complete:
            return None
        sizes = [file.size_bytes for file in files]
        return self._complete if len(sizes) < _LONGEST_CHAIN and sum(sizes[1:]) <= sizes[0] else None

    def files(self, base: int | None) -> list[FileRef]:
        """The table files of a checkpoint that is built on."""
        return self._written[base] if base is not None else []

    def wrote(self, checkpoint_id: int, files: list[FileRef]) -> None:
        """The subtask's part of a checkpoint has been written."""
        self._written[checkpoint_id] = files

    def forget(self, checkpoint_id: int) -> None:
        """A checkpoint has been aborted."""
        if checkpoint_id != self._complete:
            self._written.pop(checkpoint_id, None)

    def complete(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        if checkpoint_id in self._written:
            self._complete = checkpoint_id
            self._written = {number: files for number, files in self._written.items() if number >= checkpoint_id}
