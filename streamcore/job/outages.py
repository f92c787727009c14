"""Services that can't be reached just now, as the coordinator hears of them: each outage is told once."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from streamcore.runtime.counters import Counters
from streamcore.time import Clock

logger = logging.getLogger("streamcore.job")


class Outages:
    """An outage begins with the first subtask that waits for the service, and ends with the last."""

    def __init__(self, clock: Clock, job: str) -> None:
        self._clock = clock
        self._about = {"job": job}
        self._since: dict[str, float] = {}

    def look(self, counters: Iterable[Counters]) -> None:
        """Tells what has changed since the last look."""
        waited_for = {service for each in counters for service in each.waiting_for}
        for service in sorted(waited_for - self._since.keys()):
            self._since[service] = self._clock.monotonic()
            logger.warning("%s can't be reached; waiting for it", service, extra=self._about)
        for service in sorted(self._since.keys() - waited_for):
            lasted_s = self._clock.monotonic() - self._since.pop(service)
            logger.warning("%s can be reached again, after %.1f s", service, lasted_s, extra=self._about)
