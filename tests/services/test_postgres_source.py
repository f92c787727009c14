"""The PostgreSQL source against a real server."""

import asyncio
import dataclasses
import datetime
import random

import psycopg
import pytest
from in_loop import in_loop

from streamcore import StreamEnvironment
from streamcore.batch import Schema, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.sql.postgres.source import PostgresSource
from streamcore.errors import BadRecordError, ConnectorError, UsageError


class Reading:
    """Reads all splits of a source as one subtask does; `offsets` are those of a snapshot."""

    def __init__(self, source, offsets=None):
        self.clock, self.woken, self.waits = 0.0, asyncio.Event(), []
        context = ReaderContext(
            self.woken.set, lambda: self.clock, report_bad=lambda _: None, waiting=self.waits.append
        )
        context.client = self.client = source.client(context)
        offsets = offsets or {}
        self.readers = {s.id: source.reader(s, offsets.get(s.id), context) for s in source.splits()}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for reader in self.readers.values():
            reader.close()
        await self.client.close()

    async def rows_now(self, limit=1000):
        """What is read until all readers wait for the time of their next poll, or have ended."""
        rows = []
        self.clock += 1.0  # the time of the next poll
        while True:
            self.woken.clear()
            batches = [r.poll(limit) for r in self.readers.values() if not r.exhausted]
            found = [row for batch in batches if batch is not None for row in to_rows(batch)]
            assert all(batch is None or len(batch) <= limit for batch in batches)
            rows += found
            if all(r.exhausted or (r.wake_at is not None and r.wake_at > self.clock) for r in self.readers.values()):
                return rows
            if not found and not any(r.wake_at is not None and r.wake_at <= self.clock for r in self.readers.values()):
                await asyncio.wait_for(self.woken.wait(), 20)

    def offsets(self):
        return {split_id: reader.offset for split_id, reader in self.readers.items()}


@pytest.fixture
def events(database):
    database.run("CREATE TABLE events (id bigint PRIMARY KEY, at timestamp NOT NULL, text text)")
    return database


def at(second):
    return datetime.datetime.fromisoformat("2024-01-01 00:00:00") + datetime.timedelta(seconds=second)


def insert(database, *ids):
    for number in ids:
        database.run("INSERT INTO events VALUES (%s, %s, %s)", number, at(number), f"text {number}")


@in_loop
async def test_new_rows_are_found_by_polling(events):
    insert(events, 1, 2)
    async with Reading(PostgresSource(events.dsn, "events", order="id")) as reading:
        assert await reading.rows_now() == [(1, at(1), "text 1"), (2, at(2), "text 2")]
        assert await reading.rows_now() == []
        insert(events, 10, 11, 9)
        assert [row.id for row in await reading.rows_now()] == [9, 10, 11]
        assert reading.offsets() == {"0/1": ["11"]}


@in_loop
async def test_no_poll_before_its_time(events):
    async with Reading(PostgresSource(events.dsn, "events", order="id", every_s=3.0)) as reading:
        assert await reading.rows_now() == []
        insert(events, 1)
        assert await reading.rows_now() == []  # one second later
        reading.clock += 2.0
        assert [row.id for row in await reading.rows_now()] == [1]


@in_loop
async def test_seeded_changes_are_each_read_once_in_order_through_restores(database):
    """Inserts and updates of random keys at few different times, so that the key has to tell them apart; pages of all
    sizes, restored at random moments: what is read is every version that was there at a poll, by (version, key)."""
    chance = random.Random(11)
    database.run("CREATE TABLE items (key text PRIMARY KEY, version double precision NOT NULL)")
    source = PostgresSource(database.dsn, "items", order="version", key="key", splits=3, page_rows=4)
    read, wanted, offsets, version = [], [], None, 0
    for _ in range(12):
        with psycopg.connect(database.dsn) as connection:
            changed = {}
            for _ in range(chance.randrange(40)):
                version += chance.random() < 0.2
                if (key := f"key {chance.randrange(60)}") not in changed:
                    changed[key] = version + 0.1
            for key, value in changed.items():
                connection.execute("INSERT INTO items VALUES (%s, %s) ON CONFLICT (key) DO UPDATE"
                                   " SET version = excluded.version", [key, value])  # fmt: skip
        wanted += changed.items()
        version += 1
        async with Reading(source, offsets) as reading:
            found = [tuple(row) for row in await reading.rows_now(chance.choice([1, 3, 100]))]
            offsets = reading.offsets()
        assert sorted(found) == sorted(changed.items())
        read += found
    assert sorted(read) == sorted(wanted)
    assert all(offset is not None for offset in offsets.values())


