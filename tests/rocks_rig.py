"""Stores of all subtasks of an operator on a backend of choice, their snapshots and restores, in this process."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from streamcore.checkpoint.images import KnownTables, make_portable, write_images
from streamcore.checkpoint.log import SubtaskEntry, state_path
from streamcore.checkpoint.parts import read_part, write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.kernels.hashing import hash_key
from streamcore.state.backends import RocksDB, open_backend
from streamcore.state.key_groups import group_range
from streamcore.state.store import KeyedStore

GROUPS = 16


@dataclasses.dataclass
class Subtask:
    """One subtask's store, and what its writer knows."""

    index: int
    store: KeyedStore
    known: KnownTables = dataclasses.field(default_factory=KnownTables)


class Stores:
    """The subtasks of one operator.

    Args:
        settings: of RocksDB; None: the heap.
        storage: of snapshots.
        entries: the parts that they are restored from.
    """

    def __init__(self, settings, parallelism, storage, entries=(), *, allow_pickle=False, compacts=True):
        self.storage = storage
        self.allow_pickle = allow_pickle
        self.subtasks = []
        for index in range(parallelism):
            keyed = [read_part(storage, entry, allow_pickle=allow_pickle).operators["op"].keyed for entry in entries]
            groups = group_range(index, parallelism, GROUPS)
            backend = open_backend(settings, GROUPS, groups, keyed, allow_pickle=allow_pickle, compacts=compacts)
            store = KeyedStore(GROUPS, groups, keyed, allow_pickle=allow_pickle, backend=backend)
            self.subtasks.append(Subtask(index, store))

    def declare(self, descriptor):
        """The handles of all subtasks."""
        return [subtask.store.declare(descriptor) for subtask in self.subtasks]

    def table(self, name):
        """The tables of all subtasks."""
        return [subtask.store.table(name) for subtask in self.subtasks]

    def owner(self, key):
        """The subtask that a key belongs to."""
        return hash_key(key) % GROUPS * len(self.subtasks) // GROUPS

    def go_to(self, key):
        """Makes a key the current one where it belongs; returns the subtask's number."""
        owner = self.owner(key)
        self.subtasks[owner].store.go_to(key)
        return owner

    def capture(self, checkpoint_id):
        """Captures all stores; the result is for `write`."""
        for subtask in self.subtasks:
            subtask.store.settle()
        return checkpoint_id, [subtask.store.capture(checkpoint_id) for subtask in self.subtasks]

    def write(self, captured, epoch=1, *, complete=True, portable=False):
        """Writes what was captured; the entries for a restore."""
        checkpoint_id, parts = captured
        entries = []
        for subtask, (keyed, tables) in zip(self.subtasks, parts, strict=True):
            part = OperatorSnapshot(keyed, None, tables)
            for capture in part.captures:
                capture.finish()
            path = state_path(checkpoint_id, 0, subtask.index, epoch)
            snapshot = SubtaskSnapshot({"op": part})
            if portable:
                make_portable(snapshot)
            shared = write_images(self.storage, path, snapshot, subtask.known.now())
            file, chain = write_part(self.storage, path, snapshot, [], allow_pickle=self.allow_pickle)
            subtask.known.wrote(checkpoint_id, shared)
            if complete:
                subtask.known.complete(checkpoint_id)
            for table in snapshot.operators["op"].tables.values():
                table.release()
            entries.append(
                SubtaskEntry(0, subtask.index, len(self.subtasks), ["op"], False, file, chain, list(shared.values()))
            )
        return entries

    def close(self):
        """Closes all stores."""
        for subtask in self.subtasks:
            subtask.store.close()


def rocksdb(directory=None, **options):
    """Small settings of RocksDB, in memory where the machine has files there: each database syncs what it writes."""
    return RocksDB(str(directory or _PLACE.name), **{"memory_bytes": 16 << 20, **options})


_MEMORY = Path("/dev/shm")
_PLACE = tempfile.TemporaryDirectory(prefix="streamcore-tests-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
