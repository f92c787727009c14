"""Drives a writer of the Kafka sink by itself, as the engine does, step by step."""

import asyncio
from contextlib import asynccontextmanager

from streamcore.connectors.base import SinkContext
from streamcore.connectors.kafka.sink import KafkaSink

TIMEOUT_S = 20.0


def second(row):
    return row[1]


def pair_sink(servers, topic, **options):
    """A sink for rows (key, value)."""
    return KafkaSink(servers, topic, **{"key": 0, "value": second, "prefix": f"p-{topic}", **options})


class Rig:
    """One writer, and what it told the engine."""

    def __init__(self, sink, subtask=0, parallelism=1):
        self.failures = []
        self.waits = []
        self._failed = asyncio.Event()
        self._woken = asyncio.Event()
        self.writer = sink.writer(
            SinkContext(
                subtask,
                parallelism,
                epoch=1,
                wake=self._woken.set,
                fail=self._fail,
                waiting=self.waits.append,
                job="rig",
            )
        )

    async def open(self, prepared=()):
        await self.writer.open(list(prepared))
        return self

    async def write(self, rows):
        """Writes, waits while the writer is full, and lets others run."""
        self.writer.write(rows)
        while self.writer.is_full:
            await asyncio.wait_for(self._woken.wait(), TIMEOUT_S)
            self._woken.clear()
        await asyncio.sleep(0)

    async def prepare(self):
        return list(await asyncio.wait_for(self.writer.prepare(), TIMEOUT_S))

    async def checkpoint(self):
        """Prepares and commits; the handles."""
        handles = await self.prepare()
        if handles:
            await self.writer.commit(handles)
        return handles

    async def failure(self):
        """What the subtask fails with."""
        await asyncio.wait_for(self._failed.wait(), TIMEOUT_S)
        return self.failures[0]

    def _fail(self, error):
        self.failures.append(error)
        self._failed.set()


@asynccontextmanager
async def running(sink, prepared=(), **context):
    """A rig whose writer is open, and is closed at the end."""
    rig = Rig(sink, **context)
    try:
        yield await rig.open(prepared)
    finally:
        await rig.writer.close()


async def visible(broker, topic):
    """The values that a reader of committed records sees, in order of partition and offset."""
    messages = await asyncio.to_thread(broker.read_committed, topic)
    return [message.value.decode() for message in messages]


def rows(*values, key=b"k"):
    """A row for each value, all with one key."""
    return [(key, str(value).encode()) for value in values]
