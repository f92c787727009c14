"""The compiled key → slot index: open addressing with linear probing over int64 keys.

Places come from the upper bits of the hash: the lower ones choose the key group, so within one subtask they
are far from uniform.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel
from streamcore.kernels.hashing import _mix_one

IntArray = np.ndarray[Any, np.dtype[np.int64]]


class IntIndex:
    """Gives each distinct int64 key a slot: 0, 1, 2, … in order of first appearance."""

    def __init__(self, capacity: int = 64) -> None:
        self._table = np.full(capacity, -1, np.int64)  # slot of the key that hashes here, -1: free
        self._keys = np.empty(capacity, np.int64)  # key of each slot
        self.size = 0

    @property
    def keys(self) -> IntArray:
        """The keys in slot order; int64 (size,)."""
        return self._keys[: self.size]

    def keys_from(self, start: int) -> IntArray:
        """The keys of the slots from `start` on; int64 (size - start,), a view."""
        return self._keys[start : self.size]

    def slots(self, keys: IntArray) -> IntArray:
        """The slot of each key, new keys getting new slots; int64 (n,)."""
        out = np.empty(len(keys), np.int64)
        done = 0
        while True:
            done, self.size = _lookup_or_insert(keys, done, out, self._table, self._keys, self.size)
            if done == len(keys):
                return out
            self._grow()

    def find(self, keys: IntArray) -> IntArray:
        """The slot of each key, -1 for unknown keys; int64 (n,)."""
        result: IntArray = _find(keys, self._table, self._keys)
        return result

    def _grow(self) -> None:
        bigger = np.empty(2 * len(self._table), np.int64)
        bigger[: self.size] = self.keys
        self._keys = bigger
        self._table = np.full(len(bigger), -1, np.int64)
        _rehash(self._keys, self.size, self._table)


@kernel
def _lookup_or_insert(keys: Any, start: Any, out: Any, table: Any, slot_keys: Any, size: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    limit = len(table) // 2
    for i in range(start, len(keys)):
        key = keys[i]
        place = (_mix_one(np.uint64(key)) >> np.uint64(17)) & mask
        while True:
            slot = table[place]
            if slot < 0:
                if size >= limit:
                    return i, size
                table[place] = size
                slot_keys[size] = key
                out[i] = size
                size += 1
                break
            if slot_keys[slot] == key:
                out[i] = slot
                break
            place = (place + np.uint64(1)) & mask
    return len(keys), size


@kernel
def _find(keys: Any, table: Any, slot_keys: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    out = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        place = (_mix_one(np.uint64(keys[i])) >> np.uint64(17)) & mask
        while table[place] >= 0 and slot_keys[table[place]] != keys[i]:
            place = (place + np.uint64(1)) & mask
        out[i] = table[place]
    return out


@kernel
def _rehash(slot_keys: Any, size: Any, table: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    for slot in range(size):
        place = (_mix_one(np.uint64(slot_keys[slot])) >> np.uint64(17)) & mask
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = slot
