"""Appending to PostgreSQL exactly once, by two-phase commit on a real server."""

import asyncio

import psycopg
import pytest
from in_loop import in_loop
from postgres_rig import OPEN, Writing, appending, in_table, prepared_now, ready, until_copied

from streamcore.connectors.sql.postgres import session
from streamcore.connectors.sql.postgres.owner import Owner
from streamcore.connectors.sql.postgres.server import is_outage
from streamcore.connectors.sql.postgres.session import Session
from streamcore.connectors.sql.postgres.sink import PostgresSink
from streamcore.errors import ConnectorError, FencedError


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
async def test_the_same_prefix_and_run_in_another_schema_is_another_job(numbers):
    """Names of prepared transactions are shared by the whole server, but runs are counted in each schema."""
    numbers.run("CREATE SCHEMA b")
    numbers.run("CREATE TABLE b.numbers (n bigint)")
    of_b = PostgresSink(numbers.server.dsn(numbers.name, options="-csearch_path=b"), "numbers", prefix="p")
    async with Writing(appending(numbers)) as first:
        first.write({"n": 1})
        handles = await first.prepare()
        async with Writing(ready(of_b)) as second:
            assert prepared_now(numbers) == [handles[0][0]]
            second.write({"n": 2})
            await second.commit(await second.prepare())
        first.write({"n": 3})  # its session goes on, too
        await first.commit(handles + await first.prepare())
    assert in_table(numbers) == [1, 3]
    assert numbers.run("SELECT run FROM streamcore_owners") == numbers.run("SELECT run FROM b.streamcore_owners")
    assert numbers.run("SELECT n FROM b.numbers") == [(2,)]


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
async def test_what_is_committed_after_the_takeover_waits_for_locks_as_long_as_need_be(numbers):
    async with Writing(appending(numbers)) as w:

        async def ask(connection):
            return await (await connection.execute("SHOW lock_timeout")).fetchone()

        assert await w.writer._control.run(ask, "ask") == ("0",)


@in_loop
async def test_collisions_are_tried_again_after_pauses_that_grow(monkeypatch):
    """Two that collide and come back at once collide again."""
    left, pauses = 12, []

    class NoServer:
        async def connect_async(self):
            return psycopg.AsyncConnection(psycopg.pq.PGconn.connect_start(b"host=127.0.0.1 port=1"))

    async def work(connection):
        nonlocal left
        left -= 1
        if left:
            raise psycopg.errors.SerializationFailure
        return "done"

    async def pause(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(session.asyncio, "sleep", pause)
    monkeypatch.setattr(session.random, "uniform", lambda _, longest: longest)
    told = []
    assert await Session(NoServer(), told.append).run(work, "work") == "done"
    assert len(pauses) == 11
    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert pauses[-1] == 2.0
    assert told == []


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
async def test_limits_of_the_database_for_idle_transactions_are_not_for_ours(numbers):
    for name in ("idle_in_transaction_session_timeout", "statement_timeout"):
        numbers.run(f"ALTER DATABASE {numbers.name} SET {name} = '77s'")
    try:
        async with Writing(appending(numbers)) as w:
            limits = []

            async def ask(connection):
                for name in ("idle_in_transaction_session_timeout", "statement_timeout"):
                    limits.append(await (await connection.execute(f"SHOW {name}")).fetchone())

            await w.writer.session.run(ask, "ask")
    finally:
        numbers.run(f"ALTER DATABASE {numbers.name} RESET ALL")
    assert limits == [("0",), ("0",)]


@in_loop
async def test_a_session_that_was_ended_for_being_idle_is_an_outage(numbers):
    """The connection string may set limits of its own."""
    dsn = numbers.server.dsn(numbers.name, options="-c idle_in_transaction_session_timeout=200")
    async with Writing(ready(PostgresSink(dsn, "numbers", prefix="p"))) as w:
        w.write({"n": 1})
        await until_copied(numbers)
        while numbers.run(f"SELECT 1 {OPEN}"):
            await asyncio.sleep(0.01)
        w.write({"n": 2})
        await w.commit(await w.prepare())
    assert in_table(numbers) == [1, 2]


def test_a_transaction_that_took_too_long_is_an_outage():
    class TransactionTimeout(psycopg.OperationalError):
        sqlstate = "25P04"

    assert is_outage(TransactionTimeout("FATAL: terminating connection due to transaction timeout"))


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
