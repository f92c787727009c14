"""SQLite files as a sink; what is there is looked up with the standard library."""

import dataclasses
import datetime
import json
import math
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from streamcore import Checkpointing, StreamEnvironment
from streamcore.batch import Columns, Field, Schema, Vector
from streamcore.connectors.base import JobStart, SinkContext
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.sql.sqlite.sink import SqliteSink
from streamcore.connectors.sql.sqlite.source import SqliteSource
from streamcore.errors import BadRecordError, ConnectorError, FencedError, TopologyError, UsageError

START = JobStart(restored=False, job="test")
NUMBER = Schema.of(n=int)


class File:
    def __init__(self, path):
        self.path = path

    def run(self, statement, *parameters):
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def numbers(self):
        return sorted(n for (n,) in self.run("SELECT n FROM numbers"))

    def waiting(self):
        """The table in which rows wait."""
        ((name,),) = self.run("SELECT name FROM sqlite_master WHERE name LIKE 'streamcore_staged%'")
        return name

    def sink(self, table="numbers", **options):
        sink = SqliteSink(self.path, table, **options)
        sink.prepare_job(START)
        return sink


@pytest.fixture
def file(tmp_path):
    made = File(tmp_path / "numbers.db")
    made.run("CREATE TABLE numbers (n INTEGER)")
    return made


def opened(sink, prepared=(), epoch=1):
    """A writer as the runtime opens it, with the handles of a restored snapshot."""
    writer = sink.writer(SinkContext(0, 1, epoch))
    writer.commit(prepared)
    writer.abort_leftovers(prepared)
    return writer


def rows(*numbers):
    return [{"n": n} for n in numbers]


def test_rows_are_seen_when_their_checkpoint_is_complete(file):
    writer = opened(file.sink())
    writer.write(rows(1, 2))
    writer.flush()
    first = writer.prepare()
    writer.write(rows(3))
    second = writer.prepare()
    assert writer.prepare() == []
    assert file.numbers() == []
    writer.commit(first)
    assert file.numbers() == [1, 2]
    for _ in range(2):  # also when it is done again
        writer.commit(first + second)
        assert file.numbers() == [1, 2, 3]
    assert len(file.run("SELECT * FROM streamcore_transactions")) == 1
    assert file.run(f"SELECT * FROM {file.waiting()}") == []  # noqa: S608
    writer.close()


def test_a_restored_job_commits_what_its_snapshot_has_and_deletes_the_rest(file):
    writer = opened(file.sink())
    writer.write(rows(1))
    handles = writer.prepare()
    writer.write(rows(2))
    writer.prepare()
    writer.write(rows(3))
    writer.flush()
    writer.close()
    for _ in range(2):
        again = opened(file.sink(), handles)
        assert file.numbers() == [1]
        again.write(rows(4))
        again.close()
    assert file.run(f"SELECT * FROM {file.waiting()}") == []  # noqa: S608


def test_rows_that_wait_are_moved_also_when_the_job_has_other_columns_now(file):
    file.run("ALTER TABLE numbers ADD COLUMN text TEXT")
    writer = opened(file.sink(type=NUMBER))
    writer.write(rows(1))
    handles = writer.prepare()
    writer.close()
    writer = opened(file.sink(), handles)
    writer.write([{"n": 2, "text": "two"}])
    writer.commit(writer.prepare())
    writer.close()
    assert file.run("SELECT * FROM numbers ORDER BY n") == [(1, None), (2, "two")]


def test_rows_that_are_gone_are_lost_and_said_to_be(file):
    writer = opened(file.sink())
    writer.write(rows(1, 2))
    handles = writer.prepare()
    writer.close()
    file.run(f"DELETE FROM {file.waiting()} WHERE n = 1")  # noqa: S608
    with pytest.raises(ConnectorError, match=r"rows for table 'numbers' are lost: 2 waited in .*, 1 are there now"):
        opened(file.sink(), handles)
    assert file.numbers() == []  # nothing of it is half done
    file.run(f"DROP TABLE {file.waiting()}")
    with pytest.raises(ConnectorError, match="0 are there now"):
        opened(file.sink(), handles)


def test_the_second_job_with_a_prefix_fences_the_first(file):
    first = opened(file.sink())
    first.write(rows(1))
    handles = first.prepare()
    second = opened(file.sink())
    first.write(rows(2))
    with pytest.raises(FencedError, match="another job writes with the prefix 'test/numbers' now"):
        first.flush()
    with pytest.raises(FencedError):
        first.commit(handles)
    other = opened(file.sink(prefix="other"))
    second.write(rows(3))
    second.commit(second.prepare())
    assert file.numbers() == [3]
    for writer in (first, second, other):
        writer.close()


