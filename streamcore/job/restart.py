"""Restart policies: whether and when to try again after a failure. Pure; the caller tells the time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class RestartPolicy(Protocol):
    """Decides after each failure."""

    def delay_s(self, now_s: float) -> float | None:
        """Seconds to wait before the next attempt; None: give up. Called once for each failure."""


@dataclass(slots=True)
class NoRestart:
    """The first failure ends the job."""

    def delay_s(self, now_s: float) -> float | None:
        """See `RestartPolicy.delay_s`."""
        return None


@dataclass(slots=True)
class FixedDelay:
    """Up to `attempts` restarts, `delay` seconds after each failure."""

    attempts: int = 3
    delay: float = 1.0
    _used: int = field(default=0, repr=False)

    def delay_s(self, now_s: float) -> float | None:
        """See `RestartPolicy.delay_s`."""
        self._used += 1
        return self.delay if self._used <= self.attempts else None


@dataclass(slots=True)
class ExponentialDelay:
    """Delays that grow by `multiplier` from `initial` to `maximum` seconds, with a jitter of that share.

    Starts over after `reset_after` seconds without failure; gives up after `attempts` failures in a row
    (None: never).
    """

    initial: float = 0.1
    maximum: float = 30.0
    multiplier: float = 2.0
    jitter: float = 0.1
    attempts: int | None = 5
    reset_after: float = 60.0
    uniform: Callable[[float, float], float] = random.uniform
    _in_row: int = field(default=0, repr=False)
    _last_s: float = field(default=float("-inf"), repr=False)

    def delay_s(self, now_s: float) -> float | None:
        """See `RestartPolicy.delay_s`."""
        if now_s - self._last_s > self.reset_after:
            self._in_row = 0
        self._last_s = now_s
        self._in_row += 1
        if self.attempts is not None and self._in_row > self.attempts:
            return None
        delay = min(self.maximum, self.initial * self.multiplier ** (self._in_row - 1))
        return delay * (1 + self.uniform(-self.jitter, self.jitter))


@dataclass(slots=True)
class FailureRate:
    """Restarts `delay` seconds after each failure, unless more than `failures` came within `interval` seconds."""

    failures: int = 3
    interval: float = 60.0
    delay: float = 1.0
    _times: deque[float] = field(default_factory=deque, repr=False)

    def delay_s(self, now_s: float) -> float | None:
        """See `RestartPolicy.delay_s`."""
        self._times.append(now_s)
        while self._times[0] <= now_s - self.interval:
            self._times.popleft()
        return self.delay if len(self._times) <= self.failures else None
