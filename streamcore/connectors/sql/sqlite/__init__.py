"""SQLite tables as sources (`source.SqliteSource`) and sinks (`sink.SqliteSink`)."""