def test_an_attempt_that_was_given_up_does_not_take_over_from_the_next(file):
    sink = file.sink()
    opened(sink, epoch=2).close()
    with pytest.raises(FencedError):
        opened(sink, epoch=1)


def test_a_row_that_is_refused_leaves_nothing_of_its_checkpoint(file):
    file.run("CREATE UNIQUE INDEX once ON numbers (n)")
    writer = opened(file.sink())
    writer.write(rows(1, 1))
    with pytest.raises(BadRecordError, match="UNIQUE constraint failed"):
        writer.commit(writer.prepare())
    assert file.numbers() == []
    writer.close()


def test_many_rows_are_stored_before_the_barrier(file):
    writer = opened(file.sink())
    direct = file.sink(delivery="at-least-once").writer(SinkContext(0, 1, 1))
    for part in range(5):
        writer.write(Columns.of(n=np.arange(part * 3_000, (part + 1) * 3_000)))
        direct.write(Columns.of(n=np.arange(part * 3_000, (part + 1) * 3_000)))
    assert file.numbers() == list(range(12_000))  # of the direct one; the others wait
    direct.flush()
    assert file.numbers() == list(range(15_000))
    writer.commit(writer.prepare())
    assert file.numbers() == sorted([*range(15_000)] * 2)
    writer.close()
    direct.close()


def test_of_the_values_of_a_key_the_last_one_stays(file):
    sink = file.sink("counts", mode="upsert", key=["a", "b"], type=Schema.of(a=int, b=str, v=float), create=True)
    writer = sink.writer(SinkContext(0, 1, 1))
    generator, wanted = np.random.default_rng(5), {}
    for _ in range(10):
        a, b, v = generator.integers(0, 9, 50), list(map(str, generator.integers(0, 3, 50))), generator.random(50)
        wanted.update(zip(zip(a.tolist(), b, strict=True), v.tolist(), strict=True))
        writer.write(Columns.of(a=a, b=pa.array(b), v=v))
        if generator.random() < 0.3:
            writer.flush()
    writer.flush()
    writer.close()
    assert {(a, b): v for a, b, v in file.run("SELECT a, b, v FROM counts")} == wanted


def test_an_upsert_of_keys_alone_leaves_them(file):
    file.run("CREATE UNIQUE INDEX once ON numbers (n)")
    writer = file.sink(mode="upsert", key="n").writer(SinkContext(0, 1, 1))
    writer.write(rows(1, 2, 1))
    writer.flush()
    assert file.numbers() == [1, 2]
    writer.close()


@dataclasses.dataclass
class Everything:
    flag: bool
    n: np.int32
    x: float
    text: str
    data: bytes
    at: datetime.datetime
    day: datetime.date
    maybe: float | None
    vector: Vector(2)


def test_every_type_is_written_into_a_table_made_for_it(file):
    sink = file.sink('odd "name"', type=Everything, create=True, delivery="at-least-once")
    writer = sink.writer(SinkContext(0, 1, 1))
    moment = datetime.datetime.fromisoformat("2024-02-29 01:02:03.000004")
    writer.write([Everything(True, -1, math.inf, "ä\0b", b"\0", moment, moment.date(), None, [1.0, 0.5])])
    writer.flush()
    writer.close()
    (row,) = file.run('SELECT * FROM "odd ""name"""')
    times = ("2024-02-29 01:02:03.000004", "2024-02-29")
    assert row == (1, -1, math.inf, "ä\0b", b"\0", *times, None, json.dumps([1.0, 0.5]))
    types = "SELECT name, type || iif(\"notnull\", ' NOT NULL', '') FROM pragma_table_info(?)"
    types = dict(file.run(types, 'odd "name"'))
    assert types["maybe"] == "REAL"
    assert types["flag"] == "BOOLEAN NOT NULL"


