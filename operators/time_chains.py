"""An index of rows by slot and stretch of time: what lies between two times of one slot is found in a few steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import kernel
from streamcore.operators.joining import Rows

_SLOT, _TIME, _OLDER = 0, 1, 2


class TimeChains:
    """Rows, numbered from 0, in chains by slot and stretch. A stretch is at least as long as the spans that are asked
    for, so that a span touches two chains at most, however many rows of the slot lie before or after it.

    Args:
        span_ms: the length of the spans to look for.

    Example:
        >>> chains = TimeChains(span_ms=10)
        >>> chains.add(np.array([7, 8, 7]), np.array([100, 101, 104]))
        >>> places, rows = chains.between(np.array([7]), np.array([101]), np.array([111]))
        >>> places.tolist(), rows.tolist()
        ([0], [2])
    """

    def __init__(self, span_ms: int) -> None:
        self._bits = min(max(span_ms, 1).bit_length(), 62)
        self._heads = np.full(256, -1, np.int64)
        self._links = np.empty((256, 3), np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def slots(self) -> Rows:
        """The slot of each row, int64 (n,)."""
        return self._links[: self._size, _SLOT]

    @property
    def times(self) -> Rows:
        """The time of each row, int64 (n,)."""
        return self._links[: self._size, _TIME]

    def add(self, slots: Rows, times: Rows) -> None:
        """Adds rows behind the others; int64 (n,) each."""
        size = self._size + len(slots)
        if size > len(self._heads):
            capacity = 1 << size.bit_length()
            links = np.empty((capacity, 3), np.int64)
            links[: self._size] = self._links[: self._size]
            self._links, self._heads = links, np.full(capacity, -1, np.int64)
            _link(self._heads, links, 0, self._size, self._bits)
        _add(self._heads, self._links, self._size, slots, times, self._bits)
        self._size = size

    def replace(self, slots: Rows, times: Rows) -> None:
        """Forgets all rows and takes these."""
        capacity = max(256, 1 << len(slots).bit_length())
        self._heads, self._links, self._size = np.full(capacity, -1, np.int64), np.empty((capacity, 3), np.int64), 0
        self.add(slots, times)

    def between(self, slots: Rows, firsts: Rows, lasts: Rows) -> tuple[Rows, Rows]:
        """The rows of each slot with times from `firsts` to `lasts`, both included; int64 (n,) each, and no span
        longer than `span_ms`. For each row found the place in `slots` of who asked, in order, and its number."""
        return _between(self._heads, self._links, slots, firsts, lasts, self._bits)


@kernel
def _head(slot: Any, stretch: Any, mask: Any) -> Any:
    mixed = np.uint64(slot) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stretch) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return np.int64((mixed >> np.uint64(24)) & mask)


@kernel
def _link(heads: Any, links: Any, start: Any, stop: Any, bits: Any) -> None:
    mask = np.uint64(len(heads) - 1)
    for row in range(start, stop):
        head = _head(links[row, 0], links[row, 1] >> bits, mask)
        links[row, 2] = heads[head]
        heads[head] = row


@kernel
def _add(heads: Any, links: Any, size: Any, slots: Any, times: Any, bits: Any) -> None:
    for place in range(len(slots)):
        links[size + place, 0] = slots[place]
        links[size + place, 1] = times[place]
    _link(heads, links, size, size + len(slots), bits)


@kernel
def _between(heads: Any, links: Any, slots: Any, firsts: Any, lasts: Any, bits: Any) -> tuple[Rows, Rows]:
    mask = np.uint64(len(heads) - 1)
    places, rows = np.empty(len(slots) + 16, np.int64), np.empty(len(slots) + 16, np.int64)
    count = 0
    for place in range(len(slots)):
        slot, first, last = slots[place], firsts[place], lasts[place]
        for stretch in range(first >> bits, (last >> bits) + 1):
            row = heads[_head(slot, stretch, mask)]
            while row >= 0:
                time = links[row, 1]
                # another stretch may share the head, and would then give the row a second time
                if links[row, 0] == slot and first <= time <= last and time >> bits == stretch:
                    if count == len(rows):
                        places = np.concatenate((places, np.empty(count, np.int64)))
                        rows = np.concatenate((rows, np.empty(count, np.int64)))
                    places[count] = place
                    rows[count] = row
                    count += 1
                row = links[row, 2]
    return places[:count], rows[:count]
