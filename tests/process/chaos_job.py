"""The topology that chaos is let loose on: a loop, a keyed aggregate, windows, file sinks.

State of every kind: values and counts of keys as objects, windows as tables, columnar sums.
"""

from typing import Any, NamedTuple

import numpy as np

from streamcore import (
    CoProcessFunction,
    OutputTag,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    milliseconds,
    sum_of,
    tumbling,
)
from streamcore.batch import Columns
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource

HOPS = 3
KEYS = 97
WINDOW_MS = 500
AGAIN = OutputTag("again")
READING = Schema.of(time=np.int64, key=np.int64, value=np.int64)


class Hop(CoProcessFunction):
    """Counts each (number, hop) and sends it round the loop until it has hopped enough."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        number, hop = record
        self._seen.set(self._seen.get() + 1)
        ctx.emit({"number": number, "hop": hop, "seen": self._seen.get()})
        if hop < HOPS:
            ctx.side_output(AGAIN, (number, hop + 1))

    process_second = process_first


def numbers(start: int, stop: int) -> list[tuple[int, int]]:
    return [(number, 0) for number in range(start, stop)]


def readings(start: int, stop: int) -> Columns:
    """A millisecond apart, up to 40 ms out of order."""
    index = np.arange(start, stop)
    return Columns(READING, {"time": index + index * 7 % 40, "key": index % KEYS, "value": index})


class Sum(NamedTuple):
    time: int
    key: int
    total: int


def running_sum(total: int, reading: Any) -> tuple[int, Sum]:
    return total + reading.value, Sum(reading.time, reading.key, total + reading.value)


def build(env: StreamEnvironment, *, records: int, rate: float, output: str) -> None:
    source = env.source(GeneratorSource(numbers, count=records, rate=rate, splits=2)).uid("numbers")
    with env.loop() as loop:
        hops = source.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hops")
        loop.close(hops.side_output(AGAIN))
    hops.sink(FileSink(f"{output}/hops", if_exists="replace")).uid("hops-sink")
    counts = hops.key_by(lambda r: r["number"] % KEYS).count(emit="final").uid("counts")
    named = counts.map(lambda pair: {"key": pair[0], "count": pair[1]})
    named.sink(FileSink(f"{output}/counts", if_exists="replace")).uid("counts-sink")
    timed = env.source(
        GeneratorSource(readings, count=records, rate=rate, splits=1, schema=READING),
        watermarks=bounded_out_of_orderness("time", milliseconds(50)),
    ).uid("readings")
    by_key = timed.key_by("key")
    windows = by_key.window(tumbling(milliseconds(WINDOW_MS))).aggregate(total=sum_of("value"))
    windows.uid("windows").sink(FileSink(f"{output}/windows", if_exists="replace")).uid("windows-sink")
    sums = by_key.scan(0, running_sum, returns=Sum, compiled=True).uid("sums")
    sums.sink(FileSink(f"{output}/sums", if_exists="replace")).uid("sums-sink")