def test_lists_and_structures_come_back(file):
    structure = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))])
    schema = Schema(
        (Field("id", pa.int64()), Field("list", pa.list_(pa.float64()), True), Field("structure", structure))
    )
    rows = [(1, [1.5, None], {"a": 1, "b": ["x", None]}), (2, None, {"a": 2, "b": []})]
    env = StreamEnvironment("job")
    env.from_values([dict(zip(schema.names, row, strict=True)) for row in rows]).sink(
        file.sink("t", type=schema, create=True, delivery="at-least-once")
    )
    env.execute()
    env = StreamEnvironment("job")
    stream = env.source(SqliteSource(file.path, "t", order="id", type=schema, stop="now"))
    assert list(map(tuple, stream.execute_and_collect())) == rows


@pytest.mark.parametrize("type_", [pa.list_(pa.binary()), pa.struct([("a", pa.date32())]), pa.time64("us"),
                                   pa.duration("us"), pa.map_(pa.string(), pa.int64())])  # fmt: skip
def test_a_field_without_form_in_sqlite_is_refused_at_start(file, type_):
    with pytest.raises(UsageError, match=r"field 'v' of type .* can't be written to SQLite"):
        file.sink("t", type=Schema((Field("v", type_),)), create=True)


def test_times_in_nanoseconds_are_written_if_they_are_not_finer_than_microseconds(file):
    schema = Schema((Field("at", pa.timestamp("ns")),))
    writer = file.sink("t", type=schema, create=True, delivery="at-least-once").writer(SinkContext(0, 1, 1))
    writer.write(Columns.of(at=pa.array([1_000], pa.timestamp("ns"))))
    writer.flush()
    assert file.run("SELECT at FROM t") == [("1970-01-01 00:00:00.000001",)]
    with pytest.raises(BadRecordError, match="finer than microseconds"):
        writer.write(Columns.of(at=pa.array([1], pa.timestamp("ns"))))
    writer.close()


def test_a_job_writes_each_row_once(file):
    env = StreamEnvironment("job", parallelism=2, checkpoint=Checkpointing("memory://sqlite-sink", interval=0.02))
    stream = env.source(GeneratorSource(lambda a, b: [{"n": n} for n in range(a, b)], count=2_000, rate=10_000))
    stream.sink(SqliteSink(file.path, "numbers"))
    env.execute()
    assert file.numbers() == list(range(2_000))
    assert file.run("SELECT prefix FROM streamcore_owners") == [("job/numbers",)]


def test_what_is_wrong_is_found_at_start(file, tmp_path):
    def refused(match, path=file.path, table="numbers", **options):
        with pytest.raises(ConnectorError, match=match) as raised:
            SqliteSink(path, table, **options).prepare_job(START)
        assert raised.value.hint

    refused("unable to open", path=tmp_path / "nowhere" / "x.db")
    refused("has no table 'nothing'", table="nothing")
    refused("no column named other", type=Schema.of(n=int, other=int))
    refused("ON CONFLICT clause does not match", mode="upsert", key="n")
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(ConnectorError, match="file is not a database"):
        SqliteSink(tmp_path / "text.db", "numbers").prepare_job(START)


def test_a_file_that_somebody_else_writes_to_for_long_is_an_error(file, monkeypatch):
    monkeypatch.setattr("streamcore.connectors.sql.sqlite.sink._WAIT_S", 0.01)
    writer = file.sink(delivery="at-least-once").writer(SinkContext(0, 1, 1))
    writer.write(rows(1))
    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConnectorError, match="database is locked") as raised:
            writer.flush()
        assert "transaction left open" in raised.value.hint
        other.execute("ROLLBACK")
    writer.flush()
    writer.close()
    assert file.numbers() == [1]


def test_records_that_do_not_fit_are_refused(file):
    writer = file.sink(delivery="at-least-once", type=Schema.of(n=np.uint64)).writer(SinkContext(0, 1, 1))
    with pytest.raises(BadRecordError, match="has no field 'n'"):
        writer.write([{"m": 1}])
    with pytest.raises(TopologyError, match="there is no column 'n'"):
        writer.write(Columns.of(m=np.arange(3)))
    writer.write(rows(2**63))
    with pytest.raises(BadRecordError, match="too large"):
        writer.flush()
    writer.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "merge"}, "mode='merge' is unknown"),
        ({"delivery": "once"}, "delivery='once' is unknown"),
        ({"mode": "upsert"}, "key="),
        ({"key": "n"}, "key="),
        ({"mode": "upsert", "key": "n", "delivery": "exactly-once"}, "written at least once"),
        ({"create": True}, "needs the type"),
        ({"type": int}, "no columns"),
    ],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(UsageError, match=match):
        SqliteSink("x.db", "t", **options)
