import re
import uuid

import pytest
from broker import Broker
from secured import SecuredBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """One broker for all tests that leave it alone: it is never stopped or killed."""
    made = Broker(tmp_path_factory.mktemp("broker")).start()
    yield made
    made.kill9()


@pytest.fixture
def fresh_broker(tmp_path):
    """A broker of the test's own, to stop, kill and start again."""
    made = Broker(tmp_path / "broker").start()
    yield made
    made.kill9()


@pytest.fixture(scope="session")
def secured_broker(tmp_path_factory):
    """One broker with TLS, passwords and rights for all tests that leave it alone; see `SecuredBroker`."""
    made = SecuredBroker(tmp_path_factory.mktemp("secured-broker")).start()
    yield made
    made.kill9()


@pytest.fixture
def topic(request):
    """A topic name of the test's own; the test makes the topic, with as many partitions as it wants."""
    return f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', request.node.name)[:80]}-{uuid.uuid4().hex[:8]}"
