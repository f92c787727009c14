"""Where object state may be kept: what a user chooses from."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from streamcore.errors import UsageError
from streamcore.state.heap import HeapBackend
from streamcore.state.object_table import Saved, StateBackend

Compression = Literal["none", "lz4", "zstd"]
_COMPRESSIONS = ("none", "lz4", "zstd")
_LEAST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class RocksDB:
    """Object state in RocksDB on a local disk: as much of it as the disk holds.

    Attributes:
        directory: where each subtask puts its database, below directories of their own that go with it; a fast local
            disk. None: among temporary files.
        memory_bytes: what write buffers and cached blocks of all databases in a worker may take together. Values that
            were used last are kept as Python objects besides.
        compression: of blocks on disk.

    Raises:
        UsageError: a value that can't be.
    """

    directory: str | None = None
    memory_bytes: int = 256 << 20
    compression: Compression = "lz4"

    def __post_init__(self) -> None:
        if self.memory_bytes < _LEAST_BYTES:
            raise UsageError(
                f"RocksDB can't do with memory_bytes={self.memory_bytes}", hint=f"give it {_LEAST_BYTES} or more"
            )
        if self.compression not in _COMPRESSIONS:
            raise UsageError(
                f"there is no compression {self.compression!r} of state", hint=f"use one of {', '.join(_COMPRESSIONS)}"
            )


BackendChoice = Literal["heap", "rocksdb"] | RocksDB
NAMES = ("heap", "rocksdb")


def chosen_backend(choice: BackendChoice) -> RocksDB | None:
    """The settings of RocksDB, or None for the heap.

    Raises:
        UsageError: there is no such backend, or `rocksdict` is not installed.
    """
    if choice == "heap":
        return None
    if choice != "rocksdb" and not isinstance(choice, RocksDB):
        raise UsageError(
            f"there is no state backend {choice!r}", hint=f"use one of {', '.join(NAMES)}, or RocksDB(directory=...)"
        )
    require_rocksdict("state_backend='rocksdb'")
    return RocksDB() if choice == "rocksdb" else choice


def open_backend(
    choice: RocksDB | None,
    max_parallelism: int,
    groups: range,
    saved: Sequence[Saved],
    *,
    allow_pickle: bool,
    compacts: bool = True,
) -> StateBackend:
    """The backend of one operator subtask.

    Args:
        choice: None: the heap.
        groups: the subtask's key groups.
        saved: the captured stores that it is restored from.
        compacts: whether RocksDB merges files when it likes; without, its files depend only on what is done with it.
    """
    if choice is None:
        return HeapBackend(max_parallelism, allow_pickle=allow_pickle)
    from streamcore.state.rocks import RocksBackend

    return RocksBackend(choice, max_parallelism, groups, saved, allow_pickle=allow_pickle, compacts=compacts)


def require_rocksdict(what: str) -> None:
    """Checks that RocksDB can be used.

    Raises:
        UsageError: `rocksdict` is not installed.
    """
    if importlib.util.find_spec("rocksdict") is None:
        raise UsageError(
            f"{what} needs the package rocksdict, which is not installed", hint="pip install 'streamcore[rocksdb]'"
        )
