"""What the PostgreSQL sink writes to a real server, and what it refuses."""

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
from postgres_rig import TIMEOUT_S, Writing, appending, in_table, prepared_now, ready

from streamcore import Checkpointing, Schema, StreamEnvironment
from streamcore.batch import Columns, Field, Vector
from streamcore.connectors.base import SinkContext
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.sql.postgres.sink import PostgresSink
from streamcore.errors import BadRecordError, ConnectorError, JobFailedError, UsageError

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


NOON = datetime.datetime(2024, 7, 1, 12, 0, 0, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("column", "type_", "value", "stored"),
    [
        ("bytea", pa.binary(2), b"\\x", b"\\x"),
        ("bytea[]", pa.list_(pa.binary()), [b"\x00\xff", b"a,b", None], [b"\x00\xff", b"a,b", None]),
        ("bigint[]", pa.list_(pa.list_(pa.int64())), [[1, 2], [3, None]], [[1, 2], [3, None]]),
        ("text[]", pa.list_(pa.list_(pa.string())), [["a'", 'b"'], ["{", "NULL"]], [["a'", 'b"'], ["{", "NULL"]]),
        ("timestamp", pa.timestamp("us", "Europe/Berlin"), NOON, NOON.replace(tzinfo=None)),
        ("timestamptz", pa.timestamp("us", "Europe/Berlin"), NOON, NOON),
        ("timestamp[]", pa.list_(pa.timestamp("us", "Europe/Berlin")), [NOON], [NOON.replace(tzinfo=None)]),
        ("time", pa.time64("us"), datetime.time(1, 2, 3), datetime.time(1, 2, 3)),
        ("boolean[]", pa.list_(pa.bool_()), [True, False], [True, False]),
    ],
)
@in_loop
async def test_what_is_stored_is_what_was_written(database, column, type_, value, stored):
    database.run(f"CREATE TABLE t (v {column})")
    async with Writing(ready(PostgresSink(database.dsn, "t", delivery="at-least-once"))) as w:
        w.writer.write(Columns.of(v=pa.array([value], type_)))
        await w.prepare()
    assert database.run("SELECT v FROM t") == [(stored,)]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (pa.struct([("a", pa.int64())]), {"a": 5}),
        (pa.list_(pa.struct([("a", pa.int64())])), [{"a": 5}]),
        (pa.map_(pa.string(), pa.int64()), [("a", 5)]),
        (pa.duration("us"), datetime.timedelta(seconds=90)),
    ],
)
@in_loop
async def test_what_postgresql_would_read_as_something_else_is_refused(database, type_, value):
    database.run("CREATE TABLE t (v text)")
    sink = ready(PostgresSink(database.dsn, "t", delivery="at-least-once"))
    async with Writing(sink) as w:
        with pytest.raises(UsageError, match=r"field 'v' of type .* can't be written to PostgreSQL"):
            w.writer.write(Columns.of(v=pa.array([value], type_)))
    with pytest.raises(UsageError, match=r"field 'v' of type .* can't be written to PostgreSQL"):
        ready(PostgresSink(database.dsn, "t", type=Schema((Field("v", type_),)), delivery="at-least-once"))


@in_loop
async def test_a_nul_is_refused_in_lists_too(database):
    database.run("CREATE TABLE t (v text[])")
    async with Writing(ready(PostgresSink(database.dsn, "t", delivery="at-least-once"))) as w:
        with pytest.raises(BadRecordError, match="NUL"):
            w.write({"v": ["a", "\0"]})


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


def test_rights_that_only_the_first_row_needs_are_found_at_start(numbers):
    user = f"{numbers.name}_writer"
    numbers.run(f"CREATE ROLE {user} LOGIN PASSWORD 'a password'")
    writer = numbers.server.dsn(numbers.name, user=user)
    numbers.run("CREATE TABLE t (id serial PRIMARY KEY, other bigint GENERATED ALWAYS AS IDENTITY, n bigint UNIQUE)")
    numbers.run(f"GRANT SELECT, INSERT, UPDATE ON t TO {user}")
    number = {"delivery": "at-least-once", "type": Schema.of(n=int)}
    refused("permission denied for sequence public.t_id_seq: USAGE", writer, "t", **number)
    numbers.run(f"GRANT USAGE ON SEQUENCE t_id_seq TO {user}")
    ready(PostgresSink(writer, "t", **number))
    numbers.run(f"REVOKE TEMPORARY ON DATABASE {numbers.name} FROM PUBLIC")
    try:
        ready(PostgresSink(writer, "t", **number))
        refused("permission denied for the database: TEMPORARY", writer, "t", **number, mode="upsert", key="n")
    finally:
        numbers.run(f"GRANT TEMPORARY ON DATABASE {numbers.name} TO PUBLIC")
    ready(PostgresSink(writer, "t", **number, mode="upsert", key="n"))


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
    "conninfo",
    [
        "host=localhost password=my secret",
        "postgresql://me:%secret@localhost/db",
        "postgresql://me:pass@secret@localhost/db",
        "postgresql://me:pass/secret@localhost/db",
    ],
)
def test_no_part_of_a_password_is_told_when_the_connection_string_is_wrong(conninfo):
    with pytest.raises(UsageError, match="can't be understood") as raised:
        PostgresSink(conninfo, "t")
    assert "secret" not in f"{raised.value}{raised.value.hint}"


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
