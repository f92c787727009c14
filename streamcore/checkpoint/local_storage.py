"""Snapshots in a directory of the local disk, in an order of steps of which no crash of the machine makes half a file.

A file is written under a temporary name, synced, and given its name; then the directory that has the name is synced,
and the directory that has *that* one. What is deleted is deleted durably too, so that a manifest never comes back after
the files it names have gone. (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, has what file
systems do with programs that are less careful.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from streamcore.checkpoint.storage import Buffer, Storage

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ATTEMPTS = 10


class LocalStorage(Storage):
    """A directory of the local disk, or of any disk that is mounted."""

    def __init__(self, url: str, root: Path) -> None:
        super().__init__(url, str(root.resolve()))
        self._root = root

    def write(self, path: str, data: bytes) -> None:
        self.write_parts(path, [data])

    def write_parts(self, path: str, parts: Sequence[Buffer]) -> None:
        target = self._root / path
        temporary = self._write_temporary(target, parts)
        try:
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync(target)

    def create(self, path: str, data: bytes) -> bool:
        target = self._root / path
        temporary = self._write_temporary(target, [data])
        try:
            target.hardlink_to(temporary)  # fails if the name exists, and never shows half a file
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        self._sync(target)
        return True

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def names(self, directory: str) -> list[str]:
        place = self._root / directory
        return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []

    def delete(self, path: str) -> None:
        target = self._root / path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _remove(target)
            _sync_directory(target.parent)

    def clean_up(self) -> None:
        for directory in [self._root, *(place for place in _entries(self._root) if place.is_dir())]:
            for entry in _entries(directory):
                if _TEMPORARY.fullmatch(entry.name):
                    entry.unlink(missing_ok=True)
        super().clean_up()

    def _write_temporary(self, target: Path, parts: Sequence[Buffer]) -> Path:
        _make_directory(target.parent)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")  # containers share process ids
        try:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise _explained(error, target, sum(map(len, parts))) from error
            raise
        return temporary

    def _sync(self, target: Path) -> None:
        """Makes a new name durable, and that of its directory, which another process may have made just now."""
        _sync_directory(target.parent)
        if target.parent != self._root:
            _sync_directory(target.parent.parent)


def _make_directory(directory: Path) -> None:
    """Makes a directory and those above it; each new name is durable."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
    _sync_directory(directory.parent)


def _remove(target: Path) -> None:
    if not target.is_dir() or target.is_symlink():
        target.unlink()
        return
    for attempt in range(1, _ATTEMPTS + 1):
        for entry in _entries(target):
            with contextlib.suppress(FileNotFoundError):
                _remove(entry)
        try:
            target.rmdir()
        except OSError as error:  # somebody has written a file into it meanwhile
            if error.errno != errno.ENOTEMPTY or attempt == _ATTEMPTS:
                raise
        else:
            return


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, target: Path, needed: int) -> OSError:
    """The disk is full: what was to be written, and what is left."""
    disk = os.statvfs(target.parent)
    free = disk.f_bavail * disk.f_frsize
    return OSError(error.errno, f"{error.strerror}: {needed:,} bytes to write, {free:,} free", str(target))
