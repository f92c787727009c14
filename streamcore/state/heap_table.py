"""A table of Python values in memory that is captured while it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from streamcore.state.changed_keys import ChangedKeys, KeySets
from streamcore.state.evolution import Evolution
from streamcore.state.object_capture import FIXED_TYPES, GONE, ObjectCapture
from streamcore.state.object_table import ObjectTable, Saved

_DRAINED = 1000


class GuardedValues:
    """Stands before a table's dictionary while it is captured: sets values aside before they are handed out or
    replaced.

    While all of it is captured the dictionary's keys are gone through, which must stay the same ones: new keys go into
    `_fresh`, and removed ones get a mark for their value. Afterwards both are put right, a few at a time.
    """

    def __init__(self, values: dict[Any, Any], *, is_frozen: bool) -> None:
        self._values = values
        self._is_frozen = is_frozen
        self._fresh: dict[Any, Any] = {}
        self._gone: list[Any] = []  # keys that were marked as removed, and may be there again
        self._marks = 0
        self._lent: dict[Any, Any] | None = None
        self.capture: ObjectCapture

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
        if type(value) not in FIXED_TYPES and self.capture.is_encoding:
            self.capture.keep(key, value)
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
            if self.capture.is_encoding:
                self.capture.keep(key, before)
            values[key] = value
        elif key in values:
            self._marks -= 1
            values[key] = value
        elif self._is_frozen or key in self._fresh:
            self._fresh[key] = value
        else:
            if self.capture.is_encoding:
                self.capture.keep(key, GONE)
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
        if self.capture.is_encoding:
            self.capture.keep(key, value)
        if self._is_frozen:
            values[key] = GONE
            self._marks += 1
            self._gone.append(key)
        else:
            del values[key]
        return value

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


Values = dict[Any, Any] | GuardedValues
"""What a table's values are reached through."""


class TableUser(Protocol):
    """Somebody who reaches a table's values directly."""

    _table: Values


class HeapTable(ObjectTable):
    """A dictionary.

    Attributes:
        values: through which its values are reached at the moment.
    """

    def __init__(self, kind: str, max_parallelism: int, changed: ChangedKeys, *, allow_pickle: bool) -> None:
        self._kind = kind
        self._max_parallelism = max_parallelism
        self._allow_pickle = allow_pickle
        self._changed = changed
        self._dictionary: dict[Any, Any] = {}
        self._guard: GuardedValues | None = None
        self._users: list[TableUser] = []
        self.values: Values = self._dictionary

    def attach(self, user: TableUser) -> None:
        """Keeps the user's `_table` at what `values` is."""
        self._users.append(user)
        user._table = self.values

    @property
    def bare(self) -> dict[Any, Any] | None:
        return None if self._guard is not None or self._changed.is_noting else self._dictionary

    def batch(self, keys: Sequence[Any]) -> dict[Any, Any]:
        self._changed.add(keys)
        return self._dictionary if self._guard is None else self._guard.lend(keys)

    def get(self, key: Any, default: Any = None) -> Any:
        return self._settled().get(key, default)

    def for_update(self, key: Any, default: Any = None) -> Any:
        return self._settled().get(key, default)

    def put(self, key: Any, value: Any) -> None:
        self._settled()[key] = value

    def remove(self, key: Any) -> None:
        self._settled().pop(key, None)

    def clear(self) -> None:
        values = self._settled()
        self._changed.add(values)
        values.clear()

    def all_keys(self) -> list[Any]:
        return list(self._settled())

    def items(self) -> Iterator[tuple[Any, Any]]:
        return iter(self._settled().items())

    def __len__(self) -> int:
        return len(self._settled())

    def restore(self, saved: Saved, groups: range, evolution: Evolution) -> None:
        for group in saved["groups"]:
            if group in groups:  # else it isn't even read
                self._dictionary.update(evolution.entries(group, saved["groups"][group]))

    def capture(self, changed: KeySets | None) -> ObjectCapture:
        """Captures it as it is now.

        Args:
            changed: the keys that are enough; None: all.
        """
        if self._guard is not None:  # at the end of input, the one before may still have to be written
            self._guard.capture.finish()
        values = self._dictionary
        if changed is not None and 2 * len(changed) > len(values):
            changed = None
        guard = GuardedValues(values, is_frozen=changed is None)
        keys = values if changed is None else changed
        guard.capture = ObjectCapture(
            self._kind, values.get, keys, changed, self._max_parallelism, self._drain, allow_pickle=self._allow_pickle
        )
        self._guard = guard
        self._reach(guard)
        return guard.capture

    def _drain(self) -> bool:
        assert self._guard is not None, "a capture ends that is not under way"
        if not self._guard.drain():
            return False
        self._guard = None
        self._reach(self._dictionary)
        return True

    def _reach(self, values: Values) -> None:
        self.values = values
        for user in self._users:
            user._table = values

    def _settled(self) -> Values:
        if self._guard is not None:
            self._guard.settle()
        return self.values
