"""The compiled key → slot index: open addressing with linear probing over int64 keys.

Places come from the upper bits of the hash: the lower ones choose the key group, so within one subtask they
are far from uniform.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel
from streamcore.kernels.hashing import _mix_one

IntArray = np.ndarray[Any, np.dtype[np.int64]]


_LARGE = 1 << 16
"""With more keys than that, to move all of them into a bigger table at once would stop the stream."""
_MOVED = 4096
"""How many keys are moved at a time, at least."""
_RESERVED = 1 << 24
"""Keys for which there is room from then on: of addresses, as only what is written becomes memory."""


class IntIndex:
    """Gives each distinct int64 key a slot: 0, 1, 2, … in order of first appearance.

    A large table grows without a pause, as the dictionaries of Redis do: what is in the old one is moved bit by bit,
    and looked up in both until all of it has been.
    """

    def __init__(self, capacity: int = 64) -> None:
        # 1 + the slot of the key that hashes here; 0 is free, since zeros are memory only once they are written to
        self._table = np.zeros(capacity, np.int64)
        self._keys = np.empty(capacity, np.int64)  # key of each slot
        self.size = 0
        self._old = np.empty(0, np.int64)  # the table before, while there are slots only it has
        self._moved = self._old_size = 0  # it has the slots from the first number to the second
        _compile()

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
            if len(self._old):
                done, self.size = _lookup_or_insert_beside(
                    keys, done, out, self._table, self._keys, self.size, self._old
                )
                self._move(max(_MOVED, 2 * len(keys)))
            else:
                done, self.size = _lookup_or_insert(keys, done, out, self._table, self._keys, self.size)
            if done == len(keys):
                return out
            self._grow()

    def find(self, keys: IntArray) -> IntArray:
        """The slot of each key, -1 for unknown keys; int64 (n,)."""
        found: IntArray = _find(keys, self._table, self._keys)
        if len(self._old):
            missing = np.flatnonzero(found < 0)
            found[missing] = _find(keys[missing], self._old, self._keys)
        return found

    def _grow(self) -> None:
        self._move(self._old_size)
        self._old, self._moved, self._old_size = self._table, 0, self.size
        self._table = np.zeros(2 * len(self._table), np.int64)
        if 2 * self.size > len(self._keys):
            bigger = np.empty(2 * self.size if self.size < _LARGE else max(2 * self.size, _RESERVED), np.int64)
            bigger[: self.size] = self.keys
            self._keys = bigger
        if self.size < _LARGE:
            self._move(self.size)

    def _move(self, count: int) -> None:
        """Moves so many slots out of the old table."""
        stop = min(self._moved + count, self._old_size)
        _move(self._keys, self._moved, stop, self._table)
        self._moved = stop
        if stop == self._old_size:
            self._old = np.empty(0, np.int64)


@kernel
def _lookup_or_insert(keys: Any, start: Any, out: Any, table: Any, slot_keys: Any, size: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    limit = len(table) // 2
    for i in range(start, len(keys)):
        key = keys[i]
        place = (_mix_one(np.uint64(key)) >> np.uint64(17)) & mask
        while True:
            slot = table[place] - 1
            if slot < 0:
                if size >= limit:
                    return i, size
                slot_keys[size] = key
                out[i] = size
                size += 1
                table[place] = size
                break
            if slot_keys[slot] == key:
                out[i] = slot
                break
            place = (place + np.uint64(1)) & mask
    return len(keys), size


@kernel
def _lookup_or_insert_beside(keys: Any, start: Any, out: Any, table: Any, slot_keys: Any, size: Any, old: Any) -> Any:
    """As `_lookup_or_insert`, with keys that may be in an old table still."""
    limit = len(table) // 2
    for i in range(start, len(keys)):
        key = keys[i]
        place = _place(key, table, slot_keys)
        if table[place] == 0:
            before = old[_place(key, old, slot_keys)]
            if before > 0:
                out[i] = before - 1
                continue
            if size >= limit:
                return i, size
            slot_keys[size] = key
            size += 1
            table[place] = size
        out[i] = table[place] - 1
    return len(keys), size


@kernel
def _place(key: Any, table: Any, slot_keys: Any) -> Any:
    """Where a key is in a table, or would be."""
    mask = np.uint64(len(table) - 1)
    place = (_mix_one(np.uint64(key)) >> np.uint64(17)) & mask
    while table[place] > 0 and slot_keys[table[place] - 1] != key:
        place = (place + np.uint64(1)) & mask
    return place


@kernel
def _find(keys: Any, table: Any, slot_keys: Any) -> Any:
    out = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        out[i] = table[_place(keys[i], table, slot_keys)] - 1
    return out


@kernel
def _move(slot_keys: Any, start: Any, stop: Any, table: Any) -> Any:
    for slot in range(start, stop):
        table[_place(slot_keys[slot], table, slot_keys)] = slot + 1


@cache
def _compile() -> None:
    """Before the first record: when a table turns out to be large, the stream would have to wait for it."""
    nothing = np.empty(0, np.int64)
    _lookup_or_insert_beside(nothing, 0, nothing, nothing, nothing, 0, nothing)
    _move(nothing, 0, 0, nothing)
