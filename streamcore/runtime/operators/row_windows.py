"""Windows over rows: any assigner, trigger, evictor and function, by the rules of Apache Flink's WindowOperator.

A record goes into each of its windows that isn't over: one is over when the watermark has come to its last millisecond
and the allowed lateness is past. The trigger then says whether the window fires. A record all of whose windows are over
is late. Windows that merge are joined when a record touches them, with their state; their timers are removed.
"""

from __future__ import annotations

from typing import Any

from streamcore.runtime.assigners import Window, WindowAssigner
from streamcore.runtime.evictors import Evictor, TimedRecord
from streamcore.runtime.operators.windowing import WindowInput, WindowOperator
from streamcore.runtime.row_results import FoldOfRecords
from streamcore.runtime.triggers import Trigger, TriggerContext, TriggerResult
from streamcore.runtime.window_functions import Pane, WindowFunction
from streamcore.state.store import KeyedStore
from streamcore.time import MAX_TIME, MIN_TIME, Clock

Panes = dict[Window, Pane]


class RowWindows(WindowOperator):
    """Any windows."""

    def __init__(
        self,
        assigner: WindowAssigner[Any],
        trigger: Trigger[Any],
        evictor: Evictor[Any] | None,
        fold: FoldOfRecords | None,
        function: WindowFunction[Any, Any, Any],
        source: WindowInput,
    ) -> None:
        super().__init__(function, source)
        self._assigner = assigner
        self._trigger = trigger
        self._evictor = evictor
        self._fold = fold
        self._by_clock = assigner.processing_time

    def _declare(self) -> None:
        store, lateness_ms = self.context.store, self._source.lateness_ms
        self._table = store.table("windows")
        self._at = AtHand(store, self.context.clock, processing_time=self._by_clock, lateness_ms=lateness_ms)

    def fire_timers(self, now_ms: int) -> None:
        for at_ms, (key, window) in self.context.store.timers.take_due(now_ms):
            if (pane := self._pane(key, window)) is not None:
                self.context.store.touch((key,))
                self._at.move(key, window, pane)
                self._act(self._trigger.on_processing_time(at_ms, window, self._at))
                if self._by_clock and at_ms == window.last_ms:
                    self._forget(key, window)
        self._ctx.flush()

    def _set_time(self, watermark: int) -> None:
        super()._set_time(watermark)
        self._at.watermark = watermark

    def _add(self, key: Any, record: Any, time_ms: int) -> None:
        panes: Panes = self._table.for_update(key, {})
        is_in_time = False
        for assigned in self._assigner.assign(record, time_ms):
            window = self._merged(key, panes, assigned) if self._assigner.merging else assigned
            if not self._by_clock and self._at.end_of_life(window) <= self._watermark:
                continue
            is_in_time = True
            if (pane := panes.get(window)) is None:
                pane = panes[window] = Pane()
                self._table.put(key, panes)
                self._at.move(key, window, pane)
                self._at.set_end_of_life()
            else:
                self._at.move(key, window, pane)
            self._hold(pane, record, time_ms)
            self._act(self._trigger.on_record(record, time_ms, window, self._at))
        if not is_in_time and not self._by_clock and time_ms + self._source.lateness_ms <= self._watermark:
            self._late(record)

    def _end(self) -> None:
        for key in self._table.all_keys():
            self.context.store.touch((key,))
            for window in list(self._table.for_update(key)):
                self._forget(key, window)

    def _pane(self, key: Any, window: Window) -> Pane | None:
        panes: Panes = self._table.for_update(key, {})
        return panes.get(window)

    def _hold(self, pane: Pane, record: Any, time_ms: int) -> None:
        if self._evictor is not None:
            pane.held.append(TimedRecord(record, time_ms))
        elif self._fold is None:
            pane.held.append(record)
        elif pane.held:
            pane.held[0] = self._fold.add(pane.held[0], record)
        else:
            pane.held.append(self._fold.first(record))

    def _merged(self, key: Any, panes: Panes, new: Window) -> Window:
        """The window that a new one is part of; joins those that it touches."""
        touching = sorted(window for window in panes if window.start_ms <= new.end_ms and window.end_ms >= new.start_ms)
        if not touching:
            return new
        whole = Window(min(new.start_ms, touching[0].start_ms), max(window.end_ms for window in (new, *touching)))
        if touching == [whole]:
            return whole
        parts = [panes.pop(window) for window in touching]
        panes[whole] = pane = Pane(self._joined(parts), None, _joined_states(parts))
        self._at.move(key, whole, pane)
        self._at.set_end_of_life()
        self._at.parts = parts
        self._trigger.on_merge(whole, self._at)
        self._at.parts = []
        for window, part in zip(touching, parts, strict=True):
            self._at.move(key, window, part)
            self._trigger.clear(window, self._at)
            self._at.remove_end_of_life()
        return whole

    def _joined(self, parts: list[Pane]) -> list[Any]:
        held = [value for part in parts for value in part.held]
        if self._fold is None or self._evictor is not None or len(held) < 2:
            return held
        assert self._fold.merge is not None, "windows merge, and their fold doesn't"
        value = held[0]
        for other in held[1:]:
            value = self._fold.merge(value, other)
        return [value]

    def _on_event_timer(self, at_ms: int, key: Any, what: Any) -> None:
        window: Window = what
        if (pane := self._pane(key, window)) is not None:
            self._at.move(key, window, pane)
            self._act(self._trigger.on_event_time(at_ms, window, self._at))
            if not self._by_clock and at_ms == self._at.end_of_life(window):
                self._forget(key, window)

    def _act(self, result: TriggerResult) -> None:
        """What the trigger says of the window at hand."""
        at = self._at
        if result.fires and at.pane.held:
            self._fire(at.key, at.window, at.pane)
        if result.purges:
            at.pane.held = []

    def _fire(self, key: Any, window: Window, pane: Pane) -> None:
        ctx = self._ctx
        ctx.at(key, window if self._assigner.has_bounds else None, pane)
        if self._evictor is None:
            self._function.process(key, window, pane.held if self._fold is not None else list(pane.held), ctx)
        else:
            left = self._evictor.before(pane.held, window)
            if left:
                records = [timed.record for timed in left]
                self._function.process(key, window, [self._fold.of(records)] if self._fold else records, ctx)
            pane.held = list(self._evictor.after(left, window))
        self._hand_on()

    def _forget(self, key: Any, window: Window) -> None:
        panes: Panes = self._table.for_update(key)
        pane = panes[window]
        self._ctx.at(key, window if self._assigner.has_bounds else None, pane)
        self._function.clear(window, self._ctx)
        self._at.move(key, window, pane)
        self._trigger.clear(window, self._at)
        del panes[window]
        if not panes:
            self._table.remove(key)


