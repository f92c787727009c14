"""Folds over sliding windows of rows: a record is added once, to its slice, and windows merge their slices.

As `operators.window` does on columns. The state of a key is a value per slice; a key has a timer for the next of its
windows alone, which sets the one after it.
"""

from __future__ import annotations

import functools
from typing import Any

from streamcore.runtime.assigners import Window
from streamcore.runtime.operators.windowing import WindowInput, WindowOperator
from streamcore.runtime.row_results import FoldOfRecords
from streamcore.runtime.window_functions import Pane, WindowFunction
from streamcore.runtime.windows import Windows


class SlicedFold(WindowOperator):
    """Sliding windows of event time, which overlap, with a fold that merges."""

    def __init__(
        self, windows: Windows, fold: FoldOfRecords, function: WindowFunction[Any, Any, Any], source: WindowInput
    ) -> None:
        super().__init__(function, source)
        assert fold.merge is not None, "slices of a fold that doesn't merge"
        assert windows.every_ms < windows.size_ms, "slices of windows that don't overlap"
        self._windows = windows
        self._fold = fold
        self._merge = fold.merge
        self._lateness_ms = source.lateness_ms

    def _declare(self) -> None:
        self._table = self.context.store.table("slices")
        self._event_timers = self.context.store.event_timers

    def _add(self, key: Any, record: Any, time_ms: int) -> None:
        windows, watermark = self._windows, self._watermark
        number = windows.slice_of(time_ms)
        own = windows.windows_of(number)
        if self._last_ms(own[-1]) + self._lateness_ms <= watermark:
            self._late(record)
            return
        slices: dict[int, Any] | None = self._table.for_update(key)
        if slices is None:
            self._table.put(key, slices := {})
        if number in slices:
            slices[number] = self._fold.add(slices[number], record)
        else:
            slices[number] = self._fold.first(record)
            if self._lateness_ms:
                self._event_timers.register(self._last_ms(own[-1]) + self._lateness_ms, (key, None))
            if self._last_ms(own[-1]) > watermark:
                first = next(window for window in own if self._last_ms(window) > watermark)
                self._event_timers.register(self._last_ms(first), (key, first))
        if self._last_ms(own[0]) <= watermark:
            for window in own:
                if self._last_ms(window) <= watermark < self._last_ms(window) + self._lateness_ms:
                    self._fire(key, window, slices)

    def _on_event_timer(self, at_ms: int, key: Any, what: Any) -> None:
        slices: dict[int, Any] = self._table.for_update(key)
        if what is not None:
            self._fire(key, what, slices)
            later = [max(own.start, what + 1) for own in map(self._windows.windows_of, slices) if own[-1] > what]
            if later:
                self._event_timers.register(self._last_ms(min(later)), (key, min(later)))
        if what is None or not self._lateness_ms:
            for number in list(slices):
                if self._last_ms(self._windows.windows_of(number)[-1]) + self._lateness_ms <= at_ms:
                    del slices[number]
            if not slices:
                self._table.remove(key)

    def _end(self) -> None:
        self._table.clear()

    def _fire(self, key: Any, window: int, slices: dict[int, Any]) -> None:
        parts = [slices[number] for number in self._windows.slices(window) if number in slices]
        bounds = Window(*self._windows.bounds(window))
        self._ctx.at(key, bounds, Pane())
        self._function.process(key, bounds, [functools.reduce(self._merge, parts)], self._ctx)
        self._hand_on()

    def _last_ms(self, window: int) -> int:
        return self._windows.bounds(window)[1] - 1
