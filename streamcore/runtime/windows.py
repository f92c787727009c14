"""Windows of event time, as arithmetic on milliseconds. Pure.

Window k of `size` every `every` is [offset + k * every, offset + k * every + size). Windows are cut into *slices* of
`gcd(size, every)`; slice n is [offset + n * slice, offset + (n + 1) * slice).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from streamcore.errors import TopologyError
from streamcore.time import MAX_TIME, MIN_TIME


@dataclass(frozen=True)
class Windows:
    """Windows of equal size at equal distances; milliseconds."""

    size_ms: int
    every_ms: int
    offset_ms: int = 0

    def __str__(self) -> str:
        return f"{self.size_ms} ms" if self.size_ms == self.every_ms else f"{self.size_ms} ms every {self.every_ms} ms"

    @property
    def slice_ms(self) -> int:
        """The length of a slice."""
        return math.gcd(self.size_ms, self.every_ms)

    def bounds(self, window: int) -> tuple[int, int]:
        """The start and the end (exclusive) of a window."""
        start = self.offset_ms + window * self.every_ms
        return start, start + self.size_ms

    def slices(self, window: int) -> range:
        """The slices of a window."""
        first = window * self.every_ms // self.slice_ms
        return range(first, first + self.size_ms // self.slice_ms)

    def end_of_slice(self, number: int) -> int:
        """The end (exclusive) of a slice."""
        return self.offset_ms + (number + 1) * self.slice_ms

    def windows_of(self, number: int) -> range:
        """The windows that contain a slice; none where windows lie apart and the slice between them."""
        start = number * self.slice_ms
        first = -((self.size_ms - start - self.slice_ms) // self.every_ms)
        return range(first, start // self.every_ms + 1)

    def first_live_slice(self, watermark: int) -> int:
        """The first slice that a window which is not over yet contains: a record of an earlier one is late."""
        if watermark in (MIN_TIME, MAX_TIME):
            return watermark
        window = (watermark + 1 - self.offset_ms - self.size_ms) // self.every_ms + 1
        return window * self.every_ms // self.slice_ms

    def due(self, before: int, watermark: int, slices: Iterable[int]) -> list[int]:
        """The windows with records that are over at `watermark` and were not at the watermark `before`, in order. A
        window is over when the watermark has reached its last millisecond."""
        found = {
            window
            for number in slices
            for window in self.windows_of(number)
            if before < self.bounds(window)[1] - 1 <= watermark
        }
        return sorted(found)


def tumbling(size: float, *, offset: float = 0.0) -> Windows:
    """Windows of `size` seconds side by side.

    Raises:
        TopologyError: the size is below a millisecond.

    Example:
        >>> from streamcore import seconds
        >>> tumbling(seconds(5)).bounds(1)
        (5000, 10000)
    """
    return sliding(size, every=size, offset=offset)


def sliding(size: float, *, every: float, offset: float = 0.0) -> Windows:
    """Windows of `size` seconds that begin `every` so many seconds.

    Raises:
        TopologyError: a length is below a millisecond.

    Example:
        >>> from streamcore import seconds
        >>> sliding(seconds(5), every=seconds(1)).slices(2)
        range(2, 7)
    """
    size_ms, every_ms, offset_ms = (round(length * 1000) for length in (size, every, offset))
    if size_ms < 1 or every_ms < 1:
        raise TopologyError(f"a window of {size} s every {every} s: the shortest is a millisecond")
    return Windows(size_ms, every_ms, offset_ms)
