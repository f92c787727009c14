"""How long to wait before a service that didn't answer is asked again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from streamcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow, and are spread at random, so that many clients don't come back at the same moment.

    Attributes:
        first_s: seconds after the first failure.
        longest_s: seconds that no wait exceeds.
        factor: what each wait is multiplied by for the next.
        jitter: the part of a wait, 0 to 1, that is left to chance: a wait of 10 s is 8 to 10 s long with 0.2.

    Raises:
        UsageError: a number is out of range.
    """

    first_s: float = 0.2
    longest_s: float = 30.0
    factor: float = 2.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.longest_s and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise UsageError(
                f"{self} can't be", hint="0 < first_s <= longest_s, a factor from 1, and a jitter from 0 to 1"
            )

    def delay_s(self, failures: int, chance: float | None = None) -> float:
        """Seconds to wait after so many failures in a row (1 or more); `chance`: 0 to 1, drawn when None."""
        # beyond 64 doublings every wait is the longest, and the power would overflow
        delay = min(self.longest_s, self.first_s * self.factor ** min(failures - 1, 64))
        return delay * (1 - self.jitter * (random.random() if chance is None else chance))  # noqa: S311 - no secret
