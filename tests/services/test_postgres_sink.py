"""The PostgreSQL sink against a real server."""

import asyncio
import dataclasses
import datetime
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from in_loop import in_loop

from streamcore import Checkpointing, Schema, StreamEnvironment
from streamcore.batch import Columns, Vector
from streamcore.connectors.base import JobStart, SinkContext
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.sql.postgres.owner import Owner
from streamcore.connectors.sql.postgres.sink import PostgresSink
from streamcore.errors import BadRecordError, ConnectorError, FencedError, JobFailedError, UsageError

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


@pytest.fixture
def numbers(database):
    database.run("CREATE TABLE numbers (n bigint)")
    return database


def appending(database, **options):
    return ready(PostgresSink(database.dsn, "numbers", **{"prefix": "p", **options}))


def in_table(database):
    return sorted(n for (n,) in database.run("SELECT n FROM numbers"))


def prepared_now(database):
    return [gid for (gid,) in database.run("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")]


# --- exactly once ------------------------------------------------------------------------------------------


@in_loop
async def test_rows_are_seen_when_their_checkpoint_is_complete(numbers):
    async with Writing(appending(numbers)) as w:
        w.write({"n": 1}, {"n": 2})
        first = await w.prepare()
        assert [rows for _, rows in first] == [2]
        w.write({"n": 3})
        assert in_table(numbers) == []
        await w.commit(first)
        assert in_table(numbers) == [1, 2]
        second = await w.prepare()
        assert await w.prepare() == []
        await w.commit(second)
        assert in_table(numbers) == [1, 2, 3]
        assert len(numbers.run("SELECT n FROM streamcore_transactions")) == 1  # older ones are deleted


@in_loop
async def test_what_was_prepared_is_committed_by_another_process_once(numbers):
    async with Writing(appending(numbers)) as w:
        w.write({"n": 1})
        handles = await w.prepare()
        w.write({"n": 2})  # open when the process goes
    for _ in range(2):
        async with Writing(appending(numbers), handles) as w:
            assert in_table(numbers) == [1]
            await w.commit(handles)
    assert in_table(numbers) == [1]


@in_loop
async def test_what_no_snapshot_has_is_rolled_back_by_who_has_its_share_now(numbers):
    sink = appending(numbers)
    handles = []
    for subtask in range(4):
        async with Writing(sink, subtask=subtask, parallelism=4) as w:
            w.write({"n": subtask})
            handles += await w.prepare()
    assert len(prepared_now(numbers)) == 4
    async with Writing(sink, epoch=2, subtask=1, parallelism=2):  # has 1 and 3
        assert sorted(prepared_now(numbers)) == [handles[0][0], handles[2][0]]
    async with Writing(sink, handles[2:3], epoch=2, subtask=0, parallelism=2):
        assert prepared_now(numbers) == []
    assert in_table(numbers) == [2]


@in_loop
async def test_another_prefix_s_transactions_are_left_alone(numbers):
    async with Writing(appending(numbers, prefix="p-0-1.1")) as other, Writing(appending(numbers, prefix="p")) as w:
        other.write({"n": 1})
        handles = await other.prepare()
        async with Writing(appending(numbers, prefix="p")):
            pass
        assert prepared_now(numbers) == [handles[0][0]]
        assert not other.failed.done()
        w.write({"n": 2})  # but this one is fenced
        assert isinstance(await w.error(), FencedError)


@in_loop
async def test_a_transaction_that_somebody_rolled_back_is_lost_and_said_to_be(numbers, caplog):
    async with Writing(appending(numbers)) as w:
        w.write({"n": 1})
        w.write({"n": 2})
        handles = await w.prepare()
    numbers.run(f"ROLLBACK PREPARED '{handles[0][0]}'")
    with pytest.raises(ConnectorError, match=f"2 rows for table 'numbers' are lost: transaction '{handles[0][0]}'"):
        async with Writing(appending(numbers), handles):
            pass
    async with Writing(appending(numbers, on_lost="warn"), handles):
        assert "2 rows for table 'numbers' are lost" in caplog.text


