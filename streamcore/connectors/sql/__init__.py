"""Databases as sources and sinks: `postgres` (needs the extra of that name) and `sqlite` (needs nothing)."""
