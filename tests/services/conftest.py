from mosquitto_server import mosquitto  # noqa: F401 - fixtures
from postgres_server import database, numbers, postgres_server, shared_database  # noqa: F401
from web_fixtures import service  # noqa: F401
