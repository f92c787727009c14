"""Durations as users write them, and the clock that the runtime is given.

Durations are `float` seconds inside the engine (`*_s`), event times `int` milliseconds. `Clock` reads
the running event loop, so that a simulated loop with virtual time (`streamcore.testing`) moves every
timer, pause and time-out of a job without anybody being told.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import NewType

from streamcore.errors import UsageError

Duration = NewType("Duration", float)
"""A length of time in seconds."""

MIN_TIME = -(1 << 63)
"""Before all event time: the watermark of a stream that has had none."""

MAX_TIME = (1 << 63) - 1
"""After all event time: the watermark at the end of input."""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def milliseconds(value: float) -> Duration:
    """`value` milliseconds."""
    return Duration(value / 1000)


def seconds(value: float) -> Duration:
    """`value` seconds."""
    return Duration(float(value))


def minutes(value: float) -> Duration:
    """`value` minutes."""
    return Duration(value * 60.0)


def hours(value: float) -> Duration:
    """`value` hours."""
    return Duration(value * 3600.0)


def days(value: float) -> Duration:
    """`value` days of 24 hours."""
    return Duration(value * 86_400.0)


def parse_duration(text: str) -> Duration:
    """Reads `5ms`, `1s`, `1.5 min`; `0` needs no unit.

    Raises:
        UsageError: the text is no duration.
    """
    if text.strip() == "0":
        return Duration(0.0)
    match = _PATTERN.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{text!r} is not a duration", hint="write a number and a unit: 5ms, 1s, 2min, 1h")
    return Duration(float(match[1]) * _UNITS[match[2]])


class Clock:
    """Time as the runtime sees it; virtual when the event loop's time is."""

    def monotonic(self) -> float:
        """Seconds of the running loop's clock; only differences mean anything."""
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        """Wall-clock time in seconds since the epoch, for latencies between processes."""
        return time.time()

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch, for timers and labels."""
        return time.time_ns() // 1_000_000

    async def sleep(self, duration_s: float) -> None:
        """Waits for `duration_s` seconds of the loop's time."""
        await asyncio.sleep(duration_s)
