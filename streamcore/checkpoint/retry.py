"""Trying again what failed for a reason that may pass, with longer and longer pauses."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger("streamcore.checkpoint")


@dataclass(frozen=True, slots=True)
class Backoff:
    """When to try again, and how often: pauses of `first_s`, twice that, and so on up to `longest_s`, each cut by a
    random part of up to a half, so that many who failed together don't come back together. (Exponential back-off
    with jitter, as in Brooker, "Exponential Backoff and Jitter", 2015.)

    Attributes:
        attempts: how often in all.
        chance: gives numbers of [0, 1).
        sleep: waits; blocking.
    """

    attempts: int = 9
    first_s: float = 0.1
    longest_s: float = 5.0
    chance: Callable[[], float] = field(default=random.random)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def run(self, what: str, work: Callable[[], T], is_transient: Callable[[OSError], bool]) -> T:
        """What `work` returns, in the end.

        Args:
            what: names the work in the warning of each failure that is not the last.

        Raises:
            OSError: the last failure, or the first that is not transient.
        """
        for attempt in range(1, self.attempts):
            try:
                return work()
            except OSError as error:
                if not is_transient(error):
                    raise
                pause_s = min(self.first_s * 2 ** (attempt - 1), self.longest_s) * (1 - self.chance() / 2)
                logger.warning(
                    "%s failed: %s; trying again in %.1f s (attempt %d of %d)",
                    what, error.strerror or error, pause_s, attempt + 1, self.attempts,
                )  # fmt: skip
                self.sleep(pause_s)
        return work()
