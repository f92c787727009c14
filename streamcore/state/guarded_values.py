"""A dictionary that is captured while it is used."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

GONE: Any = object()
"""Stands for the value of a key that isn't there."""

FIXED_TYPES = frozenset(
    {int, float, str, bytes, bool, complex, type(None), decimal.Decimal, uuid.UUID}
    | {datetime.datetime, datetime.date, datetime.time, datetime.timedelta}
)
"""Types of values that never change in place."""

_DRAINED = 1000


class GuardedValues:
    """Stands before a table's dictionary while it is captured: sets values aside before they are handed out or
    replaced.

    While all of it is captured the dictionary's keys are gone through, which must stay the same ones: new keys go into
    `_fresh`, and removed ones get a mark for their value. Afterwards both are put right, a few at a time.

    Args:
        keep: takes (key, value) before the value can change; GONE where there is none.
        is_frozen: the dictionary's keys have to stay.

    Attributes:
        is_watched: something is left to be kept.
    """

    def __init__(self, values: dict[Any, Any], keep: Callable[[Any, Any], None], *, is_frozen: bool) -> None:
        self._values = values
        self._keep = keep
        self.is_watched = True
        self._is_frozen = is_frozen
        self._fresh: dict[Any, Any] = {}
        self._gone: list[Any] = []  # keys that were marked as removed, and may be there again
        self._marks = 0
        self._lent: dict[Any, Any] | None = None

    def lend(self, keys: Sequence[Any]) -> dict[Any, Any]:
        """The values of some keys, to be used freely until something else is asked for."""
        self.settle()
        get = self.get
        self._lent = {key: value for key in keys if (value := get(key, GONE)) is not GONE}
        return self._lent

    def settle(self) -> None:
        """Takes back what was lent."""
        if self._lent is not None:
            lent, self._lent, values = self._lent, None, self._values
            for key, value in lent.items():
                if values.get(key, GONE) is not value:
                    self[key] = value

    def get(self, key: Any, default: Any = None) -> Any:
        """The value, which may be changed in place."""
        value = self._values.get(key, GONE)
        if value is GONE:
            return self._fresh.get(key, default)
        if type(value) not in FIXED_TYPES and self.is_watched:
            self._keep(key, value)
        return value

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, GONE)
        if value is GONE:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        values = self._values
        before = values.get(key, GONE)
        if before is not GONE:
            if self.is_watched:
                self._keep(key, before)
            values[key] = value
        elif key in values:
            self._marks -= 1
            values[key] = value
        elif self._is_frozen or key in self._fresh:
            self._fresh[key] = value
        else:
            if self.is_watched:
                self._keep(key, GONE)
            values[key] = value

    def setdefault(self, key: Any, default: Any) -> Any:
        """The value, or the default, which is put in."""
        value = self.get(key, GONE)
        if value is GONE:
            self[key] = value = default
        return value

    def pop(self, key: Any, default: Any = None) -> Any:
        """Removes a key and returns its value, or the default."""
        values = self._values
        value = values.get(key, GONE)
        if value is GONE:
            return self._fresh.pop(key, default)
        if self.is_watched:
            self._keep(key, value)
        if self._is_frozen:
            values[key] = GONE
            self._marks += 1
            self._gone.append(key)
        else:
            del values[key]
        return value

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def clear(self) -> None:
        """Removes all keys."""
        for key in list(self):
            self.pop(key)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All pairs, to be read."""
        for key, value in self._values.items():
            if value is not GONE:
                yield key, value
        yield from self._fresh.items()

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self.items())

    def __contains__(self, key: Any) -> bool:
        return self._values.get(key, GONE) is not GONE or key in self._fresh

    def __len__(self) -> int:
        return len(self._values) - self._marks + len(self._fresh)

    def drain(self) -> bool:
        """Puts some new keys in and takes some removed ones out; whether the dictionary is all there is again."""
        self.settle()
        self._is_frozen = False
        values, fresh, gone = self._values, self._fresh, self._gone
        for _ in range(min(len(fresh), _DRAINED)):
            key, value = fresh.popitem()
            values[key] = value
        for _ in range(min(len(gone), _DRAINED)):
            key = gone.pop()
            if values.get(key) is GONE:
                del values[key]
                self._marks -= 1
        return not (fresh or gone)
