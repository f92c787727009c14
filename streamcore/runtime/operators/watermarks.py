"""Gives a stream event time in the middle of a topology."""

from __future__ import annotations

from typing import Any

from streamcore.batch import Batch
from streamcore.connectors.base import BadRecord
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.source import BAD_RECORDS
from streamcore.runtime.split_times import SplitTimes
from streamcore.runtime.watermark_strategy import WatermarkStrategy
from streamcore.time import MIN_TIME

_STREAM = "stream"


class AssignWatermarks(Operator):
    """Follows the event times that come by; watermarks from before, and who was idle there, go no further. To the
    rules of event time, what comes to one subtask is one split."""

    def __init__(self, strategy: WatermarkStrategy) -> None:
        self._strategy = strategy
        self._times = SplitTimes(strategy)
        self.watches_idleness = strategy.idle_after_s is not None
        self._told_ms = MIN_TIME
        self._told_idle = False

    def open(self) -> None:
        # the subtask that was furthest behind, since its records may come here now
        saved = [state["time"] for state in self.context.all_states()]
        self._times.begin({_STREAM: min(saved, key=lambda time: time[1], default=None)})
        self._where = f"subtask {self.context.subtask}"

    def process(self, batch: Batch, port: int) -> None:
        split, now_ms = self._times[_STREAM], self.context.clock.now_ms()
        checked = self._strategy.bad_times.check(self._strategy.time, batch, split.latest_ms, now_ms, self._where)
        if checked.bad_count:
            self.context.counters.bad_times += checked.bad_count
            self.output.emit_side(BAD_RECORDS, [BadRecord(text, why, self._where, "") for text, why in checked.bad])
        if not len(checked.times):
            return
        if split.idle:
            self._times.wake(_STREAM)
            self._tell()
        self.output.emit(checked.batch)
        self._times.observe(_STREAM, checked.batch, checked.times, checked.latest_ms)
        self._tell()

    def advance(self, time_ms: int) -> None:
        self._show()

    def set_idle(self, idle: bool) -> None:
        self._show()

    def check_idle(self) -> float | None:
        attention_s = self.context.attention.seconds
        self._times.nothing(_STREAM, attention_s)
        self._tell()
        return self._times.idle_in_s(attention_s)

    def capture(self, checkpoint_id: int) -> Any:
        return {"time": self._times[_STREAM].capture()}

    def _tell(self) -> None:
        times = self._times
        if self._told_idle and not times.idle:
            self._told_idle = False
            self.output.emit_idle(False)
        if times.watermark_ms > self._told_ms:  # also at the first batch after a restore: nobody knows it yet
            self._told_ms = times.watermark_ms
            self.output.emit_watermark(times.watermark_ms)
        if times.idle and not self._told_idle:
            self._told_idle = True
            self.output.emit_idle(True)
        self._show()

    def _show(self) -> None:
        """The time that counts in a chain is the one from here."""
        counters = self.context.counters
        counters.watermark_ms = self._told_ms if self._told_ms != MIN_TIME else None
        counters.time_idle = self._told_idle
