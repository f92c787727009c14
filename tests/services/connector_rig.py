"""Runs one reader or one writer as the runtime does, and keeps what it tells."""

import asyncio

from streamcore.connectors.base import ReaderContext, SinkContext


class Reading:
    """Polls a source: again when there was something or `wake` was called."""

    def __init__(self, source, offset=None, job="job"):
        self.woken = asyncio.Event()
        self.bad, self.waits, self.rows = [], [], []
        self.context = ReaderContext(
            wake=self.woken.set, now=lambda: 0.0, report_bad=self.bad.append, waiting=self.waits.append, job=job
        )
        self.context.client = source.client(self.context)
        self.reader = source.reader(source.splits()[0], offset, self.context)

    async def until(self, done, limit=1000):
        """Polls until `done(self)`."""
        async with asyncio.timeout(20):
            while not done(self):
                self.woken.clear()
                rows = self.reader.poll(limit)
                assert len(rows) <= limit
                self.rows += rows
                if not rows and not done(self):
                    await self.woken.wait()
        return self.rows

    async def take(self, count, limit=1000):
        """Polls until there are so many rows in all, and no more."""
        while len(self.rows) < count:
            more = len(self.rows) + 1
            await self.until(lambda reading, more=more: len(reading.rows) >= more, min(limit, count + 1 - more))
        return self.rows

    async def close(self):
        self.reader.close()
        await self.context.client.close()


class Writing:
    """An open writer of a sink."""

    def __init__(self, sink):
        self.wakes, self.waits = 0, []
        self.failed = asyncio.get_running_loop().create_future()
        context = SinkContext(0, 1, 1, wake=self._wake, fail=self._fail, waiting=self.waits.append)
        self.writer = sink.writer(context)

    def _wake(self):
        self.wakes += 1

    def _fail(self, error):
        if not self.failed.done():
            self.failed.set_result(error)

    async def __aenter__(self):
        await self.writer.open([])
        return self

    async def __aexit__(self, *_):
        await self.writer.close()

    def write(self, *rows):
        self.writer.write(list(rows))

    async def prepared(self):
        """Waits for a cut; raises what failed instead."""
        cut = asyncio.ensure_future(self.writer.prepare())
        async with asyncio.timeout(20):
            await asyncio.wait([cut, self.failed], return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            cut.cancel()
            raise self.failed.result()
        assert list(await cut) == []


def deliver(sink, *rows):
    """Writes rows and waits until they are durable; what `context.waiting` was told."""

    async def run():
        async with Writing(sink) as writing:
            writing.write(*rows)
            await writing.prepared()
            return writing.waits

    return asyncio.run(run())
