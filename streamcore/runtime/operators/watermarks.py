"""Gives a stream event time in the middle of a topology."""

from __future__ import annotations

from typing import Any

from streamcore.batch import Batch
from streamcore.runtime.event_time import WatermarkStrategy
from streamcore.runtime.operator import Operator
from streamcore.time import MIN_TIME


class AssignWatermarks(Operator):
    """Follows the event times that come by; watermarks from before go no further."""

    def __init__(self, strategy: WatermarkStrategy) -> None:
        self._strategy = strategy
        self._latest = self._watermark = MIN_TIME

    def open(self) -> None:
        self._latest = min((part.state["latest"] for part in self.context.saved), default=MIN_TIME)

    def process(self, batch: Batch, port: int) -> None:
        latest = int(self._strategy.time.times(batch).max())
        self.output.emit(batch)
        self._latest = max(self._latest, latest)
        watermark = self._strategy.after(self._latest)
        if watermark > self._watermark:  # also at the first batch after a restore: nobody downstream knows it yet
            self._watermark = watermark
            self.output.emit_watermark(watermark)

    def advance(self, time_ms: int) -> None:
        pass

    def capture(self, checkpoint_id: int) -> Any:
        return {"latest": self._latest}
