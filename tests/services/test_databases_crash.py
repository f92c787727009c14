"""A job on databases is killed with -9, and the server too: an independent query finds every row once."""

import sqlite3
import threading
from collections import Counter
from contextlib import closing

import psycopg
import pytest
from database_jobs import KEYS

from tests.process.process_harness import Runs, until

JOBS = "tests/services/database_jobs.py"
RECORDS, EVENTS = 6_000, 600
NUMBERS = [(n, n % KEYS) for n in range(RECORDS)]


@pytest.fixture
def runs(tmp_path):
    made = Runs(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def databases(database, tmp_path):
    database.run("CREATE TABLE numbers (n bigint, key bigint)")
    database.run("CREATE TABLE counts (key bigint PRIMARY KEY, count bigint)")
    database.run("CREATE TABLE events (id bigserial PRIMARY KEY, text text NOT NULL)")
    database.run("CREATE TABLE copies (id bigint, text text)")
    with closing(sqlite3.connect(tmp_path / "out.db")) as lite:
        lite.execute("CREATE TABLE numbers (n INTEGER, key INTEGER)")
    return database


class Writing(threading.Thread):
    """Somebody who writes events one at a time, whatever happens to the server: in a transaction of which it isn't
    known whether it was committed, the id tells."""

    def __init__(self, database):
        super().__init__()
        self._database = database
        self.is_over = threading.Event()

    def run(self):
        done = 0
        while done < EVENTS and not self.is_over.is_set():
            try:
                with psycopg.connect(self._database.dsn, autocommit=True) as connection:
                    done = connection.execute("SELECT count(*) FROM events").fetchone()[0]
                    while done < EVENTS and not self.is_over.wait(0.008):
                        connection.execute("INSERT INTO events (text) VALUES (%s)", [f"text {done}"])
                        done += 1
            except psycopg.OperationalError:
                self.is_over.wait(0.05)


def start(runs, database, restore=None):
    return runs.start("copies", "--workers", "1", "--parallelism", "2", restore=restore, target=JOBS,
                      dsn=database.dsn, records=RECORDS, rate=2_000)  # fmt: skip


def test_every_row_is_there_once_after_kills_of_the_server_and_the_job(runs, databases, tmp_path):
    def count(table):
        return databases.run(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608

    def in_sqlite():
        with closing(sqlite3.connect(tmp_path / "out.db")) as lite:
            return sorted(lite.execute("SELECT n, key FROM numbers"))

    def until_rows(numbers, copies):
        wanted = f"{numbers} rows and {copies} copies"
        until(
            lambda: run.process.poll() is not None or (count("numbers") >= numbers and count("copies") >= copies),
            wanted,
        )
        assert run.process.poll() is None, run.text

    writing = Writing(databases)
    writing.start()
    try:
        run = start(runs, databases)
        until_rows(100, 20)
        databases.server.kill()
        run.wait_for("can't be reached; waiting for it")
        databases.server.start()
        run.wait_for("can be reached again")
        until_rows(min(count("numbers") + 1, RECORDS), min(count("copies") + 1, EVENTS))
        run.kill()
        run = start(runs, databases, "latest")
        until_rows(RECORDS, EVENTS)
        until(lambda: databases.run("SELECT sum(count) FROM counts") == [(RECORDS,)], "all are counted")
        until(lambda: len(in_sqlite()) >= RECORDS, "all are in SQLite")
    finally:
        writing.is_over.set()
        writing.join()
        run.kill()
    assert sorted(databases.run("SELECT n, key FROM numbers")) == NUMBERS
    assert dict(databases.run("SELECT key, count FROM counts")) == Counter(key for _, key in NUMBERS)
    events = databases.run("SELECT id, text FROM events ORDER BY id")
    assert len(events) == EVENTS
    assert sorted(databases.run("SELECT id, text FROM copies")) == events
    assert in_sqlite() == NUMBERS
