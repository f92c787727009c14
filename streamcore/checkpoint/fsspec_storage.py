"""Snapshots on any file system that fsspec knows.

It has to be one that shows a file only when it is whole, and that can make a file only where there is none
(`pipe_file(mode="create")`). The second is tried when a job starts (`Storage.check_writable`); the first can't be.
"""

from __future__ import annotations

import errno
from typing import Any

from streamcore.checkpoint.storage import Storage


class FsspecStorage(Storage):
    """A file system object of fsspec and a root in it."""

    def __init__(self, url: str, fs: Any, root: str) -> None:
        super().__init__(url, f"{fs.protocol}:{root.rstrip('/')}")
        self._fs = fs
        self._root = root.rstrip("/")

    def write(self, path: str, data: bytes) -> None:
        self._fs.makedirs(f"{self._root}/{path}".rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(f"{self._root}/{path}", data)

    def create(self, path: str, data: bytes) -> bool:
        self._fs.makedirs(f"{self._root}/{path}".rpartition("/")[0], exist_ok=True)
        try:
            self._fs.pipe_file(f"{self._root}/{path}", data, mode="create")
        except FileExistsError:
            return False
        except (NotImplementedError, TypeError, ValueError) as error:
            kind = type(self._fs).__name__
            raise OSError(errno.ENOTSUP, f"{kind} can't make a file only where there is none: {error}") from error
        return True

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(f"{self._root}/{path}")
        return data

    def names(self, directory: str) -> list[str]:
        try:
            entries = self._fs.ls(f"{self._root}/{directory}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rpartition("/")[2] for entry in entries)

    def delete(self, path: str) -> None:
        target = f"{self._root}/{path}"
        self._fs.invalidate_cache()
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)
