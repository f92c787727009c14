"""Runs a coroutine to its end from code that isn't asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns or raises; the caller waits.

    It runs in an event loop and a thread of its own, so this works whether or not the caller's thread has a running
    loop (whose other tasks wait as well).
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="run now", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
