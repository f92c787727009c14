from postgres_server import database, postgres_server  # noqa: F401 - fixtures
