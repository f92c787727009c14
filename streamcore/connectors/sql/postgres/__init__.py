"""PostgreSQL tables as sources (`source.PostgresSource`) and sinks (`sink.PostgresSink`)."""

from streamcore.errors import UsageError

try:
    import psycopg  # noqa: F401 - that it is there; the modules of this package take it for granted
except ImportError as error:
    raise UsageError(f"PostgreSQL needs psycopg: {error}", hint="pip install 'streamcore[postgres]'") from error
