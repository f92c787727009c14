from mosquitto_server import mosquitto  # noqa: F401 - fixtures
from web_fixtures import service  # noqa: F401
