"""A small stateful job over records that carry the moment at which they were due, and what it took them to get through.

A record counts from when it was *due*, not from when it was made, so a stall counts against every record that it held
up (no coordinated omission, as Gil Tene calls it).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from streamcore import BatchFunction, Columns, Context, DataStream, Schema, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource

KEYS = 1000


class Offer(NamedTuple):
    """What comes in; `due` is in seconds of the wall clock."""

    key: int
    due: float


class Counted(NamedTuple):
    """What the job makes of it: how many of the key there have been."""

    total: int
    due: float


OFFERS = Schema.of(key=int, due=float)
FOUND = Schema.of(records=int, p50_ms=float, p99_ms=float, seconds=float)
"""Latencies of the records, and the seconds from when the first was due to when the last had come."""


class Offered:
    """The records by index; without a rate they are due when they are made."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._origin: float | None = None

    def __call__(self, start: int, stop: int) -> Columns:
        now = time.time()
        index = np.arange(start, stop)
        if self._rate is None:
            return Columns(OFFERS, {"key": index % KEYS, "due": np.full(len(index), now)})
        if self._origin is None:
            self._origin = now - start / self._rate
        return Columns(OFFERS, {"key": index % KEYS, "due": self._origin + index / self._rate})


def add_one(state: int, offer: Offer) -> tuple[int, Counted]:
    """The running count of a key."""
    return state + 1, Counted(state + 1, offer.due)


class Stopwatch(BatchFunction[Any]):
    """Takes the time of every record when it comes; at the end emits what it has `FOUND`. The first tenth of the time
    is left out of the latencies. Nothing is in snapshots: what a stopwatch showed before a crash is of no use after it.

    Args:
        only_ends: looks at the first and the last record of a batch only; where there are many, that is enough to see
            how long all of them took.
    """

    def __init__(self, only_ends: bool) -> None:
        self._only_ends = only_ends
        self._records = 0
        self._due: list[Any] = []
        self._latency: list[Any] = []

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        due = columns["due"][[0, -1]] if self._only_ends else columns["due"]
        self._records += len(columns)
        self._due.append(due)
        self._latency.append(time.time() - due)

    def finish(self, ctx: Context[Any]) -> None:
        if not self._due:
            return
        due, latency = np.concatenate(self._due), np.concatenate(self._latency)
        warm = due >= due.min() + 0.1 * (due.max() - due.min())
        p50, p99 = np.percentile(latency[warm], [50, 99]) * 1000
        arrays = {"records": self._records, "p50_ms": p50, "p99_ms": p99, "seconds": (due + latency).max() - due.min()}
        ctx.emit_batch(Columns(FOUND, {name: np.array([value]) for name, value in arrays.items()}))


def measured(env: StreamEnvironment, records: int, rate: float | None) -> DataStream[Any]:
    """The job: a running count per key, behind an exchange. Gives one record, `FOUND`.

    Args:
        rate: records per second; None: as many as the job takes.
    """
    source = GeneratorSource(Offered(rate), records, rate, schema=Offer)
    counts = env.source(source, name="offers").key_by("key").scan(0, add_one, returns=Counted, compiled=True)
    stopwatch: DataStream[Any] = counts.uid("counts").process(Stopwatch(rate is None), returns=FOUND)
    return stopwatch.uid("stopwatch").parallelism(1)


def latency_ms(make: Callable[[], StreamEnvironment], rate: float, seconds: float) -> tuple[float, float]:
    """(p50, p99) in milliseconds at a rate, in an environment that `make` gives."""
    found = measured(make(), round(rate * seconds), rate).execute_and_collect()[0]
    return found.p50_ms, found.p99_ms


def throughput(make: Callable[[], StreamEnvironment], seconds: float) -> float:
    """Records per second when as many come as the job takes, over about so many seconds."""
    records = 10_000
    while True:
        found = measured(make(), records, None).execute_and_collect()[0]
        if found.seconds >= seconds / 2:
            return float(records / found.seconds)
        records = round(records * min(50.0, max(2.0, seconds / found.seconds)))
