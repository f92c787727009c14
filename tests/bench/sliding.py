"""What windows that overlap cost: 60 s every 1 s beside 60 s side by side, over the same records in the same process.

Records of 600 s of event time, up to 1 s out of order. The limit is the job with tumbling windows, so "of the limit" is
the inverse of what sliding windows cost in units of it. With many keys the results outnumber the records: there is one
for each key every second.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from streamcore import (
    Columns,
    Schema,
    StreamEnvironment,
    Windows,
    bounded_out_of_orderness,
    count,
    max_of,
    mean,
    seconds,
    sliding,
    tumbling,
)
from streamcore.connectors.generator_source import GeneratorSource
from tests.bench.workloads import Measured, TotalSink, _read_totals

TIMED = Schema.of(sensor=np.int64, time=np.int64, value=np.float64)
SPAN_MS = 600_000
LENGTH, EVERY = seconds(60), seconds(1)
_BLOCK = 1 << 20
_BLOCKS: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}


def timed_readings(keys: int, records: int, start: int, stop: int) -> Columns:
    """Records [start, stop) of `records` in 600 s of event time."""
    if keys not in _BLOCKS:
        chance = np.random.default_rng(1)
        _BLOCKS[keys] = (
            chance.integers(0, keys, _BLOCK), chance.normal(20, 5, _BLOCK), chance.integers(0, 1000, _BLOCK)
        )  # fmt: skip
    sensor, value, delay = _BLOCKS[keys]
    index = np.arange(start, stop)
    place = index % _BLOCK
    return Columns(
        TIMED, {"sensor": sensor[place], "time": index * SPAN_MS // records - delay[place], "value": value[place]}
    )


def sliding_cost(keys: int, records: int = 10_000_000) -> Measured:
    """Sliding windows against tumbling ones of the same length; best of two runs each, in turns."""
    turns = [(_run(keys, records, windows)) for windows in (tumbling(LENGTH), sliding(LENGTH, every=EVERY)) * 2]
    (plain_s, plain_rows, plain_total), (seconds_, rows, total) = min(turns[::2]), min(turns[1::2])
    cost = seconds_ / plain_s
    correct = plain_total == records and total == records * round(LENGTH / EVERY) and rows > plain_rows
    note = f"costs {cost:.2f} x tumbling; {rows / records:.3f} results a record, tumbling {plain_rows / records:.3f}"
    return Measured(records, seconds_, plain_s, correct, note, {"cost_of_tumbling": cost})


def _run(keys: int, records: int, windows: Windows) -> tuple[float, int, float]:
    """Seconds, number of results, and how many records they have together."""
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("sliding")
        source = GeneratorSource(partial(timed_readings, keys, records), count=records, schema=TIMED)
        stream = env.source(source, watermarks=bounded_out_of_orderness("time", EVERY)).key_by("sensor")
        results = stream.window(windows).aggregate(count(), mean("value"), max_of("value"))
        results.sink(TotalSink(f"{scratch}/t", "count"))
        started = time.perf_counter()
        env.execute()
        taken_s = time.perf_counter() - started
        return taken_s, *_read_totals(f"{scratch}/t")


def all_workloads() -> Iterator[tuple[str, int, Callable[[], Measured]]]:
    """(name, workers, run)."""
    yield "sliding 60 s / 1 s, 1,000 keys", 1, partial(sliding_cost, 1000)
    yield "sliding 60 s / 1 s, 20,000 keys: more results than records", 1, partial(sliding_cost, 20_000)
