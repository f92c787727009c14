"""Databases as sources and sinks: PostgreSQL (`postgres_source`, `postgres_sink`; the extra `postgres`) and SQLite
(`sqlite_source`, `sqlite_sink`; nothing to install)."""
