"""Where snapshots are kept: a directory of the local disk (`local_storage`), a bucket (`s3_storage`), or any place that
fsspec knows (`fsspec_storage`).

Three promises the protocol is built on: a file is whole or absent; `create` makes a name exactly once,
whoever else tries; what was written is durable when the call returns. What goes wrong is an `OSError`.
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import fsspec
import msgspec

from streamcore.errors import CheckpointError, DamagedCheckpointError, MachineError

Buffer = bytes | memoryview
"""A piece of a file; a memoryview is of single bytes, so that its length is its size."""


_PROBE = "probe-"
_PROBES = 3


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
        """The names in a directory, sorted; empty when there is none. A bucket may for a while go on to name
        directories that have become empty."""

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
        """Proves that snapshots can be written here, and that a name can be made only once.

        Raises:
            MachineError: they can't, or it can be made twice.
        """
        try:
            exclusive = any(self._is_exclusive() for _ in range(_PROBES))
        except OSError as error:
            raise MachineError(
                f"the checkpoint directory {self.url} can't be written: {error.strerror or error}",
                hint="give --checkpoint-dir a directory that this user may write to",
            ) from error
        if not exclusive:
            raise MachineError(
                f"the checkpoint directory {self.url} can't be used: a file there can be made twice, so a run that has "
                "been replaced would not notice",
                hint="use a local directory, or a storage that creates files exclusively (S3 with If-None-Match)",
            )

    def clean_up(self) -> None:
        """Removes what processes that were killed have left half written. Only for a run that has fenced off the runs
        before it, while none of its own writes."""
        for name in self.names(""):
            if name.startswith(_PROBE):
                self.delete(name)

    def _is_exclusive(self) -> bool:
        """Whether the second of two attempts to make a name is refused. (Another run that starts now may clean up
        between the two, so a false answer has to be checked.)"""
        name = f"{_PROBE}{secrets.token_hex(8)}"
        exclusive = self.create(name, b"1") and not self.create(name, b"2")
        self.delete(name)
        return exclusive


def open_storage(url: str) -> Storage:
    """The storage at a path or fsspec URL.

    Raises:
        CheckpointError: no file system is known for the URL.
    """
    from streamcore.checkpoint.fsspec_storage import FsspecStorage
    from streamcore.checkpoint.local_storage import LocalStorage

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        is_s3 = url.startswith(("s3:", "s3a:"))
        raise CheckpointError(
            f"can't open {url}: {error}",
            hint="pip install 'streamcore[s3]'" if is_s3 else "install the package that it needs",
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"can't open {url}: {error}", hint="use a path, or a URL of an installed fsspec file system"
        ) from error
    protocols = fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)
    if "file" in protocols:
        return LocalStorage(url, Path(root))
    if "s3" in protocols:
        from streamcore.checkpoint.s3_storage import S3Storage

        return S3Storage(url)
    return FsspecStorage(url, fs, root)
