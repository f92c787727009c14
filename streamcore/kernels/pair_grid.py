"""An index of pairs of integers without hashing, for pairs that lie close together: `a` dense from 0, `b` in a range.

A cell per (b, a): what takes 60 random accesses of a hash table's three arrays takes 60 neighbouring cells here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel
from streamcore.kernels.pairs import IntArray, PairIndex

_SMALL_CELLS = 1 << 16
_CELLS_PER_ENTRY = 16
"""A cell has 4 bytes, an entry of the hash table that would be used instead at least 48."""


class PairGrid:
    """The interface of `PairIndex`, as long as `reserve` says that the pairs fit.

    Every row of cells belongs to one `b` at a time: row b modulo the number of rows, which is a power of two.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._cells = np.full((1, 1), -1, np.int32)
        self._first = np.empty(capacity, np.int64)
        self._second = np.empty(capacity, np.int64)
        self._free = np.empty(capacity, np.int64)
        self._free_count = 0
        self._used = 0

    def __len__(self) -> int:
        return self._used - self._free_count

    @property
    def capacity(self) -> int:
        """Entry numbers are below it."""
        return len(self._first)

    def reserve(self, size: int, lowest: int, highest: int) -> bool:
        """Makes room for pairs with a < size and b in [lowest, highest], where all pairs are that there are; false
        where that would leave too many cells empty, and nothing is changed."""
        rows, width = self._cells.shape
        if size <= width and highest - lowest < rows:
            return True
        rows = max(rows, 1 << (highest - lowest).bit_length())
        width = max(width, 1 << (size - 1).bit_length())
        if rows * width > max(_SMALL_CELLS, _CELLS_PER_ENTRY * len(self)):
            return False
        entries = self._entries()
        self._cells = np.full((rows, width), -1, np.int32)
        _set(self._first[entries], self._second[entries], entries, self._cells)
        return True

    def hashed(self) -> PairIndex:
        """The same entries under the same numbers in a `PairIndex`."""
        return PairIndex.of(self._entries(), self._first, self._second, self._free[: self._free_count], self._used)

    def first(self, entries: IntArray) -> IntArray:
        """The `a` of each entry; int64 (n,)."""
        return self._first[entries]

    def second(self, entries: IntArray) -> IntArray:
        """The `b` of each entry; int64 (n,)."""
        return self._second[entries]

    def find(self, first: IntArray, second: IntArray) -> IntArray:
        """The entry of each pair, -1 where there is none; int64 (n,)."""
        found: IntArray = _find(first, second, self._cells, self._second)
        return found

    def find_or_add(self, first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
        """The entry of each pair, for which `reserve` has made room, and the entries that were added for it; int64
        (n,) and (m,)."""
        entries, added = np.empty(len(first), np.int64), np.empty(len(first), np.int64)
        done = count = 0
        while True:
            done, count, self._used, self._free_count = _find_or_add(
                first, second, done, entries, added, count,
                self._cells, self._first, self._second, self._free, self._free_count, self._used,
            )  # fmt: skip
            if done == len(first):
                return entries, added[:count]
            self._first, self._second, self._free = (
                np.concatenate([array, np.empty(len(array), np.int64)])
                for array in (self._first, self._second, self._free)
            )

    def remove(self, entries: IntArray) -> None:
        """Forgets entries; each must be there."""
        self._free_count = _remove(entries, self._first, self._second, self._cells, self._free, self._free_count)

    def replace_first(self, entries: IntArray, first: IntArray) -> None:
        """Gives all entries there are (`entries`, in any order) another `a`."""
        width = 1 << int(first.max(initial=0)).bit_length()
        self._cells = np.full((len(self._cells), width), -1, np.int32)
        self._first[entries] = first
        _set(first, self._second[entries], entries, self._cells)

    def _entries(self) -> IntArray:
        return self._cells[self._cells >= 0].astype(np.int64)


@kernel
def _set(first: Any, second: Any, values: Any, cells: Any) -> None:
    mask = len(cells) - 1
    for i in range(len(first)):
        cells[second[i] & mask, first[i]] = values[i]


@kernel
def _remove(entries: Any, firsts: Any, seconds: Any, cells: Any, free: Any, free_count: Any) -> Any:
    mask = len(cells) - 1
    for i in range(len(entries)):
        entry = entries[i]
        cells[seconds[entry] & mask, firsts[entry]] = -1
        free[free_count] = entry
        free_count += 1
    return free_count


@kernel
def _find(first: Any, second: Any, cells: Any, seconds: Any) -> Any:
    mask, width = cells.shape[0] - 1, cells.shape[1]
    found = np.full(len(first), -1, np.int64)
    for i in range(len(first)):
        if first[i] < width:
            entry = cells[second[i] & mask, first[i]]
            if entry >= 0 and seconds[entry] == second[i]:  # the row may be another's
                found[i] = entry
    return found


@kernel
def _find_or_add(
    first: Any, second: Any, start: Any, entries: Any, added: Any, count: Any,
    cells: Any, firsts: Any, seconds: Any, free: Any, free_count: Any, used: Any,
) -> Any:  # fmt: skip
    mask = cells.shape[0] - 1
    for i in range(start, len(first)):
        a, row = first[i], second[i] & mask
        entry = np.int64(cells[row, a])
        if entry < 0:
            if free_count > 0:
                free_count -= 1
                entry = free[free_count]
            elif used < len(firsts):
                entry = np.int64(used)
                used += 1
            else:
                return i, count, used, free_count
            cells[row, a] = entry
            firsts[entry] = a
            seconds[entry] = second[i]
            added[count] = entry
            count += 1
        entries[i] = entry
    return len(first), count, used, free_count
