"""One subtask's writer of a PostgreSQL sink, as the runtime has it, and what is in the database then."""

import asyncio

from streamcore.connectors.base import JobStart, SinkContext
from streamcore.connectors.sql.postgres.sink import PostgresSink

START = JobStart(restored=False, job="test", checkpoint_interval_s=1.0)
TIMEOUT_S = 20.0


class Writing:
    """One subtask's writer, as the runtime has it; `prepared` are the handles of a restored snapshot."""

    def __init__(self, sink, prepared=(), *, epoch=1, subtask=0, parallelism=1):
        self.waits, self._prepared = [], prepared
        self.failed = asyncio.get_running_loop().create_future()
        self.writer = sink.writer(
            SinkContext(subtask, parallelism, epoch, fail=self._fail, waiting=self.waits.append, job="test")
        )

    def _fail(self, error):
        if not self.failed.done():
            self.failed.set_result(error)

    async def __aenter__(self):
        try:
            await asyncio.wait_for(self.writer.open(self._prepared), TIMEOUT_S)
        except BaseException:
            await self.writer.close()
            raise
        return self

    async def __aexit__(self, *_):
        await self.writer.close()

    def write(self, *rows):
        self.writer.write(list(rows))

    async def prepare(self):
        return list(await asyncio.wait_for(self.writer.prepare(), TIMEOUT_S))

    async def commit(self, handles):
        await asyncio.wait_for(self.writer.commit(handles), TIMEOUT_S)

    async def error(self):
        return await asyncio.wait_for(self.failed, TIMEOUT_S)


def ready(sink):
    sink.prepare_job(START)
    return sink


def appending(database, **options):
    return ready(PostgresSink(database.dsn, "numbers", **{"prefix": "p", **options}))


def in_table(database):
    return sorted(n for (n,) in database.run("SELECT n FROM numbers"))


def prepared_now(database):
    return [gid for (gid,) in database.run("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")]


OPEN = (
    "FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'COPY%' AND datname = current_database()"
)


async def until_copied(database):
    """Until what was written is in an open transaction."""
    while not database.run(f"SELECT 1 {OPEN}"):
        await asyncio.sleep(0.01)
