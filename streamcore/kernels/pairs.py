"""A compiled index of pairs of integers that forgets: (a, b) → entry number, with removal.

Open addressing with linear probing; removing an entry moves its followers up (backward shift), so that there
are no tombstones and a long-lived index stays as fast as a new one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel
from streamcore.kernels.hashing import _mix_one

IntArray = np.ndarray[Any, np.dtype[np.int64]]


class PairIndex:
    """Entries are numbered from 0; numbers of removed entries are given out again."""

    def __init__(self, capacity: int = 256) -> None:
        self._table = np.full(capacity, -1, np.int64)
        self._first = np.empty(capacity, np.int64)
        self._second = np.empty(capacity, np.int64)
        self._free = np.empty(capacity, np.int64)
        self._free_count = 0
        self._used = 0

    @staticmethod
    def of(entries: IntArray, first: IntArray, second: IntArray, free: IntArray, used: int) -> PairIndex:
        """An index of entries that have numbers already.

        Args:
            entries: the numbers (n,).
            first, second: `a` and `b` by entry number; their length is a power of two.
            free: the numbers below `used` that are no entry's.
        """
        index = PairIndex(2 * len(first))
        index._first[: len(first)], index._second[: len(first)] = first, second
        index._free[: len(free)] = free
        index._free_count, index._used = len(free), used
        _insert_all(entries, index._table, index._first, index._second)
        return index

    def __len__(self) -> int:
        return self._used - self._free_count

    @property
    def capacity(self) -> int:
        """Entry numbers are below it."""
        return len(self._first)

    def first(self, entries: IntArray) -> IntArray:
        """The `a` of each entry; int64 (n,)."""
        return self._first[entries]

    def second(self, entries: IntArray) -> IntArray:
        """The `b` of each entry; int64 (n,)."""
        return self._second[entries]

    def find(self, first: IntArray, second: IntArray) -> IntArray:
        """The entry of each pair, -1 where there is none; int64 (n,)."""
        found: IntArray = _find(first, second, self._table, self._first, self._second)
        return found

    def find_or_add(self, first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
        """The entry of each pair, and the entries that were added for it; int64 (n,) and (m,)."""
        entries, added = np.empty(len(first), np.int64), np.empty(len(first), np.int64)
        done = count = 0
        while True:
            done, count, self._used, self._free_count = _find_or_add(
                first, second, done, entries, added, count,
                self._table, self._first, self._second, self._free, self._free_count, self._used,
            )  # fmt: skip
            if done == len(first):
                return entries, added[:count]
            self._grow()

    def remove(self, entries: IntArray) -> None:
        """Forgets entries; each must be there."""
        _remove(entries, self._table, self._first, self._second)
        self._free[self._free_count : self._free_count + len(entries)] = entries
        self._free_count += len(entries)

    def replace_first(self, entries: IntArray, first: IntArray) -> None:
        """Gives all entries there are (`entries`, in any order) another `a`."""
        self._first[entries] = first
        self._table.fill(-1)
        _insert_all(entries, self._table, self._first, self._second)

    def _grow(self) -> None:
        live = self._table[self._table >= 0]
        size = 2 * len(self._table)
        self._first, self._second, self._free = (
            np.concatenate([array, np.empty(size - len(array), np.int64)])
            for array in (self._first, self._second, self._free)
        )
        self._table = np.full(size, -1, np.int64)
        _insert_all(live, self._table, self._first, self._second)


class SingleSlice:
    """The same interface where `b` is always 0 and `a` is dense: an entry's number is its `a`, and nothing is looked
    up."""

    def __init__(self, capacity: int = 256) -> None:
        self._present = np.zeros(capacity, np.bool_)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def capacity(self) -> int:
        """Entry numbers are below it."""
        return len(self._present)

    def first(self, entries: IntArray) -> IntArray:
        """The `a` of each entry; int64 (n,)."""
        return entries

    def second(self, entries: IntArray) -> IntArray:
        """The `b` of each entry; int64 (n,), all 0."""
        return np.zeros(len(entries), np.int64)

    def find_or_add(self, first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
        """The entry of each pair, and the entries that were added for it; int64 (n,) and (m,)."""
        highest = int(first.max(initial=-1))
        if highest >= len(self._present):
            grown = np.zeros(max(2 * len(self._present), highest + 1), np.bool_)
            grown[: len(self._present)] = self._present
            self._present = grown
        added = np.empty(len(first), np.int64)
        count = _mark(first, self._present, added)
        self._count += count
        return first, added[:count]

    def remove(self, entries: IntArray) -> None:
        """Forgets entries; each must be there."""
        self._present[entries] = False
        self._count -= len(entries)

    def replace_first(self, entries: IntArray, first: IntArray) -> None:
        """Gives all entries there are another `a`; there must be none, since numbers can't change."""
        assert not len(entries), "entries of a single slice can't be renumbered"


@kernel
def _mark(numbers: Any, present: Any, added: Any) -> Any:
    count = 0
    for i in range(len(numbers)):
        if not present[numbers[i]]:
            present[numbers[i]] = True
            added[count] = numbers[i]
            count += 1
    return count


@kernel
def _place(a: Any, b: Any, mask: Any) -> Any:
    return (_mix_one(np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)) >> np.uint64(17)) & mask


@kernel
def _find(first: Any, second: Any, table: Any, firsts: Any, seconds: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    found = np.empty(len(first), np.int64)
    for i in range(len(first)):
        place = _place(first[i], second[i], mask)
        while True:
            entry = table[place]
            if entry < 0 or (firsts[entry] == first[i] and seconds[entry] == second[i]):
                break
            place = (place + np.uint64(1)) & mask
        found[i] = entry
    return found


@kernel
def _find_or_add(
    first: Any, second: Any, start: Any, entries: Any, added: Any, count: Any,
    table: Any, firsts: Any, seconds: Any, free: Any, free_count: Any, used: Any,
) -> Any:  # fmt: skip
    mask = np.uint64(len(table) - 1)
    limit = len(table) // 2
    for i in range(start, len(first)):
        a, b = first[i], second[i]
        place = _place(a, b, mask)
        while True:
            entry = table[place]
            if entry < 0:
                if used - free_count >= limit:
                    return i, count, used, free_count
                if free_count > 0:
                    free_count -= 1
                    entry = free[free_count]
                else:
                    entry = used
                    used += 1
                table[place] = entry
                firsts[entry] = a
                seconds[entry] = b
                added[count] = entry
                count += 1
                break
            if firsts[entry] == a and seconds[entry] == b:
                break
            place = (place + np.uint64(1)) & mask
        entries[i] = entry
    return len(first), count, used, free_count


@kernel
def _remove(entries: Any, table: Any, firsts: Any, seconds: Any) -> None:
    mask = np.uint64(len(table) - 1)
    one = np.uint64(1)
    for i in range(len(entries)):
        hole = _place(firsts[entries[i]], seconds[entries[i]], mask)
        while table[hole] != entries[i]:
            hole = (hole + one) & mask
        place = hole
        while True:
            place = (place + one) & mask
            follower = table[place]
            if follower < 0:
                break
            home = _place(firsts[follower], seconds[follower], mask)
            if ((place - home) & mask) >= ((place - hole) & mask):  # it may sit in the hole
                table[hole] = follower
                hole = place
        table[hole] = -1


@kernel
def _insert_all(entries: Any, table: Any, firsts: Any, seconds: Any) -> None:
    mask = np.uint64(len(table) - 1)
    for i in range(len(entries)):
        place = _place(firsts[entries[i]], seconds[entries[i]], mask)
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = entries[i]