@in_loop
async def test_the_second_job_with_a_prefix_fences_the_first(numbers):
    async with Writing(appending(numbers)) as first:
        first.write({"n": 1})
        handles = await first.prepare()
        first.write({"n": 2})
        async with Writing(appending(numbers)) as second:
            second.write({"n": 3})
            await second.commit(await second.prepare())
            first.write({"n": 4})
            error = await first.error()
            assert isinstance(error, FencedError)
            assert "another job writes with the prefix 'p' now" in str(error)
            with pytest.raises(FencedError):
                await first.commit(handles)
    assert in_table(numbers) == [3]
    assert prepared_now(numbers) == []


@in_loop
async def test_an_attempt_that_was_given_up_does_not_take_over_from_the_next(numbers):
    sink = appending(numbers)
    async with Writing(sink, epoch=2) as w:
        with pytest.raises(FencedError):
            async with Writing(sink, epoch=1):
                pass
        w.write({"n": 1})
        await w.commit(await w.prepare())
    assert in_table(numbers) == [1]


@in_loop
async def test_a_zombie_that_prepares_during_a_takeover_is_ended_or_rolled_back(numbers):
    """Whatever the moment, nothing of the first job comes after the second has opened."""
    for turn in range(5):
        numbers.run("TRUNCATE numbers")
        async with Writing(appending(numbers)) as first:
            first.write({"n": 1})
            preparing = asyncio.ensure_future(first.prepare())
            for _ in range(3 * turn):
                await asyncio.sleep(0)
            async with Writing(appending(numbers)):
                assert prepared_now(numbers) == []
                if preparing.done():
                    with pytest.raises(FencedError):
                        await first.commit(preparing.result())
                else:
                    preparing.cancel()
        assert in_table(numbers) == []


@in_loop
async def test_nobody_takes_over_while_a_transaction_of_another_is_open(numbers, monkeypatch):
    """Also if its session isn't found, or comes back in the middle of the takeover."""

    async def finds_none(self, connection, number):
        pass

    async with Writing(appending(numbers)) as first:
        first.write({"n": 1})
        await until_copied(numbers)
        monkeypatch.setattr(Owner, "_end_sessions", finds_none)
        second = Writing(appending(numbers))
        opening = asyncio.ensure_future(second.__aenter__())
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not numbers.run(waiting):
            assert not opening.done()
            await asyncio.sleep(0.01)
        handles = await first.prepare()
        async with await opening:
            assert prepared_now(numbers) == []
            with pytest.raises(FencedError):
                await first.commit(handles)
    assert in_table(numbers) == []


# --- outages -----------------------------------------------------------------------------------------------

OPEN = (
    "FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'COPY%' AND datname = current_database()"
)


async def until_copied(database):
    """Until what was written is in an open transaction."""
    while not database.run(f"SELECT 1 {OPEN}"):
        await asyncio.sleep(0.01)


@in_loop
async def test_an_open_transaction_is_sent_again_after_a_crash_of_the_server(numbers):
    async with Writing(appending(numbers)) as w:
        w.write({"n": 0})
        prepared = await w.prepare()
        w.write({"n": 1})
        await until_copied(numbers)
        numbers.server.kill()
        w.write({"n": 2})
        following = asyncio.ensure_future(w.prepare())
        committing = asyncio.ensure_future(w.commit(prepared))
        while not w.waits:
            await asyncio.sleep(0.01)
        numbers.server.start()
        await committing
        await w.commit(await following)
        assert in_table(numbers) == [0, 1, 2]
        assert w.waits[0] == f"PostgreSQL at 127.0.0.1:{numbers.server.port}/{numbers.name}"
        assert w.waits[-1] is None


@in_loop
async def test_a_writer_opens_when_the_server_is_back(numbers):
    sink = appending(numbers)
    numbers.server.kill()
    opening = Writing(sink)
    task = asyncio.ensure_future(opening.__aenter__())
    while not opening.waits:
        await asyncio.sleep(0.01)
    numbers.server.start()
    async with await task:
        assert opening.waits[-1] is None


