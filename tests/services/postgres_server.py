"""A real PostgreSQL server as a process: that of the distribution's package `postgresql`."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from tests.process.process_harness import is_alive, until

PACKAGES = Path("/usr/lib/postgresql")
USER, PASSWORD = "streamcore", "a password"
START_S = 30.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_prepared_transactions": 20,
    "max_connections": 60,
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "log_min_messages": "warning",
    "fsync": "off",
    "full_page_writes": "off",
}


def programs():
    """The directory with `initdb` and `postgres`; a machine without them can't run these tests, and says so."""
    found = sorted(PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found and (path := shutil.which("initdb")):
        found = [Path(path).resolve()]
    if not found:
        pytest.fail("there is no PostgreSQL server here; install it with: apt-get install postgresql", pytrace=False)
    return found[-1].parent


def free_port():
    import socket

    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class PostgresServer:
    """A server with its own data in a temporary directory; it keeps its address when it is started again.

    What is committed survives `kill`, a crash of the processes:
    without fsync it wouldn't survive a crash of the machine, which isn't what is tested.
    """

    def __init__(self):
        self._programs = programs()
        self._directory = Path(tempfile.mkdtemp(prefix="sc-pg-", dir="/tmp"))
        self.port = free_port()
        self._process = None
        # PostgreSQL refuses to run as root
        self._become = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if self._become:
            shutil.chown(self._directory, "nobody", "nogroup")
        password = self._directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", "data", "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    def dsn(self, database="postgres", **other):
        parameters = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": database}
        return psycopg.conninfo.make_conninfo(**{**parameters, **other})

    def start(self, **settings):
        """Starts the server, unless it runs, and waits until it answers; `settings` are those of postgresql.conf."""
        if self._process is not None:
            return self
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, **settings}.items()]
        options += [f"-cport={self.port}", f"-cunix_socket_directories={self._directory}"]
        with (self._directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._become, self._programs / "postgres", "-D", "data", *options],
                cwd=self._directory, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while True:
            with suppress(psycopg.OperationalError), psycopg.connect(self.dsn(), connect_timeout=2):
                return self
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, f"the server doesn't answer:\n{self.log}"
            time.sleep(0.02)

    def kill(self):
        """kill -9 of the server and all its processes."""
        if self._process is not None:
            pid = self._process.pid
            self._process.send_signal(signal.SIGSTOP)  # so that it starts no others meanwhile
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            for number in [pid, *children]:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            self._process.wait()
            # while one of them holds the shared memory, the server doesn't start again
            until(lambda: not any(map(is_alive, children)), "its processes are gone")
            (self._directory / "data" / "postmaster.pid").unlink(missing_ok=True)
            self._process = None

    def stop(self):
        """Stops the server in good order: what it has done is on disk, so that it may start with other settings."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._process = None

    def remove(self):
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def log(self):
        return (self._directory / "log.txt").read_text(errors="replace")[-3000:]

    def _run(self, program, *arguments):
        done = subprocess.run(
            [*self._become, self._programs / program, *arguments],
            cwd=self._directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


class Database:
    """An empty database of a server, and an independent connection to it."""

    name = "test"

    def __init__(self, server):
        self.server = server
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.name}")

    @property
    def dsn(self):
        return self.server.dsn(self.name)

    def run(self, statement, *parameters):
        """Runs one statement in a connection of its own; the rows, if it gives any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def clear(self):
        """Makes it as it was: nobody connected, nothing prepared, no tables."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
        for (gid,) in self.run("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            self.run(f"ROLLBACK PREPARED '{gid}'")
        for (schema,) in self.run(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$'"
        ):
            self.run(f'DROP SCHEMA "{schema}" CASCADE')
        self.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC")


@pytest.fixture(scope="session")
def postgres_server():
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def shared_database(postgres_server):
    return Database(postgres_server)


@pytest.fixture
def database(postgres_server, shared_database):
    """An empty database; its server may be killed, and runs again after the test."""
    yield shared_database
    postgres_server.start()
    shared_database.clear()


@pytest.fixture
def numbers(database):
    """The same with a table."""
    database.run("CREATE TABLE numbers (n bigint)")
    return database
