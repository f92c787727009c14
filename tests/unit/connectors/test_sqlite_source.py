"""SQLite files as a source, polled for changes."""

import dataclasses
import datetime
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import StreamEnvironment
from streamcore.batch import Schema, Vector, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.sql.sqlite.source import SqliteSource
from streamcore.errors import BadRecordError, ConnectorError, UsageError


class Reading:
    """Reads as the runtime does, on a clock of its own."""

    def __init__(self, source, offset=None):
        self.clock = 0.0
        context = ReaderContext(lambda: None, lambda: self.clock, report_bad=lambda _: None)
        (split,) = source.splits()
        self.reader = source.reader(split, offset, context)

    def rows_now(self, limit=1000):
        """What is read until the reader has ended or waits for the time of its next poll."""
        rows = []
        while not self.reader.exhausted:
            batch = self.reader.poll(limit)
            if batch is None:
                break
            assert 0 < len(batch) <= limit
            rows += to_rows(batch)
        return rows


@pytest.fixture
def connection(tmp_path):
    with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as made:
        made.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, at TEXT NOT NULL, x REAL)")
        yield made


@pytest.fixture
def path(connection, tmp_path):
    return tmp_path / "events.db"


def insert(connection, *ids):
    connection.executemany("INSERT INTO events VALUES (?, ?, ?)", [(n, f"2024-01-01 00:00:{n:02}", n / 2) for n in ids])


def test_new_rows_are_found_by_polling(connection, path):
    reading = Reading(SqliteSource(path, "events", order="id", every_s=3.0))
    assert reading.rows_now() == []
    assert reading.reader.wake_at == 3.0
    insert(connection, 1, 2)
    assert reading.rows_now(1) == [(1, "2024-01-01 00:00:01", 0.5), (2, "2024-01-01 00:00:02", 1.0)]
    insert(connection, 4, 3)
    assert [row.id for row in reading.rows_now()] == [3, 4]
    assert reading.reader.offset == [4]
    reading.reader.close()


def test_a_bounded_source_ends_with_the_rows_of_the_start(connection, path):
    source = SqliteSource(path, "events", order="id", stop="now")
    empty = Reading(source)
    insert(connection, *range(10))
    reading = Reading(source)
    insert(connection, 20)
    assert empty.rows_now() == []
    assert [row.id for row in reading.rows_now(3)] == list(range(10))
    assert empty.reader.exhausted
    assert reading.reader.exhausted
    empty.reader.close()
    reading.reader.close()


CHANGES = st.lists(
    st.dictionaries(st.integers(0, 9), st.integers(0, 2), max_size=6).map(lambda d: list(d.items())), max_size=6
)


@given(CHANGES, st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_every_version_that_is_there_at_a_poll_is_read_once(tmp_path_factory, changes, limit):
    """Keys get new versions, many with the same order; a new reader goes on each time."""
    path = Path(tmp_path_factory.mktemp("db")) / "x.db"
    version, offset = 0, None
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER)")
        source = SqliteSource(path, "t", order="v", key="k")
        for change in changes:
            wanted = [(key, version + step) for key, step in change]
            connection.executemany("INSERT INTO t VALUES (?, ?) ON CONFLICT DO UPDATE SET v = excluded.v", wanted)
            version += 3
            reading = Reading(source, offset)
            found = [tuple(row) for row in reading.rows_now(limit)]
            offset = reading.reader.offset
            reading.reader.close()
            assert found == sorted(wanted, key=lambda pair: (pair[1], pair[0]))


@dataclasses.dataclass
class Event:
    at: datetime.datetime
    good: bool
    day: datetime.date | None
    vector: Vector(2)


def test_a_type_reads_times_from_texts_and_vectors_from_json(connection, path):
    insert(connection, 1, 2)
    query = (
        "SELECT at, id > 1 AS good, iif(id > 1, '2024-02-29', NULL) AS day, '[1, 0.5]' AS vector, id FROM events -- all"
    )
    reading = Reading(SqliteSource(path, query=query, order="id", type=Event, stop="now"))
    first, second = reading.rows_now()
    assert (first.at, first.good, first.day) == (datetime.datetime.fromisoformat("2024-01-01 00:00:01"), False, None)
    assert (second.good, second.day, list(second.vector)) == (True, datetime.date(2024, 2, 29), [1.0, 0.5])
    reading.reader.close()