@in_loop
async def test_more_rows_than_are_kept_make_an_outage_a_failure(numbers):
    async with Writing(appending(numbers, replay_bytes=10)) as w:
        w.write(*({"n": n} for n in range(100)))
        await w.commit(await w.prepare())
        w.write(*({"n": n} for n in range(100)))
        await until_copied(numbers)
        numbers.run(f"SELECT pg_terminate_backend(pid) {OPEN}")
        w.write({"n": 1})
        error = await w.error()
    assert isinstance(error, ConnectorError)
    assert "in an open transaction, more than are kept for that" in str(error)


@pytest.mark.parametrize("was_done", [True, False])
@in_loop
async def test_a_connection_lost_while_preparing_is_looked_up(numbers, monkeypatch, was_done):
    """The answer to PREPARE TRANSACTION is lost, with the transaction prepared or not."""
    real, lost = psycopg.AsyncConnection.execute, []

    async def execute(self, query, *arguments, **options):
        text = query if isinstance(query, str) else query.as_string(self)
        if text.startswith("PREPARE TRANSACTION") and not lost:
            lost.append(text)
            if was_done:
                await real(self, query, *arguments, **options)
            await self.close()
            raise psycopg.OperationalError("the connection is lost")
        return await real(self, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute)
    async with Writing(appending(numbers)) as w:
        w.write({"n": 1})
        handles = await w.prepare()
        assert lost
        assert prepared_now(numbers) == [gid for gid, _ in handles]
        await w.commit(handles)
    assert in_table(numbers) == [1]


# --- upserts, and what is written --------------------------------------------------------------------------


@in_loop
async def test_of_the_values_of_a_key_the_last_one_stays(database):
    database.run("CREATE TABLE t (a bigint, b text, v double precision, PRIMARY KEY (a, b))")
    sink = ready(PostgresSink(database.dsn, "t", mode="upsert", key=["b", "a"]))
    generator = np.random.default_rng(3)
    wanted = {}
    async with Writing(sink) as w:
        for _ in range(20):
            size = int(generator.integers(1, 400))
            a, b = generator.integers(0, 20, size), [f"key {k}" for k in generator.integers(0, 5, size)]
            v = generator.random(size)
            wanted.update(zip(zip(a.tolist(), b, strict=True), v.tolist(), strict=True))
            w.writer.write(Columns.of(a=a, b=pa.array(b), v=v))
            if generator.random() < 0.3:
                assert await w.prepare() == []
        await w.prepare()
    assert {(a, b): v for a, b, v in database.run("SELECT a, b, v FROM t")} == wanted


@in_loop
async def test_upserts_of_other_columns_take_turns(database):
    database.run("CREATE TABLE t (k bigint PRIMARY KEY, v bigint, w bigint)")
    async with Writing(ready(PostgresSink(database.dsn, "t", mode="upsert", key="k"))) as w:
        w.writer.write(Columns.of(k=np.array([1]), v=np.array([1])))
        w.writer.write(Columns.of(k=np.array([1, 2]), v=np.array([2, 2]), w=np.array([5, 5])))
        w.writer.write(Columns.of(k=np.array([2]), v=np.array([3])))
        await w.prepare()
    assert sorted(database.run("SELECT k, v, w FROM t")) == [(1, 2, 5), (2, 3, 5)]


@in_loop
async def test_a_deadlock_with_somebody_else_is_tried_again(database):
    database.run("CREATE TABLE t (k bigint PRIMARY KEY, v bigint)")
    database.run("INSERT INTO t VALUES (1, 0), (2, 0)")
    sink = ready(PostgresSink(database.dsn, "t", mode="upsert", key="k"))
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with Writing(sink) as w, await psycopg.AsyncConnection.connect(database.dsn) as other:
        await other.execute("SET deadlock_timeout = '30s'")  # so that it is the sink that is rolled back
        await other.execute("UPDATE t SET v = 5 WHERE k = 2")
        w.write({"k": 1, "v": 7}, {"k": 2, "v": 7})
        while not database.run(waiting):
            await asyncio.sleep(0.01)
        await other.execute("UPDATE t SET v = 5 WHERE k = 1")
        await other.commit()
        await w.prepare()
        assert w.waits == []
    assert database.run("SELECT v FROM t") == [(7,), (7,)]


