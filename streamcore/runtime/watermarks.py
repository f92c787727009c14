"""Event time over several inputs - the channels of a subtask, the splits of a source - as in Apache Flink. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from streamcore.time import MIN_TIME

K = TypeVar("K", bound=Hashable)


class WatermarkMerge(Generic[K]):
    """The minimum over the inputs. One that has ended holds nothing back, an idle one neither, until it is heard from
    again; when all are idle, time goes on to the furthest of them and of those that have ended, so that it doesn't
    matter which was silent or over first. Time never goes back: an input that wakes up behind it holds it where it is
    until it has caught up.

    Feedback channels are not among the inputs, since a loop must not wait for itself.
    """

    def __init__(self, inputs: Mapping[K, int]) -> None:
        """`inputs`: how far each is known to have come."""
        self._times = dict(inputs)
        self._silent: set[K] = set()
        self._ended_ms = MIN_TIME
        self.current = min(self._times.values(), default=MIN_TIME)
        """The minimum."""
        self.idle = False
        """Whether there are inputs, and all of them are idle."""

    def add(self, key: K, time_ms: int) -> None:
        """There is one more input. Time stays where it is until that has caught up."""
        self._times[key] = time_ms
        self._moved()

    def advance(self, key: K, time_ms: int, *, idle: bool = False) -> int | None:
        """An input has come to a time, and is idle or not; the new minimum if that has moved."""
        if key not in self._times:
            return None
        if time_ms > self._times[key]:
            self._times[key] = time_ms
        elif idle == (key in self._silent):
            return None
        if idle:
            self._silent.add(key)
        else:
            self._silent.discard(key)
        return self._moved()

    def end(self, key: K) -> int | None:
        """An input has ended; the new minimum if that has moved. None after the last: what the end of all input
        completes, the operators emit when they finish."""
        self._ended_ms = max(self._ended_ms, self._times.pop(key, MIN_TIME))
        self._silent.discard(key)
        return self._moved()

    def _moved(self) -> int | None:
        if not self._times:
            return None
        self.idle = len(self._silent) == len(self._times)
        if self.idle:
            time_ms = max(self._ended_ms, *self._times.values())
        elif self._silent:
            time_ms = min(time for key, time in self._times.items() if key not in self._silent)
        else:
            time_ms = min(self._times.values())
        if time_ms <= self.current:
            return None
        self.current = time_ms
        return time_ms
