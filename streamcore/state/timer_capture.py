"""A capture of timers that is taken at once, copied step by step while the stream goes on, and encoded beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from streamcore.batch import plain
from streamcore.state.guarded_values import GuardedValues
from streamcore.state.key_groups import groups_of

STEP_TIMES = 256
_HASHED = 4096


class TimerCapture:
    """The timers of one queue as of one moment.

    Args:
        times: time → its only key, or a dictionary of keys in order.
        with_windows: the keys are pairs, whose first part decides on the group.
        after: called when all has been copied, until it returns true.
    """

    is_whole = True
    is_empty = False

    def __init__(
        self,
        times: dict[int, Any],
        max_parallelism: int,
        after: Callable[[], bool],
        *,
        with_windows: bool,
        allow_pickle: bool,
    ) -> None:
        self.guard = GuardedValues(times, self.keep, is_frozen=True)
        self._left = iter(times.items())
        self._kept: dict[int, Any] = {}
        self._max_parallelism = max_parallelism
        self._after = after
        self._with_windows = with_windows
        self._allow_pickle = allow_pickle
        self._copied: list[tuple[int, Any]] = []
        self.done = False

    def keep(self, time_ms: int, keys: Any) -> None:
        """Sets the keys of a time aside that are about to change."""
        if time_ms not in self._kept:
            self._kept[time_ms] = list(keys) if type(keys) is dict else keys

    def step(self) -> None:
        if self.done:
            return
        if not self.guard.is_watched:
            self.done = self._after()
            return
        some = list(islice(self._left, STEP_TIMES))
        for time_ms, now in some:
            keys = self._kept.get(time_ms, now)
            self._copied.append((time_ms, list(keys) if type(keys) is dict else keys))
        if not some:
            self._end()

    def finish(self) -> None:
        while not self.done:
            self.step()

    def abandon(self) -> None:
        self._copied = []
        self._end()

    def saved(self) -> dict[int, bytes]:
        """All timers, encoded by key group, in order of time.

        Raises:
            StateCodecError: a key has no plain form.
        """
        assert self.done, "timers were used before all of them were copied"
        times: list[int] = []
        keys: list[Any] = []
        for time_ms, found in sorted(self._copied, key=lambda entry: entry[0]):
            if type(found) is list:
                keys.extend(found)
                times.extend([time_ms] * len(found))
            else:
                keys.append(found)
                times.append(time_ms)
        if not keys:
            return {}
        # a part at a time: what is one call of a compiled function stops the stream's thread
        starts = range(0, len(keys), _HASHED)
        groups = np.concatenate([self._groups_of(keys[start : start + _HASHED]) for start in starts])
        order = np.argsort(groups, kind="stable")
        saved: dict[int, bytes] = {}
        for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            places = part.tolist()
            timers = {"times": _packed([times[i] for i in places]), "keys": _packed([keys[i] for i in places])}
            saved[int(groups[places[0]])] = plain.encode(timers, allow_pickle=self._allow_pickle)
        return saved

    def release(self) -> None:
        self._copied = []

    def _groups_of(self, keys: list[Any]) -> Any:
        return groups_of([key[0] for key in keys] if self._with_windows else keys, self._max_parallelism)

    def _end(self) -> None:
        self.guard.is_watched = False
        self._left, self._kept = iter(()), {}


def _packed(values: list[Any]) -> Any:
    """Whole numbers as an array, which is saved as it is."""
    if set(map(type, values)) == {int}:
        with contextlib.suppress(OverflowError):
            return np.array(values, np.int64)
    return values
