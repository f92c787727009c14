"""The kinds of windows that are not cut out of time at equal distances: sessions, global windows, windows by count.

What a window is, as plain data; `runtime.windows` has those at equal distances, and their arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamcore.errors import TopologyError
from streamcore.runtime.windows import LONGEST_MS
from streamcore.time import Duration


@dataclass(frozen=True)
class SessionWindows:
    """Windows that end when no record has come for `gap_ms`: each record opens [time, time + gap), and windows that
    overlap or touch become one (as in Apache Flink)."""

    gap_ms: int
    processing_time: bool = False

    def __str__(self) -> str:
        return f"session of {self.gap_ms} ms"


@dataclass(frozen=True)
class GlobalWindows:
    """One window for all records of a key, which ends with the input; a trigger may fire it before."""

    def __str__(self) -> str:
        return "global window"


@dataclass(frozen=True)
class CountWindows:
    """A window of the last `size` records of a key after every `every`-th record (as in Apache Flink: the first ones
    have fewer). With `size` records at a time, a rest at the end of input has no result."""

    size: int
    every: int

    @property
    def slices(self) -> int:
        """Of how many equal parts a window is made, so that every window begins and ends with one."""
        return self.size // math.gcd(self.size, self.every)

    def __str__(self) -> str:
        return f"{self.size} records" if self.size == self.every else f"{self.size} records every {self.every}"


def session(gap: Duration, *, processing_time: bool = False) -> SessionWindows:
    """Windows that end when a key has had no record for `gap` seconds.

    Args:
        processing_time: by the clock, when records come, instead of by event time.

    Raises:
        TopologyError: the gap is below a millisecond, or beyond all event times.

    Example:
        >>> from streamcore import seconds, session
        >>> str(session(seconds(5)))
        'session of 5000 ms'
    """
    if not math.isfinite(gap) or gap * 1000 > LONGEST_MS or round(gap * 1000) < 1:
        raise TopologyError(f"a session gap of {gap} s", hint=f"from a millisecond to {LONGEST_MS} ms")
    return SessionWindows(round(gap * 1000), processing_time)


def global_windows() -> GlobalWindows:
    """One window for all records of a key."""
    return GlobalWindows()


def count_windows(size: int, *, every: int | None = None) -> CountWindows:
    """Windows of `size` records of a key: side by side, or one after every `every` records.

    Raises:
        TopologyError: a number is below 1, or not whole.

    Example:
        >>> from streamcore import count_windows
        >>> str(count_windows(10)), str(count_windows(100, every=10))
        ('10 records', '100 records every 10')
    """
    every = size if every is None else every
    if not isinstance(size, int) or not isinstance(every, int) or min(size, every) < 1:
        raise TopologyError(f"windows of {size} records every {every}", hint="both are whole numbers from 1 on")
    return CountWindows(size, every)
