"""Services that can't be reached just now, as all subtasks of a process see them: each outage is told of once."""

from __future__ import annotations

import logging
from collections.abc import Hashable

from streamcore.time import Clock

logger = logging.getLogger("streamcore.runtime")


class Outages:
    """Who waits for what. An outage begins with the first who can't reach the service, and ends with the last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[Hashable, str] = {}
        self._since: dict[str, float] = {}

    def report(self, who: Hashable, service: str | None) -> None:
        """`who` waits for a service, or (None) doesn't wait any more."""
        before = self._waiting.pop(who, None)
        if service is not None:
            self._waiting[who] = service
            if service not in self._since:
                self._since[service] = self._clock.monotonic()
                logger.warning("%s can't be reached; waiting for it", service)
        if before is not None and before not in self._waiting.values():
            lasted_s = self._clock.monotonic() - self._since.pop(before)
            logger.warning("%s can be reached again, after %.1f s", before, lasted_s)
