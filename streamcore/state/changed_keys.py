"""Which keys may have changed since a checkpoint, at the price of one set operation a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_REMEMBERED = 16
_SET_KEYS = 150_000
"""A set beyond this many keys is left as it is and another one begun: to make it larger would stop the stream."""
_MOST_SETS = 16


class KeySets:
    """Keys in sets that don't overlap, or do: each key is gone through once."""

    def __init__(self, sets: list[set[Any]]) -> None:
        self._sets = sets

    def __contains__(self, key: Any) -> bool:
        return any(key in keys for keys in self._sets)

    def __iter__(self) -> Iterator[Any]:
        for i, keys in enumerate(self._sets):
            earlier = self._sets[:i]
            for key in keys:
                if not any(key in before for before in earlier):
                    yield key

    def __len__(self) -> int:
        """How many at most."""
        return sum(map(len, self._sets))


class ChangedKeys:
    """The keys that were touched between the captures of one operator subtask.

    Nothing is noted before the first capture, and no more until the next once so many keys have been touched that
    saving everything is the better choice.
    """

    def __init__(self) -> None:
        self._since: dict[int, list[set[Any]] | None] = {}  # checkpoint → keys touched from it to the next
        self._full: list[set[Any]] = []
        self._current: set[Any] | None = None
        self._limit = 0

    @property
    def is_noting(self) -> bool:
        """Whether `add` makes a difference."""
        return self._current is not None

    def add(self, keys: Iterable[Any]) -> None:
        """Keys are about to be touched."""
        current = self._current
        if current is None:
            return
        if self._full:
            keys = set(keys).difference(*self._full)
        current.update(keys)
        if len(current) > self._limit:
            self._make_room(current)

    def begin(self, checkpoint_id: int, size: int) -> None:
        """A capture is taken.

        Args:
            size: entries of the largest table; when a half of it has been touched, no more is noted.
        """
        self._full, self._current = [], set()
        self._since[checkpoint_id] = [self._current]
        self._limit = min(max(size // 2, 64), _SET_KEYS)
        self._left = size // 2
        if len(self._since) > _REMEMBERED:
            del self._since[next(iter(self._since))]

    def since(self, checkpoint_id: int) -> KeySets | None:
        """The keys that were touched since that capture; None if that isn't known any more."""
        sets: list[set[Any]] = []
        is_later = False
        for number, keys in self._since.items():
            is_later = is_later or number == checkpoint_id
            if is_later:
                if keys is None:
                    return None
                sets += keys
        return KeySets(sets) if is_later else None

    def _make_room(self, current: set[Any]) -> None:
        newest = next(reversed(self._since))
        sets = self._since[newest]
        assert sets is not None, "keys are noted that are forgotten"
        self._left -= len(current)
        if self._left <= 0 or len(sets) == _MOST_SETS:
            self._since[newest] = None
            self._full, self._current = [], None
            return
        self._full.append(current)
        self._current = set()
        self._limit = min(max(self._left, 64), _SET_KEYS)
        sets.append(self._current)
