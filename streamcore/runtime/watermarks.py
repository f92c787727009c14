"""The watermark of a subtask: the minimum over its inputs (as in Apache Flink). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from streamcore.time import MIN_TIME


class WatermarkMerge:
    """Event time over several channels. A channel that has ended holds nothing back; feedback channels are not
    among them, since a loop must not wait for itself."""

    def __init__(self, channels: Iterable[int]) -> None:
        self._times = dict.fromkeys(channels, MIN_TIME)
        self._current = MIN_TIME

    def advance(self, channel: int, time_ms: int) -> int | None:
        """A watermark has come on a channel; the new minimum if that has moved."""
        if channel in self._times and time_ms > self._times[channel]:
            self._times[channel] = time_ms
            return self._moved()
        return None

    def end(self, channel: int) -> int | None:
        """A channel has ended; the new minimum if that has moved. None after the last: what the end of all input
        completes, the operators emit when they finish."""
        self._times.pop(channel, None)
        return self._moved()

    def _moved(self) -> int | None:
        lowest = min(self._times.values(), default=self._current)
        if lowest <= self._current:
            return None
        self._current = lowest
        return lowest
