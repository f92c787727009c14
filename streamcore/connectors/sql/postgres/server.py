"""Which PostgreSQL server and database, how to connect to it, and what its errors mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from streamcore.errors import BadRecordError, ConnectorError, StreamcoreError, UsageError

_SESSION = {
    "connect_timeout": "5",
    "application_name": "streamcore",
    # a server whose machine is gone is found out within about 20 s
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# a transaction is open from one checkpoint to the next, whatever limits the server sets for others
_OPTIONS = (
    "-c timezone=UTC -c datestyle=ISO -c client_encoding=UTF8"
    " -c idle_in_transaction_session_timeout=0 -c statement_timeout=0"
)
_NOT_NOW = ("starting up", "shutting down", "in recovery", "not yet accepting", "too many", "connection slots")
_OUTAGES = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
)
_TRANSACTION_TIMEOUT = "25P04"  # of PostgreSQL 17; psycopg may be older
_HINTS: dict[type[Exception], str] = {
    errors.UndefinedTable: "create it, or give create=True to a sink with a type",
    errors.UndefinedColumn: "the fields of the records must be columns of the table",
    errors.InsufficientPrivilege: "GRANT the user what it needs: SELECT to read; INSERT to append; SELECT, INSERT, "
    "UPDATE and TEMPORARY to upsert; CREATE on the schema for the tables of streamcore",
    errors.InvalidColumnReference: "an upsert needs a primary key or a unique index on exactly the columns of `key`",
    errors.OutOfMemory: "raise max_prepared_transactions: two for each subtask of the sink, and some to spare",
    errors.UndefinedFunction: "is the column of the type that it is compared with?",
}


@dataclasses.dataclass(frozen=True)
class Server:
    """One database of a server.

    Args:
        conninfo: a connection string or URL as libpq takes it: `postgresql://user@host/database?sslmode=require`, or
            `host=... dbname=...`. Parameters it lacks come from the environment (PGHOST, PGPASSWORD, ...).

    Raises:
        UsageError: the connection string can't be understood. What it says isn't told, as it may be a password.
    """

    conninfo: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        hint = (
            "such as postgresql://user:password@host:5432/database; in a URL's password write @ as %40, : as %3A,"
            " / as %2F, % as %25"
        )
        try:
            given = conninfo_to_dict(self.conninfo)
        except psycopg.ProgrammingError:
            raise UsageError("the connection string can't be understood", hint=hint) from None
        # the rest of a password with an @ or a / in it
        for name in ("host", "port", "dbname"):
            if "@" in str(given.get(name, "")):
                raise UsageError(f"the connection string can't be understood: there is an @ in its {name}", hint=hint)

    def __str__(self) -> str:
        given = self._parameters
        host = given.get("host") or given.get("hostaddr") or "localhost"
        return f"PostgreSQL at {host}:{given.get('port') or 5432}/{given.get('dbname') or ''}".rstrip("/")

    @property
    def _parameters(self) -> dict[str, Any]:
        """What the string says, over what libpq finds in the environment, over our own."""
        known = {
            option.keyword.decode(): option.val.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.val
        }
        given = {**known, **conninfo_to_dict(self.conninfo)}
        ours = {name: value for name, value in _SESSION.items() if name not in conninfo_to_dict(self.conninfo)}
        return {**given, **ours, "options": f"{_OPTIONS} {given.get('options') or ''}".strip()}

    def connect(self) -> psycopg.Connection:
        """A blocking connection that commits by itself.

        Raises:
            ConnectorError: the server isn't there or doesn't let us in.
        """
        try:
            return psycopg.connect(make_conninfo(**self._parameters), autocommit=True)
        except psycopg.Error as error:
            raise self.explain(error, "connect") from error

    async def connect_async(self) -> psycopg.AsyncConnection:
        """A connection for the event loop that commits by itself.

        Raises:
            psycopg.Error: see `is_outage` and `explain`.
        """
        return await psycopg.AsyncConnection.connect(make_conninfo(**self._parameters), autocommit=True)

    def explain(self, error: psycopg.Error, what: str) -> StreamcoreError:
        """The error as one for users: `what` could not be done, such as "write to table x".

        A row that the database refuses is a BadRecordError: doing it again wouldn't help.
        """
        reason = str(error).strip()
        first, _, rest = reason.partition("\n")
        detail = error.diag.message_detail
        where = f"can't {what}: {self}: {first.removeprefix('connection failed: ')}"
        if isinstance(error, psycopg.DataError) and error.sqlstate is None:  # raised here, by who reads the answer
            hint = "Python has no such value: leave such rows out by a query, or cast the column to text"
            return BadRecordError(where, hint=hint)
        if isinstance(error, errors.DataError | errors.IntegrityError):
            return BadRecordError(f"{where}{f' ({detail})' if detail else ''}", hint="the database refuses a row")
        for kind, hint in _HINTS.items():
            if isinstance(error, kind):
                return ConnectorError(where, hint=hint)
        return ConnectorError(where, hint=_hint_by_text(first) if isinstance(error, psycopg.OperationalError) else rest)


def is_outage(error: BaseException) -> bool:
    """Whether the server can't be reached just now: something to wait for."""
    if isinstance(error, _OUTAGES):
        return True
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    state = error.sqlstate
    if state is not None:
        return state.startswith("08") or state == _TRANSACTION_TIMEOUT
    # of a connection that was refused psycopg tells the text only
    text = str(error)
    return "FATAL:" not in text or any(words in text for words in _NOT_NOW)


def is_collision(error: psycopg.Error) -> bool:
    """Whether the server rolled back because of what others did at the same time: doing it again helps."""
    return (error.sqlstate or "").startswith("40")


def _hint_by_text(text: str) -> str:
    if "password" in text or "authentication" in text or "pg_hba" in text:
        return "check user and password, and that pg_hba.conf lets them in from here"
    if "does not exist" in text:
        return "check the names of the database and of the user"
    return "is the server there, and is this its address?"
