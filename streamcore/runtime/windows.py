"""Windows of event time, as arithmetic on milliseconds. Pure.

Window k of `size` every `every` is [offset + k * every, offset + k * every + size). Windows are cut into *slices* of
`gcd(size, every)`; slice n is [offset + n * slice, offset + (n + 1) * slice).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcore.errors import TopologyError
from streamcore.time import MAX_TIME, MIN_TIME

Slices = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of slices; int64 (n,)."""


@dataclass(frozen=True)
class Windows:
    """Windows of equal size at equal distances; milliseconds."""

    size_ms: int
    every_ms: int
    offset_ms: int = 0
    processing_time: bool = False

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

    def inside(self, slices: Slices) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Which slices belong to any window, bool (n,); None where all do, since windows don't lie apart."""
        if self.every_ms <= self.size_ms:
            return None
        found: np.ndarray[Any, np.dtype[np.bool_]] = (
            slices % (self.every_ms // self.slice_ms) < self.size_ms // self.slice_ms
        )
        return found

    def windows_of(self, number: int) -> range:
        """The windows that contain a slice; none where windows lie apart and the slice between them."""
        start = number * self.slice_ms
        first = -((self.size_ms - start - self.slice_ms) // self.every_ms)
        return range(first, start // self.every_ms + 1)

    def first_live_slice(self, watermark: int) -> int:
        """The first slice that a window which is not over yet contains: a record of an earlier one is late."""
        if watermark in (MIN_TIME, MAX_TIME):
            return watermark
        return self._first_live(watermark) * self.every_ms // self.slice_ms

    def due(self, before: int, watermark: int, slices: Iterable[int]) -> list[int]:
        """The windows with records that are over at `watermark` and were not at the watermark `before`, in order. A
        window is over when the watermark has reached its last millisecond."""
        first, stop = self._first_live(before), self._first_live(watermark)
        found: set[int] = set()
        if first < stop:
            for number in slices:
                windows = self.windows_of(number)
                found.update(range(max(windows.start, first), min(windows.stop, stop)))
        return sorted(found)

    def _first_live(self, watermark: int) -> int:
        return (watermark + 1 - self.offset_ms - self.size_ms) // self.every_ms + 1


def tumbling(size: float, *, offset: float = 0.0, processing_time: bool = False) -> Windows:
    """Windows of `size` seconds side by side.

    Args:
        processing_time: by the clock, when records come, instead of by event time.

    Raises:
        TopologyError: the size is below a millisecond, or a length is infinite.

    Example:
        >>> from streamcore import seconds
        >>> from streamcore import seconds, tumbling
        >>> tumbling(seconds(5)).bounds(1)
        (5000, 10000)
    """
    return sliding(size, every=size, offset=offset, processing_time=processing_time)


def sliding(size: float, *, every: float, offset: float = 0.0, processing_time: bool = False) -> Windows:
    """Windows of `size` seconds that begin `every` so many seconds.

    Args:
        processing_time: by the clock, when records come, instead of by event time.

    Raises:
        TopologyError: the size or the distance is below a millisecond, or a length is infinite.

    Example:
        >>> from streamcore import seconds
        >>> from streamcore import seconds, sliding
        >>> sliding(seconds(5), every=seconds(1)).slices(2)
        range(2, 7)
    """
    if not all(map(math.isfinite, (size, every, offset))) or min(round(size * 1000), round(every * 1000)) < 1:
        raise TopologyError(
            f"a window of {size} s every {every} s from {offset} s", hint="the shortest is a millisecond"
        )
    return Windows(round(size * 1000), round(every * 1000), round(offset * 1000), processing_time)
