"""A KafkaSource read as the runtime reads it, by hand: readers polled in turn, and what they have said."""

import asyncio
import time

from streamcore.batch import Columns, to_rows
from streamcore.connectors.base import ReaderContext

TIMEOUT_S = 30.0


class Rig:
    """`async with Rig(source) as rig`: readers of all splits, or of those in `offsets`, which stand there."""

    def __init__(self, source, offsets=None):
        self.source = source
        self.offsets = offsets or {}
        self.bad, self.found, self.waits = [], [], []
        self.readers = {}
        self.rows = {}
        self.polls = {}
        self.held = set()
        self._woken = asyncio.Event()

    async def __aenter__(self):
        self.context = ReaderContext(
            self._woken.set,
            time.monotonic,
            self.bad.append,
            found=self.found.extend,
            waiting=self.waits.append,
        )
        splits = await asyncio.to_thread(self.source.splits)
        self.context.client = self.source.client(self.context)
        for split in splits:
            self.read_split(split, self.offsets.get(split.id))
        return self

    async def __aexit__(self, *_):
        for reader in self.readers.values():
            reader.close()
        await self.context.client.close()

    def read_split(self, split, offset):
        self.readers[split.id] = self.source.reader(split, offset, self.context)
        self.rows[split.id] = []
        self.polls[split.id] = []

    async def read(self, count=None, limit=100_000):
        """Polls until so many rows have come in all, or all readers have ended; all rows, by partition."""
        return await self.until(lambda: self.count == count or self.exhausted, limit)

    async def until(self, condition, limit=100_000):
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._woken.clear()
                if not self.poll_all(limit) and not condition():
                    await self._woken.wait()
                await asyncio.sleep(0)
        return self.rows

    def poll_all(self, limit):
        some = False
        for split_id, reader in self.readers.items():
            if reader.exhausted or split_id in self.held:
                continue
            batch = reader.poll(limit)
            if batch is not None and len(batch):
                some = True
                self.rows[split_id] += to_rows(batch) if isinstance(batch, Columns) else batch
                self.polls[split_id].append(len(batch))
        return some

    @property
    def count(self):
        return sum(map(len, self.rows.values()))

    @property
    def exhausted(self):
        return bool(self.readers) and all(reader.exhausted for reader in self.readers.values())


async def rows_of(source, offsets=None, count=None):
    """All rows of a source that ends, or the first `count`, by partition."""
    async with Rig(source, offsets) as rig:
        return await rig.read(count)


def numbered(count, text="message"):
    return [f"{text} {number}".encode() for number in range(count)]


def fill(broker, topic, partitions, count):
    """The values of each partition by its id, after writing them."""
    broker.create_topic(topic, partitions)
    values = {f"{topic}-{p}": numbered(count, f"partition {p}") for p in range(partitions)}
    for partition, written in enumerate(values.values()):
        broker.produce(topic, written, partition=partition)
    return values
