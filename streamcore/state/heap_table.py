"""A table of Python values in memory that is captured while it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from streamcore.state.changed_keys import ChangedKeys, KeySets
from streamcore.state.evolution import Evolution
from streamcore.state.guarded_values import GuardedValues
from streamcore.state.object_capture import ObjectCapture
from streamcore.state.object_table import ObjectTable, Saved

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
        self._capture: ObjectCapture | None = None
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
        if self._capture is not None:  # at the end of input, the one before may still have to be written
            self._capture.finish()
        values = self._dictionary
        if changed is not None and 2 * len(changed) > len(values):
            changed = None
        self._capture = capture = ObjectCapture(
            self._kind, values, changed, self._max_parallelism, self._drain, allow_pickle=self._allow_pickle
        )
        self._guard = capture.guard
        self._reach(capture.guard)
        return capture

    def _drain(self) -> bool:
        assert self._guard is not None, "a capture ends that is not under way"
        if not self._guard.drain():
            return False
        self._guard = self._capture = None
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
