"""Where snapshots are kept: a directory of the local disk, or any place that fsspec knows.

Three promises the protocol is built on: a file is whole or absent; `create` makes a name exactly once,
whoever else tries; what was written is durable when the call returns.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import msgspec

from streamcore.errors import CheckpointError, DamagedCheckpointError, MachineError

Buffer = bytes | memoryview
"""A piece of a file; a memoryview is of single bytes, so that its length is its size."""


class FileRef(msgspec.Struct, frozen=True):
    """A file of a snapshot: its path below the storage's root, size, and BLAKE2b digest (hexadecimal)."""

    path: str
    size_bytes: int
    digest: str


def digest_of(data: bytes) -> str:
    """The digest that a `FileRef` of these bytes has."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Storage(ABC):
    """A flat space of files under a root; paths use `/`."""

    def __init__(self, url: str, identity: str = "") -> None:
        self.url = url
        self.identity = identity or url
        """Equal for two URLs of one place, however they are written."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Writes a file, whole or not at all."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Writes a file whose name must be new; false if somebody made it before."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: it isn't there.
        """

    @abstractmethod
    def names(self, directory: str) -> list[str]:
        """The names in a directory, sorted; empty when there is none."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a file, or a directory with all that is in it; absent is fine."""

    def put(self, path: str, data: bytes) -> FileRef:
        """Writes a file and returns its reference."""
        self.write(path, data)
        return FileRef(path, len(data), digest_of(data))

    def put_parts(self, path: str, parts: Sequence[Buffer]) -> FileRef:
        """The same for content in pieces, which are not put together in memory where the storage can do without."""
        digest, size = hashlib.blake2b(digest_size=16), 0
        for part in parts:
            digest.update(part)
            size += len(part)
        self.write_parts(path, parts)
        return FileRef(path, size, digest.hexdigest())

    def write_parts(self, path: str, parts: Sequence[Buffer]) -> None:
        """Writes a file of several pieces, whole or not at all."""
        self.write(path, b"".join(parts))

    def get(self, ref: FileRef) -> bytes:
        """The content of a referenced file.

        Raises:
            DamagedCheckpointError: it is missing, or not what was written.
            CheckpointError: it can't be read.
        """
        try:
            data = self.read(ref.path)
        except (FileNotFoundError, NotADirectoryError):
            raise DamagedCheckpointError(f"{self.url}/{ref.path} is missing") from None
        except OSError as error:
            raise CheckpointError(f"{self.url}/{ref.path} can't be read: {error.strerror or error}") from error
        if len(data) != ref.size_bytes or digest_of(data) != ref.digest:
            raise DamagedCheckpointError(
                f"{self.url}/{ref.path} is damaged: {len(data)} bytes with digest {digest_of(data)}, "
                f"{ref.size_bytes} bytes with digest {ref.digest} were written"
            )
        return data

    def check_writable(self) -> None:
        """Proves that snapshots can be written here.

        Raises:
            MachineError: they can't.
        """
        try:
            self.write("probe", b"")
            self.delete("probe")
        except OSError as error:
            raise MachineError(
                f"the checkpoint directory {self.url} can't be written: {error.strerror or error}",
                hint="give --checkpoint-dir a directory that this user may write to",
            ) from error


class LocalStorage(Storage):
    """A directory of the local disk. Files are written beside their place, synced and renamed."""

    def __init__(self, url: str, root: Path) -> None:
        super().__init__(url, str(root.resolve()))
        self._root = root

    def write(self, path: str, data: bytes) -> None:
        self.write_parts(path, [data])

    def write_parts(self, path: str, parts: Sequence[Buffer]) -> None:
        target = self._root / path
        temporary = self._write_temporary(target, parts)
        temporary.replace(target)
        _sync_directory(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        target = self._root / path
        temporary = self._write_temporary(target, [data])
        try:
            os.link(temporary, target)  # fails if the name exists, and never shows half a file
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_directory(target.parent)
        return True

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def names(self, directory: str) -> list[str]:
        place = self._root / directory
        return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []

    def delete(self, path: str) -> None:
        target = self._root / path
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)

    def _write_temporary(self, target: Path, parts: Sequence[Buffer]) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")  # containers share process ids
        try:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


class FsspecStorage(Storage):
    """Any file system that fsspec knows (`memory://`, `s3://`, …)."""

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
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)


def open_storage(url: str) -> Storage:
    """The storage at a path or fsspec URL.

    Raises:
        CheckpointError: no file system is known for the URL.
    """
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise CheckpointError(
            f"can't open {url}: {error}", hint="use a path, or a URL of an installed fsspec file system"
        ) from error
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        return LocalStorage(url, Path(root))
    return FsspecStorage(url, fs, root)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
