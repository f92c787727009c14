"""Window assigners: to which windows a record belongs, one record at a time.

The kinds of `runtime.windows` and `runtime.window_kinds` are plain data; here they become assigners, and users write
their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from streamcore.runtime.triggers import Trigger, at_window_end, count_trigger, purging
from streamcore.runtime.window_kinds import CountWindows, GlobalWindows, SessionWindows
from streamcore.runtime.windows import Windows
from streamcore.time import MAX_TIME, MIN_TIME

T = TypeVar("T")


class Window(NamedTuple):
    """A stretch of time: from `start_ms` up to, not including, `end_ms`."""

    start_ms: int
    end_ms: int

    @property
    def last_ms(self) -> int:
        """Its last millisecond: it is over when the watermark has come to it."""
        return self.end_ms - 1


GLOBAL = Window(MIN_TIME, MAX_TIME)
"""The window of all time, which ends with the input."""


class WindowAssigner(ABC, Generic[T]):
    """Windows of the user's own: derive from it, and give an instance to `window`.

    Attributes:
        processing_time: windows are of processing time: records belong to the moment at which they come.
        merging: windows of a key that overlap or touch become one, as those of sessions do.
        has_bounds: results say where their window begins and ends.
    """

    processing_time = False
    merging = False
    has_bounds = True

    @abstractmethod
    def assign(self, record: T, time_ms: int) -> Iterable[Window]:
        """The windows of a record with an event time (or, of processing time, that comes at `time_ms`)."""

    def default_trigger(self) -> Trigger[T]:
        """What fires the windows when the user gives no trigger."""
        return at_window_end()


class AlignedAssigner(WindowAssigner[Any]):
    """Tumbling and sliding windows."""

    def __init__(self, windows: Windows) -> None:
        self.processing_time = windows.processing_time
        self._size, self._every, self._offset = windows.size_ms, windows.every_ms, windows.offset_ms

    def assign(self, record: Any, time_ms: int) -> Iterable[Window]:
        size, every = self._size, self._every
        since = time_ms - self._offset
        last = time_ms - since % every
        if size == every:
            return (Window(last, last + size),)
        first = self._offset + ((since - size) // every + 1) * every
        return [Window(start, start + size) for start in range(first, last + 1, every)]


class SessionAssigner(WindowAssigner[Any]):
    """Sessions: every record opens [time, time + gap); windows that overlap or touch merge."""

    merging = True

    def __init__(self, windows: SessionWindows) -> None:
        self.processing_time = windows.processing_time
        self._gap = windows.gap_ms

    def assign(self, record: Any, time_ms: int) -> Iterable[Window]:
        return (Window(time_ms, time_ms + self._gap),)


class GlobalAssigner(WindowAssigner[Any]):
    """One window for all records of a key. Of count windows, it is what the trigger cuts."""

    has_bounds = False

    def __init__(self, windows: GlobalWindows | CountWindows) -> None:
        self._windows = windows

    def assign(self, record: Any, time_ms: int) -> Iterable[Window]:
        return (GLOBAL,)

    def default_trigger(self) -> Trigger[Any]:
        if isinstance(self._windows, GlobalWindows):
            return at_window_end()
        every = count_trigger(self._windows.every)
        return purging(every) if self._windows.size == self._windows.every else every


def assigner_of(windows: Windows | SessionWindows | GlobalWindows | CountWindows) -> WindowAssigner[Any]:
    """The assigner of one of the built-in kinds."""
    if isinstance(windows, Windows):
        return AlignedAssigner(windows)
    return SessionAssigner(windows) if isinstance(windows, SessionWindows) else GlobalAssigner(windows)
