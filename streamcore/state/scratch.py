"""Directories that live as long as their owner, whichever way it ends.

Each holds a file that its owner keeps locked (`flock`, which the system takes back from a process that is killed). Who
makes the next one beside it deletes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from streamcore.errors import MachineError

_LOCK = "owner.lock"


class ScratchDirectory:
    """A directory of its own below `parent`, which is made if need be; None: a private place among temporary files.

    Raises:
        MachineError: no directory can be made there.
    """

    def __init__(self, parent: str | None, purpose: str) -> None:
        try:
            place = Path(parent) if parent is not None else _private_place()
            place.mkdir(parents=True, exist_ok=True)
            left: list[tuple[int, Path]] = []
            gate = os.open(place / f"{purpose}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(gate, fcntl.LOCK_EX)  # a directory that is not locked yet is not one that was left
                left = [held for path in place.glob(f"{purpose}-*") if (held := _take_over(path)) is not None]
                self.path = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=place))
                lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
            finally:
                os.close(gate)
        except OSError as error:
            raise MachineError(
                f"no directory for state can be made in {parent or tempfile.gettempdir()}: {error.strerror}",
                hint="give the state backend a directory that this user may write to, on a local disk: "
                'state_backend=RocksDB(directory="...")',
            ) from error
        self._delete = weakref.finalize(self, _delete, lock, self.path)
        for held in left:
            _delete(*held)

    def delete(self) -> None:
        """Deletes it with all that is in it; a second call does nothing."""
        self._delete()


def _private_place() -> Path:
    """A directory among temporary files that no other user can have put there."""
    place = Path(tempfile.gettempdir()) / f"streamcore-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    found = place.lstat()
    if found.st_uid != os.getuid() or not place.is_dir() or place.is_symlink():
        raise PermissionError(0, f"{place} belongs to somebody else")
    return place


def _take_over(path: Path) -> tuple[int, Path] | None:
    """The lock of a directory whose owner is no more."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None  # its owner is deleting it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock, path


def _delete(lock: int, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
