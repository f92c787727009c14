import tempfile
from pathlib import Path

import pytest
from process_harness import Runs


@pytest.fixture
def runs(tmp_path):
    """Makes runs of `streamcore run` below `tmp_path`; none outlives the test."""
    made = Runs(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def short_directory():
    """A directory with a path short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)
