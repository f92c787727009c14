"""The mean of every so many readings of a sensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import Context, DataStream, ProcessFunction, Schema, ValueState, col

MEANS = Schema.of(sensor=str, start=np.int64, end=np.int64, mean_fahrenheit=float)


def mean_of_each(stream: DataStream[Any], per: int) -> DataStream[Any]:
    """`sensor`, the times of the first and the last of `per` readings, and their `mean`; what is left at the end
    gives none."""
    means = stream.key_by("sensor").process(MeanOfEach(per), returns=MEANS).uid("by-count")
    return means.select("sensor", "start", "end", mean=col("mean_fahrenheit").round(6)).uid("by-count-rounded")


class MeanOfEach(ProcessFunction[Any, Any]):
    """Adds up readings until there are enough. Keyed by sensor."""

    def __init__(self, per: int) -> None:
        self._per = per

    def open(self, ctx: Context[Any]) -> None:
        self._sums = ctx.state(ValueState("sums", (0, 0.0, 0)))  # (readings, their sum, time of the first)

    def process(self, record: Any, ctx: Context[Any]) -> None:
        number, total, start = self._sums.get()
        number, total, start = number + 1, total + record.fahrenheit, start if number else record.time
        if number == self._per:
            ctx.emit((record.sensor, start, record.time, total / number))
            number, total = 0, 0.0
        self._sums.set((number, total, start))
