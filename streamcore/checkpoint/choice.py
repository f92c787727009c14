"""Which checkpoint to go on from: the latest, one that is named, or the next older whole one where that is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from streamcore.checkpoint.log import CheckpointLog, Entry, directory_of
from streamcore.checkpoint.savepoint import is_savepoint
from streamcore.checkpoint.storage import Storage, open_storage
from streamcore.errors import DamagedCheckpointError, NoCheckpointError


def path_of(storage_url: str, entry: Entry) -> str:
    """Where a checkpoint is, as `--restore` takes it."""
    return f"{storage_url.rstrip('/')}/{directory_of(entry.checkpoint_id)}"


def split_path(path: str) -> tuple[str, int | None]:
    """The storage's URL and the checkpoint's id of `DIR/chk-NNNNNNNN`; the path itself and None of any other."""
    parent, _, name = path.rstrip("/").rpartition("/")
    number = PurePosixPath(name).name.removeprefix("chk-")
    if name.startswith("chk-") and number.isdigit():
        return parent or ".", int(number)
    return path, None


def find(path: str, open_storage: Callable[[str], Storage] = open_storage) -> tuple[Storage, Entry]:
    """The checkpoint at a checkpoint's directory, or the latest of a checkpoint directory or savepoint.

    Raises:
        NoCheckpointError: there is none.
        DamagedCheckpointError: its manifest is damaged.
    """
    url, number = split_path(path)
    storage = open_storage(url)
    log = CheckpointLog(storage)
    if number is not None:
        return storage, log.find(number)
    if log.is_empty and is_savepoint(storage):
        raise NoCheckpointError(
            f"the savepoint in {path} was never completed", hint="take one again, or restore from a checkpoint"
        )
    if log.is_empty:
        raise NoCheckpointError(
            f"there is no checkpoint in {path}", hint="give --restore latest, or a directory DIR/chk-NNNNNNNN"
        )
    return storage, log.latest()


def check_files(storage: Storage, manifest: Entry) -> None:
    """Reads every file of a checkpoint.

    Raises:
        DamagedCheckpointError: one is missing, or not what was written.
    """
    for file in {file.path: file for subtask in manifest.subtasks for file in subtask.files}.values():
        storage.get(file)


def older_whole(log: CheckpointLog, damaged: Entry | None) -> Entry | None:
    """The newest whole checkpoint from before a damaged one (None: the newest at all), if there is one."""
    for entry in reversed(log.checkpoints()):
        if damaged is not None and entry.checkpoint_id >= damaged.checkpoint_id:
            continue
        try:
            check_files(log.storage, entry)
        except DamagedCheckpointError:
            continue
        return entry
    return None
