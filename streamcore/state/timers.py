"""Timers: per key, at a time, each (time, key) once; part of the snapshot."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Any

from streamcore.batch import plain
from streamcore.state.key_groups import groups_of


class TimerQueue:
    """The processing-time timers of one operator subtask, in milliseconds of wall-clock time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Any]] = []
        self._known: set[tuple[int, Any]] = set()
        self._order = itertools.count()  # keys need not be comparable
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._known)

    @property
    def next_ms(self) -> int | None:
        """When the earliest timer is due."""
        while self._heap and (self._heap[0][0], self._heap[0][2]) not in self._known:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def register(self, time_ms: int, key: Any) -> None:
        """Sets a timer; setting it twice is setting it once. After the end of input it is not set any more."""
        if not self._is_closed and (time_ms, key) not in self._known:
            self._known.add((time_ms, key))
            heapq.heappush(self._heap, (time_ms, next(self._order), key))

    def cancel(self, time_ms: int, key: Any) -> None:
        """Removes a timer, if it is set."""
        self._known.discard((time_ms, key))

    def close(self) -> int | None:
        """Lets no timer be set any more; returns the time of the last one that is."""
        self._is_closed = True
        return max((time_ms for time_ms, _ in self._known), default=None)

    def take_due(self, now_ms: int) -> Iterator[tuple[int, Any]]:
        """Takes the timers that are due now, earliest first, as (time, key): not those that are set meanwhile, nor
        those that are cancelled meanwhile."""
        due: list[tuple[int, Any]] = []
        while (next_ms := self.next_ms) is not None and next_ms <= now_ms:
            time_ms, _, key = heapq.heappop(self._heap)
            due.append((time_ms, key))
        for timer in due:
            if timer in self._known:
                self._known.discard(timer)
                yield timer

    def capture(self, max_parallelism: int, *, allow_pickle: bool) -> dict[int, bytes]:
        """All timers, encoded by key group."""
        timers = sorted(self._known, key=lambda timer: timer[0])
        by_group: dict[int, list[tuple[int, Any]]] = {}
        for timer, group in zip(timers, groups_of([key for _, key in timers], max_parallelism).tolist(), strict=True):
            by_group.setdefault(group, []).append(timer)
        return {group: plain.encode(entries, allow_pickle=allow_pickle) for group, entries in by_group.items()}

    def restore(self, saved: dict[int, bytes], groups: range, *, allow_pickle: bool) -> None:
        """Adds the timers that belong to this subtask's key groups."""
        for group, body in saved.items():
            if group in groups:
                for time_ms, key in plain.decode(body, allow_pickle=allow_pickle):
                    self.register(time_ms, key)
