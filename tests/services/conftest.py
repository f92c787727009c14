from postgres_server import database, postgres_server, shared_database  # noqa: F401 - fixtures
