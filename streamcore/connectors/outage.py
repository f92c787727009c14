"""Tells that a service can't be reached, and that it can be again: each once."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("streamcore.connectors")


class Outage:
    """What `context.waiting` is told of one service.

    Args:
        waiting: `ReaderContext.waiting` or `SinkContext.waiting`.
        service: its name for people, without secrets.
    """

    def __init__(self, waiting: Callable[[str | None], None], service: str) -> None:
        self._waiting = waiting
        self._service = service
        self._is_on = False

    def begin(self, why: str) -> None:
        """The service can't be reached; the first reason of an outage is logged."""
        if not self._is_on:
            self._is_on = True
            self._waiting(self._service)
            logger.info("%s: %s", self._service, why)

    def end(self) -> None:
        """The service answers."""
        if self._is_on:
            self._is_on = False
            self._waiting(None)