class AtHand(TriggerContext):
    """The window at hand, to its trigger.

    Attributes:
        parts: while windows merge, what they were.
    """

    pane: Pane
    window: Window

    def __init__(self, store: KeyedStore, clock: Clock, *, processing_time: bool, lateness_ms: int) -> None:
        self._current = store.current
        self._timers = store.timers
        self._event_timers = store.event_timers
        self._clock = clock
        self._lateness_ms = lateness_ms
        self.processing_time = processing_time
        self.watermark = MIN_TIME
        self.parts: list[Pane] = []

    def move(self, key: Any, window: Window, pane: Pane) -> None:
        """Goes to another window."""
        self._current.key = self.key = key
        self.window = window
        self.pane = pane

    def end_of_life(self, window: Window) -> int:
        """When a window's state goes, in its own time."""
        return min(window.last_ms + self._lateness_ms, MAX_TIME)

    def set_end_of_life(self) -> None:
        """Lets the window at hand go in its time; one of all time goes at the end of input without that."""
        if self.window.end_ms < MAX_TIME:
            timers = self._timers if self.processing_time else self._event_timers
            timers.register(self.end_of_life(self.window), (self.key, self.window))

    def remove_end_of_life(self) -> None:
        """The window at hand has gone."""
        timers = self._timers if self.processing_time else self._event_timers
        timers.cancel(self.end_of_life(self.window), (self.key, self.window))

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def register_event_timer(self, time_ms: int) -> None:
        if self.watermark == MAX_TIME and self.window.end_ms == MAX_TIME:
            return  # all time is over, and so is the window of all time
        self._event_timers.register(time_ms, (self.key, self.window))

    def cancel_event_timer(self, time_ms: int) -> None:
        if self.processing_time or time_ms != self.end_of_life(self.window):
            self._event_timers.cancel(time_ms, (self.key, self.window))

    def register_timer(self, time_ms: int) -> None:
        self._timers.register(time_ms, (self.key, self.window))

    def cancel_timer(self, time_ms: int) -> None:
        if not self.processing_time or time_ms != self.end_of_life(self.window):
            self._timers.cancel(time_ms, (self.key, self.window))

    def get(self, name: str, default: Any = None) -> Any:
        return default if self.pane.trigger is None else self.pane.trigger.get(name, default)

    def set(self, name: str, value: Any) -> None:
        if self.pane.trigger is None:
            self.pane.trigger = {}
        if value is None:
            self.pane.trigger.pop(name, None)
        else:
            self.pane.trigger[name] = value

    def merged(self, name: str) -> list[Any]:
        return [part.trigger[name] for part in self.parts if part.trigger is not None and name in part.trigger]


def _joined_states(parts: list[Pane]) -> dict[str, Any] | None:
    states = {name: value for part in parts for name, value in (part.state or {}).items()}
    return states or None
