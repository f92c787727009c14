"""The seam behind which state of Python objects lives: the tables that operators and handles use, and the backend
that makes them. `streamcore.state.heap` is the one in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamcore.state.capture import Capture
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.evolution import Evolution

ObjectState = ValueState[Any] | ListState[Any] | MapState[Any, Any] | ReducingState[Any]
"""The descriptors of state of Python objects."""

Saved = dict[str, Any]
"""Object state as a snapshot has it: `{"kind", "groups": {key group: bytes of [[key, value], ...]}}`."""


class CurrentKey:
    """The key of the record at hand; handles look their value up under it."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key: Any = None


class ObjectTable(ABC):
    """The values of one state name in one subtask: key → value.

    A table has to know which values change: snapshots are taken while the stream goes on and save what has changed, and
    a table may keep values elsewhere than in memory. So a value is changed in place only after `for_update` or `batch`
    gave it out, and only until the operator's call at hand (`process`, `advance`, `fire_timers`) is over. What `get`,
    `values` and `items` give is to be read.
    """

    @property
    def bare(self) -> dict[Any, Any] | None:
        """All of it as a dictionary to be used freely, but for removing, until the operator's call is over; None where
        the table has to be told the keys first: then `batch` takes them."""
        return None

    @abstractmethod
    def batch(self, keys: Sequence[Any]) -> dict[Any, Any]:
        """A dictionary that has the values of the keys (and maybe others), which may be replaced, added to and changed
        in place, but not removed, until the operator's call is over or the table is asked for something else.

        Args:
            keys: of the batch at hand, in any order, some more than once.
        """

    @abstractmethod
    def get(self, key: Any, default: Any = None) -> Any:
        """The value, or the default; not to be changed in place."""

    @abstractmethod
    def for_update(self, key: Any, default: Any = None) -> Any:
        """The value, which may be changed in place, or the default, which is not put in."""

    @abstractmethod
    def put(self, key: Any, value: Any) -> None:
        """Sets or replaces a value; it may go on being changed in place until the operator's call is over."""

    @abstractmethod
    def remove(self, key: Any) -> None:
        """Forgets a key, if it is there."""

    @abstractmethod
    def clear(self) -> None:
        """Forgets all keys."""

    @abstractmethod
    def all_keys(self) -> list[Any]:
        """All keys, as they are now."""

    @abstractmethod
    def items(self) -> Iterator[tuple[Any, Any]]:
        """All pairs; the table must not change meanwhile."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def restore(self, saved: Saved, groups: range, evolution: Evolution) -> None:
        """Adds the entries of a snapshot's state that belong to the key groups, as `evolution.entries` reads them.

        Raises:
            IncompatibleSnapshotError: a value can't be taken over.
        """


class StateBackend(ABC):
    """Makes the tables and handles of one operator subtask's object state."""

    @abstractmethod
    def table(self, name: str, kind: str) -> ObjectTable:
        """An empty table.

        Args:
            kind: `value`, `list` (a list per key) or `map` (a dictionary per key): what each key has.
        """

    @abstractmethod
    def handle(self, descriptor: ObjectState, table: ObjectTable, current: CurrentKey) -> Any:
        """The handle of a descriptor on a table that `table` made; a `ValueHandle`, `ListHandle`, `MapHandle` or
        `ReducingHandle` of `streamcore.state.heap`, or a subclass."""

    def touch(self, keys: Sequence[Any]) -> None:  # noqa: B027 - optional
        """The operator's handles are about to be used under these keys, and under no others until it is called again:
        told ahead of each batch and each timer. A backend may read them ahead, or note that they change."""

    def settle(self) -> None:  # noqa: B027 - optional
        """The operator's call is over, and a capture may follow: a backend may do now what it would have to do then."""

    @abstractmethod
    def capture(self, checkpoint_id: int, since: int | None) -> Mapping[str, Capture]:
        """Captures all tables as they are now, by name; between two calls of the operator. Must not take long: what
        takes time is left to the captures' steps, and to `saved`.

        Args:
            checkpoint_id: what to call it when a later capture builds on it.
            since: the checkpoint after which the changes are enough; None: all is captured. A capture may be of all
                nevertheless.
        """

    def close(self) -> None:  # noqa: B027 - optional
        """Frees what the tables hold outside of memory; called after failures too."""
