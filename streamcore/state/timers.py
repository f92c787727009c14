"""Timers: per key, at a time, each (time, key) once; part of the snapshot.

Timers of one time share an entry of the heap, so a million keys that wait for the end of one window cost one.
"""

from __future__ import annotations

import heapq
import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from streamcore.batch import plain
from streamcore.errors import TopologyError, UsageError
from streamcore.state.guarded_values import GuardedValues
from streamcore.state.timer_capture import TimerCapture

_SPARE_TIMES = 1024
_CHAIN = 1000


class TimerQueue:
    """Timers of one operator subtask, in milliseconds: of wall-clock time, or of event time.

    A timer belongs to a key. In a queue `with_windows` its key is a pair: the key whose group it moves with, and what
    it is for.
    """

    def __init__(self) -> None:
        self.with_windows = False
        self._heap: list[int] = []  # each time with timers, and some whose timers were cancelled
        self._all: dict[int, Any] = {}  # time → its only key, or a dict of keys in order, which no key can be
        self._times: dict[int, Any] | GuardedValues = self._all  # the same, while it is captured behind a guard
        self._capture: TimerCapture | None = None
        self._taken: dict[int, dict[Any, None]] = {}  # those that are about to fire, which may still be cancelled
        self._count = 0
        self._is_closed = False

    def __len__(self) -> int:
        return self._count

    @property
    def next_ms(self) -> int | None:
        """When the earliest timer is due."""
        heap, times = self._heap, self._times
        while heap:
            if heap[0] in times:
                return heap[0]
            heapq.heappop(heap)
        return None

    def register(self, time_ms: int, key: Any) -> None:
        """Sets a timer; setting it twice is setting it once. After `close` it is not set any more.

        Raises:
            UsageError: the time is no whole number.
        """
        if type(time_ms) is not int:  # NaN or None would be in no order with the others, which then don't fire
            time_ms = _whole(time_ms)
        if self._is_closed or (self._taken and key in self._taken.get(time_ms, ())):
            return
        times = self._times
        if time_ms not in times:
            times[time_ms] = key
            heapq.heappush(self._heap, time_ms)
            if len(self._heap) > 2 * len(times) + _SPARE_TIMES:
                self._heap = list(times)
                heapq.heapify(self._heap)
        else:
            keys = times[time_ms]
            if type(keys) is dict:
                if key in keys:
                    return
                keys[key] = None
            elif keys is key or keys == key:
                return
            else:
                times[time_ms] = {keys: None, key: None}
        self._count += 1

    def cancel(self, time_ms: int, key: Any) -> None:
        """Removes a timer, if it is set."""
        keys = self._times.get(time_ms, self)
        if type(keys) is dict:
            if key in keys:
                del keys[key]
                self._count -= 1
                if not keys:
                    del self._times[time_ms]
        elif keys is not self and (keys is key or keys == key):
            del self._times[time_ms]
            self._count -= 1
        if self._taken and key in (taken := self._taken.get(time_ms, {})):
            del taken[key]
            self._count -= 1

    def close(self) -> int | None:
        """Lets no timer be set any more; returns the time of the last one that is."""
        self._is_closed = True
        return max(self._times, default=None)

    def take_due(self, now_ms: int) -> Iterator[tuple[int, Any]]:
        """Takes the timers that are due now, earliest first, as (time, key): not those that are set meanwhile, nor
        those that are cancelled meanwhile."""
        due: list[int] = []
        while (next_ms := self.next_ms) is not None and next_ms <= now_ms:
            self._take(next_ms)
            due.append(next_ms)
        for time_ms in due:
            for key in self._rest_of(time_ms):
                yield time_ms, key
            del self._taken[time_ms]

    def take_until(self, time_ms: float) -> Iterator[tuple[int, Any]]:
        """Takes the timers up to a time in order, as (time, key), with those that are set meanwhile: one that is set
        for an earlier time comes before what is left of a later one."""
        going: list[tuple[int, Iterator[Any]]] = []  # the later a time, the further down
        while True:
            first = self.next_ms
            if first is not None and first <= time_ms and (not going or first < going[-1][0]):
                if type(self._times[first]) is not dict:
                    heapq.heappop(self._heap)
                    self._count -= 1
                    yield first, self._times.pop(first)
                    continue
                self._take(first)
                going.append((first, self._rest_of(first)))
            if not going:
                return
            now, rest = going[-1]
            key = next(rest, going)
            if key is going:
                del self._taken[now]
                going.pop()
            else:
                yield now, key

    def take_rest(self) -> Iterator[tuple[int, Any]]:
        """Takes all timers in order, with those that are set meanwhile: time has come to its end.

        Raises:
            TopologyError: timers set further timers without end.
        """
        allowed = _CHAIN * (1 + self._count)
        for timer in self.take_until(math.inf):
            yield timer
            allowed -= 1
            if allowed < 0:
                raise TopologyError(
                    f"at the end of input event timers go on setting timers, now for {timer[0]}",
                    hint="set none when ctx.watermark is MAX_TIME",
                )

    def _take(self, time_ms: int) -> None:
        heapq.heappop(self._heap)
        keys = self._times.pop(time_ms)
        self._taken[time_ms] = keys if type(keys) is dict else {keys: None}

    def _rest_of(self, time_ms: int) -> Iterator[Any]:
        taken = self._taken[time_ms]
        for key in list(taken):
            if key in taken:
                del taken[key]
                self._count -= 1
                yield key

    def capture(self, max_parallelism: int, *, allow_pickle: bool) -> TimerCapture:
        """Captures the timers as they are now."""
        if self._capture is not None:  # the one before was given up just now
            self._capture.abandon()
            self._capture.finish()
        self._capture = TimerCapture(
            self._all, max_parallelism, self._drain, with_windows=self.with_windows, allow_pickle=allow_pickle
        )
        self._times = self._capture.guard
        return self._capture

    def _drain(self) -> bool:
        assert self._capture is not None, "a capture ends that is not under way"
        if not self._capture.guard.drain():
            return False
        self._times, self._capture = self._all, None
        return True

    def restore(self, saved: dict[int, bytes], groups: range, *, allow_pickle: bool) -> None:
        """Adds the timers that belong to this subtask's key groups."""
        for group, body in saved.items():
            if group in groups:
                timers = plain.decode(body, allow_pickle=allow_pickle)
                if isinstance(timers, dict):  # before there were event timers, they were saved as pairs
                    timers = zip(*(_unpacked(timers[name]) for name in ("times", "keys")), strict=True)
                for time_ms, key in timers:
                    self.register(time_ms, key)


def _whole(time_ms: Any) -> int:
    try:
        return operator.index(time_ms)
    except TypeError:
        raise UsageError(
            f"a timer for {time_ms!r}", hint="a timer's time is whole milliseconds since 1970, an int"
        ) from None


def _unpacked(values: Any) -> list[Any]:
    items: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    return items
