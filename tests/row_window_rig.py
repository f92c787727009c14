"""Drives the operator of a stream by hand - records, watermarks, the clock, snapshots - and the rules of windows,
written down once more in the plainest way."""

from __future__ import annotations

from collections import defaultdict

from streamcore.runtime.counters import Counters
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.key_groups import group_range
from streamcore.state.store import KeyedStore
from streamcore.time import MAX_TIME, MIN_TIME, Clock
from tests.saved_state import saved_store

GROUPS = 16


class HandClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, now):
        self.now = now

    def now_ms(self):
        return self.now


class Rig:
    """One subtask of the operator that made `stream`. What comes out lies in `out`, and in `side` by tag."""

    def __init__(self, stream, saved=(), *, now=0, subtask=0, parallelism=1):
        self.out, self.side, self.counters, self.clock = [], defaultdict(list), Counters(), HandClock(now)
        self.operator = stream._node.make()
        self.store = KeyedStore(
            GROUPS, group_range(subtask, parallelism, GROUPS), [keyed for keyed, _ in saved], allow_pickle=False
        )
        context = OperatorContext(
            name="operator", subtask=subtask, parallelism=parallelism, max_parallelism=GROUPS, epoch=1,
            store=self.store, saved=[SavedOperator(i, len(saved), own) for i, (_, own) in enumerate(saved) if own],
            clock=self.clock, wakeup=Wakeup(), counters=self.counters,
        )  # fmt: skip
        output = Output(main=[self.out.extend], watermarks=[self.out.append])
        for tag in stream._node.sides:
            output.side[tag] = [self.side[tag].extend]
        self.operator.setup(context, output)
        self.operator.open()

    def feed(self, *records):
        self.operator.process(list(records), 0)
        return self

    def advance(self, *times):
        for time_ms in times:
            self.operator.advance(time_ms)
        return self

    def tick(self, now):
        """Moves the clock; timers that are due fire."""
        self.clock.now = now
        self.operator.fire_timers(now)
        return self

    def finish(self):
        """As a chain ends its operators."""
        last = self.store.timers.close()
        if last is not None:
            self.operator.fire_timers(last)
        self.operator.finish()
        return self

    def taken(self):
        """What came out since the last time."""
        out, self.out[:] = list(self.out), []
        return out

    def saved(self):
        return saved_store(self.store), self.operator.capture(1)


class ModelWindows:
    """Windows as Flink's documentation has them. Records are (key, time, value); a firing is (key, start, end, sorted
    values).

    `assign` gives the (start, end) pairs of a time, or is the gap of sessions.
    """

    def __init__(self, assign, lateness=0):
        self.assign, self.lateness, self.watermark = assign, lateness, MIN_TIME
        self.open, self.late = {}, []

    def _is_over(self, end):
        return end - 1 + self.lateness <= self.watermark

    def record(self, key, time, value):
        """What the record makes fire."""
        fired = []
        if isinstance(self.assign, int):
            places = self._session(key, time)
        else:
            places = [(key, start, end) for start, end in self.assign(time) if not self._is_over(end)]
            if not places and time + self.lateness <= self.watermark:
                self.late.append((key, time, value))
        for place in places:
            self.open.setdefault(place, []).append(value)
            if place[2] - 1 <= self.watermark:
                fired.append((*place, sorted(self.open[place])))
        return fired

    def _session(self, key, time):
        start, end, values = time, time + self.assign, []
        touching = [place for place in self.open if place[0] == key and place[1] <= end and place[2] >= start]
        start, end = min([start, *(p[1] for p in touching)]), max([end, *(p[2] for p in touching)])
        if self._is_over(end):
            self.late.append((key, time, None))
            return []
        for place in touching:
            values += self.open.pop(place)
        if values:
            self.open[key, start, end] = values
        return [(key, start, end)]

    def advance(self, watermark):
        """What the watermark makes fire."""
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        places = [place for place in self.open if before < place[2] - 1 <= self.watermark]
        fired = [(*place, sorted(self.open[place])) for place in sorted(places, key=lambda place: place[1:])]
        self.open = {place: values for place, values in self.open.items() if not self._is_over(place[2])}
        return fired

    def finish(self):
        return self.advance(MAX_TIME)


def every_window(size, every, offset):
    """Finds windows by going through all there could be."""

    def assign(time):
        first = (time - offset - size) // every - 1
        starts = [offset + k * every for k in range(first, first + size // every + 5)]
        return [(start, start + size) for start in starts if start <= time < start + size]

    return assign