@dataclasses.dataclass
class Everything:
    flag: bool
    small: np.int16
    large: np.uint64
    real: np.float32
    number: float
    text: str
    data: bytes
    at: datetime.datetime
    day: datetime.date
    maybe: int | None
    name: str | None
    vector: Vector(2)


LEAP_DAY = datetime.datetime.fromisoformat("2024-02-29 01:02:03.000004")
LONG_AGO = datetime.datetime.fromisoformat("0001-01-01 00:00:00")
EVERYTHING = [
    Everything(True, -5, 2**64 - 1, 0.5, math.pi, 'a "quoted", \\text\n\\N', b"\x00\xff", LEAP_DAY,
               datetime.date(1999, 12, 31), None, None, [1.5, -2.0]),
    Everything(False, 0, 0, math.inf, math.nan, "", b"", LONG_AGO, datetime.date(2024, 1, 1), 7, "", [math.inf, 0.1]),
]  # fmt: skip


@in_loop
async def test_every_type_is_written_into_a_table_made_for_it(database):
    sink = ready(PostgresSink(database.dsn, "public.e", type=Everything, create=True, delivery="at-least-once"))
    ready(sink)  # the second time it is there
    async with Writing(sink) as w:
        w.write(*EVERYTHING)
        assert await w.prepare() == []
    first, second = database.run("SELECT * FROM e ORDER BY small")
    assert first == dataclasses.astuple(EVERYTHING[0])
    assert second[:4] == (False, 0, 0, math.inf)
    assert math.isnan(second[4])
    assert second[5:] == dataclasses.astuple(EVERYTHING[1])[5:]
    nullable = dict(database.run("SELECT column_name, is_nullable FROM information_schema.columns"
                                 " WHERE table_name = 'e'"))  # fmt: skip
    assert {name for name, answer in nullable.items() if answer == "YES"} == {"maybe", "name"}


@in_loop
async def test_rows_without_type_have_that_of_the_table(database):
    database.run('CREATE TABLE "T" (n int, texts text[], j jsonb)')
    async with Writing(ready(PostgresSink(database.dsn, "T", delivery="at-least-once"))) as w:
        w.write({"n": 1, "texts": ['a"\\,{', None], "j": '{"x": 1}'})
        await w.prepare()
    assert database.run('SELECT * FROM "T"') == [(1, ['a"\\,{', None], {"x": 1})]


@in_loop
async def test_a_writer_that_is_full_says_when_it_has_room(numbers):
    sink = appending(numbers, delivery="at-least-once")
    wakes = []
    writer = sink.writer(SinkContext(0, 1, 1, wake=lambda: wakes.append(writer.is_full)))
    await writer.open([])
    while not writer.is_full:
        writer.write(Columns.of(n=np.arange(10**6, 10**6 + 100_000)))
    await writer.prepare()
    assert wakes == [False]
    assert not writer.is_full
    await writer.close()


def test_a_job_writes_each_row_once_and_upserts_its_counts(database):
    database.run("CREATE TABLE numbers (n bigint)")
    database.run("CREATE TABLE counts (key bigint PRIMARY KEY, count bigint)")
    env = StreamEnvironment("job", parallelism=2, checkpoint=Checkpointing("memory://postgres-sink", interval=0.02))
    stream = env.source(GeneratorSource(lambda a, b: [{"n": n} for n in range(a, b)], count=5_000, rate=20_000))
    stream.sink(PostgresSink(database.dsn, "numbers"))
    counts = stream.key_by(lambda r: r["n"] % 3).count().map(lambda pair: {"key": pair[0], "count": pair[1]})
    counts.sink(PostgresSink(database.dsn, "counts", mode="upsert", key="key"))
    env.execute()
    assert in_table(database) == list(range(5_000))
    assert dict(database.run("SELECT key, count FROM counts")) == Counter(n % 3 for n in range(5_000))
    assert prepared_now(database) == []
    assert {prefix for (prefix,) in database.run("SELECT prefix FROM streamcore_owners")} == {"job/numbers"}


# --- errors ------------------------------------------------------------------------------------------------


def refused(match, dsn, table="numbers", **options):
    with pytest.raises(ConnectorError, match=match) as raised:
        ready(PostgresSink(dsn, table, **{"prefix": "p", **options}))
    assert raised.value.hint
    assert "a password" not in str(raised.value)


