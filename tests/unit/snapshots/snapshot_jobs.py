"""Jobs whose snapshots are read and made in the tests beside this file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamcore import (
    BatchFunction,
    Checkpointing,
    ColumnarState,
    Columns,
    ListState,
    MapState,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    TableState,
    ValueState,
    monotonous,
)
from streamcore.connectors.file_sink import FileSink, read_jsonl
from streamcore.connectors.generator_source import GeneratorSource

SUMS = ColumnarState("sums", Schema.of(total=np.int64, mean=np.float64))
LAST = ValueState("last", None)
SEEN = ListState("seen")
BY_PARITY = MapState("by parity")
ALARM_MS = 10_000_000


@dataclass
class Visit:
    n: int
    words: list


class Gathers(ProcessFunction):
    """Value, list and map state, and timers of both times."""

    def open(self, ctx):
        self._last, self._seen, self._by_parity = ctx.state(LAST), ctx.state(SEEN), ctx.state(BY_PARITY)

    def process(self, record, ctx):
        before = self._last.get()
        self._last.set(Visit(record["n"], ["a", "b"]))
        self._seen.add(record["n"])
        self._by_parity.put("odd" if record["n"] % 2 else "even", record["n"])
        ctx.register_event_timer(ALARM_MS + record["key"])
        ctx.emit({"key": record["key"], "before": before.n if before else None, "seen": self._seen.get()})

    def on_event_timer(self, time_ms, ctx):
        ctx.emit({"key": ctx.key, "timer": time_ms})


class Sums(BatchFunction):
    """Columnar state, emitted at the end."""

    def open(self, ctx):
        self._sums = ctx.state(SUMS)

    def process(self, columns, ctx):
        slots = self._sums.slots(columns["key"])
        np.add.at(self._sums["total"], slots, columns["n"])
        self._sums["mean"][slots] = columns["n"] / 2

    def finish(self, ctx):
        for key, total in zip(self._sums.keys.tolist(), self._sums["total"].tolist(), strict=True):
            ctx.emit({"key": key, "total": total})


class Rows(BatchFunction):
    """Table state: all rows, kept by key."""

    def open(self, ctx):
        self._rows = []
        ctx.table_state(TableState("rows", "key", self._captured, self._rows.append, NUMBER))

    def _captured(self):
        return (
            Columns.concat(self._rows) if self._rows else Columns.of(n=np.empty(0, np.int64), key=np.empty(0, np.int64))
        )

    def process(self, columns, ctx):
        self._rows.append(columns)

    def finish(self, ctx):
        for rows in self._rows:
            for row in rows.to_rows():
                ctx.emit({"n": row.n, "key": row.key})


NUMBER = Schema.of(n=np.int64, key=np.int64)


def environment(directory, *, name="snapshots", restore=None, parallelism=1, interval=10.0):
    checkpoint = Checkpointing(str(directory / "checkpoints"), interval=interval)
    return StreamEnvironment(name, checkpoint=checkpoint, restore=restore, parallelism=parallelism)


def source(env, make, count, schema=None):
    """Records `make(n)` in two splits."""
    generator = GeneratorSource(
        lambda start, stop: [make(n) for n in range(start, stop)], count=count, splits=2, schema=schema
    )
    return env.source(generator, watermarks=monotonous(lambda record: record["n"])).uid("source")


def sink(stream, directory, name):
    stream.sink(FileSink(f"{directory}/{name}", if_exists="replace")).uid(f"{name}-sink")


def output(directory, name):
    return read_jsonl(directory / name)
