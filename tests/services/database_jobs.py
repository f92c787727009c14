"""The topologies of the crash tests with databases."""

from streamcore import StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.sql.postgres.sink import PostgresSink
from streamcore.connectors.sql.postgres.source import PostgresSource
from streamcore.connectors.sql.sqlite.sink import SqliteSink

KEYS = 7


def rows(start, stop):
    return [{"n": n, "key": n % KEYS} for n in range(start, stop)]


def copies(env: StreamEnvironment, *, output: str, dsn: str, records: int, rate: float) -> None:
    """Every number into tables of PostgreSQL and of SQLite, and how often each key came, upserted; and what others
    write into one table, polled in two parts, into another. Without end."""
    stream = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    stream.sink(PostgresSink(dsn, "numbers", prefix="numbers")).uid("numbers")
    stream.sink(SqliteSink(f"{output}.db", "numbers")).uid("sqlite")
    counts = stream.key_by(lambda r: r["key"]).count().uid("counts")
    named = counts.map(lambda pair: {"key": pair[0], "count": pair[1]})
    named.sink(PostgresSink(dsn, "counts", mode="upsert", key="key")).uid("upserts")
    events = PostgresSource(dsn, "events", order="id", every_s=0.01, splits=2, page_rows=50)
    env.source(events).uid("events").sink(PostgresSink(dsn, "copies")).uid("copies")
