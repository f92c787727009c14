"""The directory of a savepoint: a snapshot that somebody asked for, complete in itself, that no job deletes.

::

    DIR/savepoint.json         the mark: made first, so that two savepoints never share a directory
    DIR/chk-00000007/*.state   what the subtasks wrote, and DIR/chk-00000007/*.tables
    DIR/finished/*             the last state of subtasks that had ended before, copied
    DIR/log/00000001.json      the manifest, written last: without it there is no savepoint

That is the layout of a checkpoint directory (`streamcore.checkpoint.log`), so it is read and restored like one.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streamcore.checkpoint.log import CheckpointLog, Entry, directory_of
from streamcore.checkpoint.storage import FileRef, Storage
from streamcore.errors import SavepointError

MARK = "savepoint.json"


def is_savepoint(storage: Storage) -> bool:
    """Whether a savepoint has been written there, or begun."""
    return MARK in storage.names("")


def reserve(storage: Storage, job: str) -> None:
    """Takes a place for a savepoint of a job; blocking.

    Raises:
        SavepointError: something is there already, or it can't be written.
    """
    try:
        there = storage.names("")
        if not there and storage.create(MARK, msgspec.json.encode({"job": job})):
            return
    except OSError as error:
        raise SavepointError(
            f"a savepoint can't be written to {storage.url}: {error.strerror or error}",
            hint="give a directory that the user who runs the job may write to, on a disk with room",
        ) from error
    raise SavepointError(
        f"{storage.url} is not empty: it has {', '.join(there[:3]) or MARK}",
        hint="a savepoint needs a directory of its own",
    )


def check_wanted(storage: Storage) -> None:
    """To be called after a part has been written, or not quite; blocking.

    Raises:
        SavepointError: the savepoint has been given up meanwhile. What was written is deleted, for whoever gave it up
            may have cleaned up before.
    """
    if not is_savepoint(storage):
        discard(storage)
        raise SavepointError(f"the savepoint in {storage.url} has been given up")


def complete(storage: Storage, manifest: Entry, kept_in: Storage | None) -> None:
    """Makes a savepoint of the parts that have been written; blocking.

    Args:
        storage: the savepoint's own.
        manifest: names all files as they are called here.
        kept_in: the job's checkpoint directory, which has those that were not written for this savepoint.

    Raises:
        CheckpointError: one of these is missing or damaged.
        OSError: the storage doesn't take it.
    """
    if kept_in is not None:
        own = f"{directory_of(manifest.checkpoint_id)}/"
        files = {file.path: file for part in manifest.subtasks for file in part.files}
        copy_files(kept_in, storage, [file for path, file in files.items() if not path.startswith(own)])
    CheckpointLog(storage).append(manifest)


def discard(storage: Storage) -> None:
    """Deletes what was written of a savepoint that won't be complete; blocking.

    Subtasks may still be writing parts of it. The mark goes before the parts: a part that comes too late to be seen
    here is then deleted by whoever wrote it (`check_wanted`).

    Raises:
        OSError: the storage doesn't do it; what is left is of no use, and is never taken for a savepoint.
    """
    storage.delete("log")  # first: what has no manifest is no savepoint
    storage.delete(MARK)
    storage.delete("")


def copy_files(source: Storage, target: Storage, files: Iterable[FileRef]) -> None:
    """Copies files under the same names; blocking.

    Raises:
        DamagedCheckpointError: one is missing, or not what was written.
        OSError: the target doesn't take it.
    """
    for file in files:
        target.write(file.path, source.get(file))