@in_loop
async def test_the_rows_of_a_part_are_in_order(database):
    database.run("CREATE TABLE t AS SELECT i % 10 AS at, i AS id FROM generate_series(1, 500) AS i")
    source = PostgresSource(database.dsn, "t", order="at", key="id", stop="now", page_rows=64)
    async with Reading(source) as reading:
        rows = [(row.at, row.id) for row in await reading.rows_now(10)]
        assert reading.readers["0/1"].exhausted
    assert rows == sorted((i % 10, i) for i in range(1, 501))


@pytest.mark.parametrize(
    ("of_type", "value"),
    [
        ("char(4)", "'a' || lpad(i::text, 2, '0')"),
        ("bit(6)", "i::bit(6)"),
        ("varchar(4)", "'a' || lpad(i::text, 2, '0')"),
        ("bit varying(6)", "i::bit(6)"),
        ("numeric(6, 3)", "i / 8.0"),
        ("timestamp(3)", "'2024-01-01'::timestamp + make_interval(secs => i / 8.0)"),
    ],
)
@in_loop
async def test_an_order_of_a_type_with_a_length_is_compared_whole(database, of_type, value):
    database.run(f"CREATE TABLE t AS SELECT i, ({value})::{of_type} AS code FROM generate_series(1, 20) AS i")  # noqa: S608 - of this file
    for stop in ("now", None):
        async with Reading(PostgresSource(database.dsn, "t", order="code", stop=stop, page_rows=3)) as reading:
            assert [row.i for row in await reading.rows_now()] == list(range(1, 21))


@in_loop
async def test_a_bounded_source_ends_with_the_rows_of_the_start(events):
    insert(events, *range(10))
    async with Reading(PostgresSource(events.dsn, "events", order="id", stop="now", page_rows=5)) as reading:
        insert(events, 20)
        assert [row.id for row in await reading.rows_now(3)] == list(range(10))
    events.run("TRUNCATE events")
    async with Reading(PostgresSource(events.dsn, "events", order="id", stop="now")) as reading:
        assert await reading.rows_now() == []
        assert reading.readers["0/1"].exhausted


@in_loop
async def test_a_row_that_commits_late_is_missed_without_lag_and_found_with_it(database):
    database.run("CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())")
    plain = PostgresSource(database.dsn, "t", order="id")
    lagging = PostgresSource(database.dsn, "t", order="at", key="id", lag_s=3600.0)
    with psycopg.connect(database.dsn) as slow:
        slow.execute("INSERT INTO t VALUES (1)")
        database.run("INSERT INTO t VALUES (2)")
        async with Reading(plain) as without, Reading(lagging) as with_lag:
            assert [row.id for row in await without.rows_now()] == [2]
            assert await with_lag.rows_now() == []
            slow.commit()
            assert await without.rows_now() == []  # the hole that the documentation tells of
            database.run("UPDATE t SET at = at - interval '2 hours'")
            assert [row.id for row in await with_lag.rows_now()] == [1, 2]
    with pytest.raises(UsageError, match="lag_s needs an order by time: column 'id' is bigint"):
        PostgresSource(database.dsn, "t", order="id", lag_s=1.0).splits()


@in_loop
async def test_every_type_is_read_as_its_column(database):
    database.run(
        "CREATE TABLE t (id int NOT NULL, flag boolean NOT NULL, small smallint, real real NOT NULL, price numeric,"
        " text varchar, data bytea, day date, at timestamptz, uid uuid, j jsonb, list float8[], texts text[])"
    )
    database.run(
        "INSERT INTO t VALUES (1, true, 3, 0.5, 12.25, 'ä', '\\x00ff', '2024-02-29', '2024-02-29 01:00:00+02',"
        " '00000000-0000-0000-0000-000000000001', '{\"a\": [1]}', '{1.5,NULL}', '{a,\"b,c\"}')"
    )
    database.run("INSERT INTO t (id, flag, real) VALUES (2, false, 'inf')")
    source = PostgresSource(database.dsn, "t", order="id", stop="now")
    assert [f.name for f in source.schema.fields if not f.nullable] == ["id", "flag", "real"]
    async with Reading(source) as reading:
        first, second = map(tuple, await reading.rows_now())
    moment = datetime.datetime.fromisoformat("2024-02-28 23:00:00")
    assert first == (1, True, 3, 0.5, 12.25, "ä", b"\x00\xff", datetime.date(2024, 2, 29), moment,
                     "00000000-0000-0000-0000-000000000001", '{"a": [1]}', [1.5, None], ["a", "b,c"])  # fmt: skip
    assert second == (2, False, None, float("inf"), *[None] * 9)


