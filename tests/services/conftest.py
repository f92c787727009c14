from postgres_server import database, numbers, postgres_server, shared_database  # noqa: F401 - fixtures
