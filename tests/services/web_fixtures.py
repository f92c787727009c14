"""Fixtures of the tests over HTTP."""

import pytest
from http_service import HttpService


@pytest.fixture
def service():
    """A running HTTP server."""
    made = HttpService()
    try:
        yield made.start()
    finally:
        made.end()