def test_columns_have_the_types_that_they_are_declared_with(connection, path):
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BIGINT NOT NULL, c BOOLEAN NOT NULL, d NUMERIC(3, 1),"
                       " e VARCHAR(9), f BLOB, g DATETIME)")  # fmt: skip
    connection.execute("INSERT INTO t VALUES (1, 2, 1, 2.5, 'x', x'00', '2024-01-01')")
    connection.execute("INSERT INTO t (a, b, c) VALUES (2, 2, 0)")
    source = SqliteSource(path, "t", order="a", stop="now")
    assert [str(f) for f in source.schema.fields] == [
        "a: int64", "b: int64", "c: bool", "d: double?", "e: string?", "f: binary?", "g: string?",
    ]  # fmt: skip
    reading = Reading(source)
    assert reading.rows_now() == [
        (1, 2, True, 2.5, "x", b"\0", "2024-01-01"), (2, 2, False, None, None, None, None),
    ]  # fmt: skip
    reading.reader.close()


def test_a_boolean_may_be_a_text(connection, path):
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, good BOOLEAN)")
    connection.executemany("INSERT INTO t (good) VALUES (?)", [["false"], ["TRUE"], [0], [1.0], [None]])
    reading = Reading(SqliteSource(path, "t", order="id", stop="now"))
    assert [row.good for row in reading.rows_now()] == [False, True, False, True, None]
    reading.reader.close()
    connection.execute("INSERT INTO t (good) VALUES ('perhaps')")
    reading = Reading(SqliteSource(path, "t", order="id", stop="now"))
    with pytest.raises(BadRecordError, match="'perhaps' is neither true nor false"):
        reading.rows_now()
    reading.reader.close()


def test_a_value_of_another_type_is_refused(connection, path):
    connection.execute("INSERT INTO events VALUES (1, 'soon', 'much')")
    reading = Reading(SqliteSource(path, "events", order="id"))
    with pytest.raises(BadRecordError, match="field 'x' is 'much', not double"):
        reading.rows_now()
    reading.reader.close()
    reading = Reading(SqliteSource(path, "events", order="id", type=Schema.of(at=datetime.datetime)))
    with pytest.raises(BadRecordError, match=r"a value can't be read: .*'soon'"):
        reading.rows_now()
    reading.reader.close()


def test_a_reader_waits_while_somebody_writes(connection, path):
    insert(connection, 1)
    reading = Reading(SqliteSource(path, "events", order="id"))
    connection.execute("BEGIN EXCLUSIVE")
    assert reading.rows_now() == []
    assert 0 < reading.reader.wake_at < 0.1
    connection.execute("COMMIT")
    assert [row.id for row in reading.rows_now()] == [1]
    reading.reader.close()


def test_a_reader_is_made_while_somebody_writes(connection, path):
    insert(connection, 1)
    source = SqliteSource(path, "events", order="id")
    (split,) = source.splits()
    connection.execute("BEGIN EXCLUSIVE")
    with closing(source.reader(split, None, ReaderContext(lambda: None, lambda: 0.0, lambda _: None))) as reader:
        assert reader.poll(10) is None
        connection.execute("COMMIT")
        assert len(reader.poll(10)) == 1


def test_a_job_reads_a_table(connection, path):
    insert(connection, *range(50))
    env = StreamEnvironment("job", parallelism=2)
    stream = env.source(SqliteSource(path, "events", order="id", stop="now")).filter(lambda r: r.id > 20)
    assert sorted(row.id for row in stream.execute_and_collect()) == list(range(21, 50))


def test_what_is_wrong_is_found_at_start(connection, path, tmp_path):
    def refused(match, path=path, table="events", **options):
        with pytest.raises(ConnectorError, match=match) as raised:
            SqliteSource(path, table, **{"order": "id", **options}).splits()
        assert raised.value.hint

    refused("unable to open database file", path=tmp_path / "none.db")
    refused("has no table 'nothing'", table="nothing")
    refused("there is no column 'when'", order="when")
    refused("there is no column 'other'", type=Schema.of(other=int))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "a table or a query"),
        ({"table": "t", "query": "SELECT 1"}, "a table or a query"),
        ({"query": "SELECT 1 AS id"}, "give type"),
        ({"table": "t", "stop": "later"}, "stop='later' is unknown"),
        ({"table": "t", "every_s": 0.0}, "every_s=0.0"),
        ({"table": "t", "type": int}, "has no columns"),
    ],
)
def test_wrong_options_of_a_source_are_refused(options, match):
    with pytest.raises(UsageError, match=match):
        SqliteSource("x.db", order="id", **options)
