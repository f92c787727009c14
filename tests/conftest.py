import gc
import os
import tempfile

import pytest

from streamcore.job.registry import DIRECTORY_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def runtime_directory():
    """Jobs of the tests are registered apart from others of this user; the path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="sc-jobs-", ignore_cleanup_errors=True) as directory:
        before = os.environ.get(DIRECTORY_VARIABLE)
        os.environ[DIRECTORY_VARIABLE] = directory
        yield directory
        if before is None:
            del os.environ[DIRECTORY_VARIABLE]
        else:
            os.environ[DIRECTORY_VARIABLE] = before


def pytest_collection_finish():
    """What is there before the first test stays to the end: the garbage collector needn't look at it again and again,
    which was a tenth of the time of the simulations."""
    gc.collect()
    gc.freeze()
