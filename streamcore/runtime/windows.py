"""Windows of event time, as arithmetic on milliseconds. Pure.

Window k of `size` every `every` is [offset + k * every, offset + k * every + size). Time is cut into *slices* where
windows begin and where they end (Krishnamurthy et al. 2006, "On-the-fly sharing for streamed aggregation"): one slice
from each beginning to the next, or two where another window ends in between. So there are at most two slices for each
window, however odd the ratio of the lengths.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from streamcore.errors import TopologyError
from streamcore.kernels.slicing import slice_numbers
from streamcore.time import MAX_TIME, MIN_TIME

Slices = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of slices; int64 (n,)."""

Number = TypeVar("Number", int, Slices)

LONGEST_MS = 1 << 60
"""Beyond it, the bounds of windows would not fit 64 bits."""


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
    def overlap(self) -> bool:
        """Whether a record may belong to several windows."""
        return self.every_ms < self.size_ms

    def bounds(self, window: int) -> tuple[int, int]:
        """The start and the end (exclusive) of a window."""
        start = self.offset_ms + window * self.every_ms
        return start, start + self.size_ms

    def slices(self, window: int) -> range:
        """The slices of a window."""
        first = window * self._slices_per_start
        return range(first, first + self.slices_per_window)

    @cached_property
    def slices_per_window(self) -> int:
        """How many slices each window has."""
        return self.size_ms // self.every_ms * self._slices_per_start + (self._rest_ms > 0)

    def slices_of(self, times: Slices) -> Slices:
        """The slice of each event time; int64 (n,)."""
        slices: Slices = slice_numbers(times, self.offset_ms, self.every_ms, self._rest_ms)
        return slices

    def slice_of(self, time_ms: int) -> int:
        """The slice of one event time."""
        start, within = divmod(time_ms - self.offset_ms, self.every_ms)
        return start * self._slices_per_start + (0 < self._rest_ms <= within)

    def end_of_slice(self, number: int) -> int:
        """The end (exclusive) of a slice."""
        start, part = divmod(number, self._slices_per_start)
        ends_early = self._rest_ms and part == 0
        return self.offset_ms + start * self.every_ms + (self._rest_ms if ends_early else self.every_ms)

    def inside(self, slices: Slices) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Which slices belong to any window, bool (n,); None where all do, since windows don't lie apart."""
        return None if self.every_ms <= self.size_ms else slices % 2 == 0

    def windows_of(self, number: int) -> range:
        """The windows that contain a slice; none where windows lie apart and the slice between them."""
        return range(self.first_of(number), self.last_of(number) + 1)

    def first_of(self, number: Number) -> Number:
        """The first window that contains a slice, of one or of each (n,)."""
        return (number - self.slices_per_window) // self._slices_per_start + 1

    def last_of(self, number: Number) -> Number:
        """The last window that contains a slice, of one or of each (n,)."""
        return number // self._slices_per_start

    def first_open(self, watermark: int) -> int:
        """The first window that is not over: the watermark has not reached its last millisecond."""
        return (watermark + 1 - self.offset_ms - self.size_ms) // self.every_ms + 1

    def first_live_slice(self, watermark: int, lateness_ms: int = 0) -> int:
        """The first slice of the windows that take records still, which they do until the watermark is `lateness_ms`
        past their last millisecond: a record of an earlier one is late. Within int64."""
        return _int64(self.first_open(watermark - lateness_ms) * self._slices_per_start)

    def first_slice_ahead(self, watermark: int) -> int:
        """The first slice that only windows contain that are not over, as do all that follow. Within int64."""
        return _int64(self.slices(self.first_open(watermark) - 1).stop)

    def due(self, before: int, watermark: int, slices: Sequence[int]) -> list[int]:
        """The windows with records that are over at `watermark` and were not at the watermark `before`, in order.

        Args:
            slices: those with records, in order. What it costs depends on them, not on how much time has passed.
        """
        window, stop = self.first_open(before), self.first_open(watermark)
        found: list[int] = []
        while window < stop:
            place = bisect_left(slices, self.slices(window).start)
            if place == len(slices):
                break
            if slices[place] < self.slices(window).stop:
                found.append(window)
                window += 1
            else:
                window = max(self.windows_of(slices[place]).start, window + 1)
        return found

    @cached_property
    def _rest_ms(self) -> int:
        """How far behind the beginning of a window another one ends; 0 where that is where one begins."""
        return self.size_ms % self.every_ms

    @cached_property
    def _slices_per_start(self) -> int:
        return 2 if self._rest_ms else 1


def _int64(number: int) -> int:
    return max(MIN_TIME, min(number, MAX_TIME))


def tumbling(size: float, *, offset: float = 0.0, processing_time: bool = False) -> Windows:
    """Windows of `size` seconds side by side.

    Args:
        processing_time: by the clock, when records come, instead of by event time.

    Raises:
        TopologyError: the size is below a millisecond, or a length is infinite or beyond 2**60 ms.

    Example:
        >>> from streamcore import seconds, tumbling
        >>> tumbling(seconds(5)).bounds(1)
        (5000, 10000)
    """
    return sliding(size, every=size, offset=offset, processing_time=processing_time)


def sliding(size: float, *, every: float, offset: float = 0.0, processing_time: bool = False) -> Windows:
    """Windows of `size` seconds, one of which begins every `every` seconds. They overlap if `every` is below the size;
    above it, there are records that belong to none.

    Args:
        processing_time: by the clock, when records come, instead of by event time.

    Raises:
        TopologyError: the size or the distance is below a millisecond, or a length is infinite or beyond 2**60 ms.

    Example:
        >>> from streamcore import seconds, sliding
        >>> sliding(seconds(5), every=seconds(1)).slices(2)
        range(2, 7)
    """
    lengths = (size, every, offset)
    if not all(map(math.isfinite, lengths)) or round(min(size, every, 1.0) * 1000) < 1:
        raise TopologyError(
            f"a window of {size} s every {every} s from {offset} s", hint="the shortest is a millisecond"
        )
    if max(abs(length) * 1000 for length in lengths) > LONGEST_MS:
        raise TopologyError(
            f"a window of {size} s every {every} s from {offset} s",
            hint=f"the longest is {LONGEST_MS} ms; without an end: global_windows(), or aggregate without window",
        )
    return Windows(round(size * 1000), round(every * 1000), round(offset * 1000), processing_time)