def test_what_is_wrong_is_found_at_start_and_said_once(numbers):
    server, dsn = numbers.server, numbers.dsn
    refused("Connection refused", server.dsn(port=1))
    refused("failed to resolve host", server.dsn(host="nowhere.invalid"))
    refused("password authentication failed", server.dsn(password="wrong"))  # noqa: S106
    refused('database "nowhere" does not exist', server.dsn("nowhere"))
    refused("has no table 'nothing'", dsn, "nothing")
    refused('column "other" of relation "numbers" does not exist', dsn, type=Schema.of(n=int, other=int))
    refused("no unique or exclusion constraint", dsn, mode="upsert", key="n")


def test_a_right_that_is_missing_is_found_at_start(numbers):
    numbers.run(f"CREATE ROLE {numbers.name}_reader LOGIN PASSWORD 'a password'")
    reader = numbers.server.dsn(numbers.name, user=f"{numbers.name}_reader")
    refused("permission denied for table numbers", reader, delivery="at-least-once")
    numbers.run(f"GRANT INSERT ON numbers TO {numbers.name}_reader")
    ready(PostgresSink(reader, "numbers", delivery="at-least-once"))
    refused("permission denied for schema public", reader)


def test_a_server_that_can_t_prepare_transactions_is_found_at_start(numbers):
    numbers.server.stop()
    numbers.server.start(max_prepared_transactions=0)
    try:
        refused("max_prepared_transactions is 0", numbers.dsn)
        ready(PostgresSink(numbers.dsn, "numbers", delivery="at-least-once"))
    finally:
        numbers.server.stop()


@in_loop
async def test_a_row_that_the_table_refuses_is_final(database):
    database.run("CREATE TABLE t (n bigint PRIMARY KEY, text text)")
    async with Writing(ready(PostgresSink(database.dsn, "t", prefix="p"))) as w:
        w.write({"n": 1, "text": None}, {"n": 1, "text": None})
        error = await w.error()
    assert isinstance(error, BadRecordError)
    assert "(n)=(1) already exists" in str(error)
    async with Writing(ready(PostgresSink(database.dsn, "t", prefix="p"))) as w:
        with pytest.raises(BadRecordError, match="NUL"):
            w.write({"n": 1, "text": "\0"})


@in_loop
async def test_a_server_without_room_for_more_transactions_says_what_to_raise(numbers):
    async with Writing(appending(numbers)) as w:
        for n in range(21):
            w.write({"n": n})
            cut = asyncio.ensure_future(w.writer.prepare())
            await asyncio.wait([cut, w.failed], timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        error = await w.error()
    assert isinstance(error, ConnectorError)
    assert "maximum number of prepared transactions reached" in str(error)
    assert "max_prepared_transactions" in error.hint
    async with Writing(appending(numbers)):
        assert prepared_now(numbers) == []


def test_a_job_without_checkpoints_can_t_be_exactly_once(numbers):
    env = StreamEnvironment("job")
    env.from_values([{"n": 1}]).sink(PostgresSink(numbers.dsn, "numbers"))
    with pytest.raises((UsageError, JobFailedError), match="there are none"):
        env.execute()


def test_without_psycopg_it_is_said_what_to_install():
    code = "import sys; sys.modules['psycopg'] = None; import streamcore.connectors.sql.postgres.sink"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: PostgreSQL needs psycopg" in done.stderr
    assert "pip install 'streamcore[postgres]'" in done.stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "merge"}, "mode='merge' is unknown"),
        ({"delivery": "once"}, "delivery='once' is unknown"),
        ({"on_lost": "ignore"}, "on_lost='ignore' is unknown"),
        ({"mode": "upsert"}, "key="),
        ({"key": "n"}, "key="),
        ({"mode": "upsert", "key": "n", "delivery": "exactly-once"}, "written at least once"),
        ({"prefix": "a b"}, "can't be the prefix"),
        ({"create": True}, "needs the type"),
        ({"conninfo": "what=is this"}, "can't be understood"),
    ],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(UsageError, match=match):
        PostgresSink(**{"conninfo": "host=localhost", "table": "t", **options})