@pytest.mark.parametrize("of_type", ["timestamp", "timestamptz", "date"])
@in_loop
async def test_a_time_that_python_has_not_is_told_as_such(database, of_type):
    database.run(f"CREATE TABLE t AS SELECT 1 AS id, 'infinity'::{of_type} AS at")
    async with Reading(PostgresSource(database.dsn, "t", order="id")) as reading:
        with pytest.raises(BadRecordError, match="too large") as raised:
            await reading.rows_now()
    assert "Python has no such value" in raised.value.hint


@dataclasses.dataclass
class Event:
    text: str
    id: float


@in_loop
async def test_a_type_and_a_query(events):
    insert(events, 1, 2, 3)
    source = PostgresSource(events.dsn, query="SELECT * FROM events WHERE id <> 2;", order="at", type=Event, stop="now")
    async with Reading(source) as reading:
        assert await reading.rows_now() == [Event("text 1", 1.0), Event("text 3", 3.0)]
    untyped = PostgresSource(events.dsn, query="SELECT id, 'x' AS x FROM events -- all", order="id")
    assert untyped.schema.names == ("id", "x")
    events.run("UPDATE events SET text = NULL WHERE id = 3")
    async with Reading(source) as reading:
        with pytest.raises(BadRecordError, match="field 'text' is None"):
            await reading.rows_now()


@in_loop
async def test_a_snapshot_taken_without_key_is_not_gone_on_with_by_one(events):
    source = PostgresSource(events.dsn, "events", order="at", key="id")
    async with Reading(source, {"0/1": ["2024-01-01"]}) as reading:
        with pytest.raises(UsageError, match=r"table 'events' has a position of 1 columns, .* now has 2: at, id"):
            await reading.rows_now()


@in_loop
async def test_a_source_waits_for_its_server(events):
    insert(events, 1)
    async with Reading(PostgresSource(events.dsn, "events", order="id")) as reading:
        assert len(await reading.rows_now()) == 1
        events.server.kill()
        task = asyncio.ensure_future(reading.rows_now())
        while not reading.waits:
            await asyncio.sleep(0.01)
        events.server.start()
        insert(events, 2)
        rows = await task or await reading.rows_now()
        assert [row.id for row in rows] == [2]
        assert reading.waits[-1] is None


def test_a_job_reads_a_table_in_parts_and_another_division_is_lost_input(database):
    database.run("CREATE TABLE t AS SELECT i AS id, i * 0.5 AS half FROM generate_series(1, 1000) AS i")

    def job(splits):
        env = StreamEnvironment("job", parallelism=2)
        source = PostgresSource(database.dsn, "t", order="id", stop="now", splits=splits, page_rows=100)
        found = env.source(source).filter(lambda r: r.id > 500).execute_and_collect()
        return sorted((row.id, row.half) for row in found)

    assert job(1) == job(4) == [(i, i * 0.5) for i in range(501, 1001)]
    source = PostgresSource(database.dsn, "t", order="id", splits=4)
    assert source.hint_for_lost("1/2", source.splits()) == "the snapshot was taken with splits=2: give it again"


def test_what_is_wrong_is_found_at_start(events):
    server, dsn = events.server, events.dsn

    def refused(match, dsn=dsn, table="events", **options):
        with pytest.raises(ConnectorError, match=match) as raised:
            PostgresSource(dsn, table, **{"order": "id", **options}).splits()
        assert raised.value.hint

    refused("Connection refused", server.dsn(port=1))
    refused("password authentication failed", server.dsn(user="nobody"))
    refused("has no table 'nothing'", table="nothing")
    refused("column streamcore_rows.when does not exist", order="when")
    refused('column "other" does not exist', type=Schema.of(other=int))
    refused("syntax error", table=None, query="SELEC 1")
    events.run(f"CREATE ROLE {events.name}_other LOGIN PASSWORD 'a password'")
    refused("permission denied for table events", server.dsn(events.name, user=f"{events.name}_other"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "a table or a query"),
        ({"table": "t", "query": "SELECT 1"}, "a table or a query"),
        ({"table": "t", "stop": "later"}, "stop='later' is unknown"),
        ({"table": "t", "every_s": 0.0}, "every_s=0.0"),
        ({"table": "t", "splits": 0}, "splits=0"),
        ({"table": "t", "page_rows": 0}, "page_rows=0"),
        ({"table": "t", "lag_s": -1.0}, "lag_s=-1.0"),
    ],
)
def test_wrong_options_of_a_source_are_refused(options, match):
    with pytest.raises(UsageError, match=match):
        PostgresSource("host=localhost", order="id", **options)
