"""Tests that are coroutines."""

import asyncio
import functools


def in_loop(test):
    """Runs the test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        asyncio.run(asyncio.wait_for(test(*arguments, **fixtures), 60))

    return run
