"""Broadcast state: what every subtask has in full, written by a stream that all of them read (as in Apache Flink)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, NoReturn, TypeVar

from streamcore.batch import Columns
from streamcore.errors import TopologyError, UsageError
from streamcore.runtime.functions import Context, _Function
from streamcore.runtime.operator import OperatorContext, Output
from streamcore.state.descriptors import MapState
from streamcore.state.heap import ListHandle, MapHandle, ReducingHandle, ValueHandle
from streamcore.state.store import refuse_dropped

In = TypeVar("In")
Rule = TypeVar("Rule")
Out = TypeVar("Out")
K = TypeVar("K")
V = TypeVar("V")


class _NoKey:
    """Stands where the key would be while a broadcast record is at hand: nothing can be looked up under it."""

    def __hash__(self) -> NoReturn:
        raise UsageError(
            "keyed state, keys and timers belong to one key, and a broadcast record has none",
            hint="keep what process_broadcast learns in broadcast state, or visit the keys with ctx.for_each_key",
        )


NO_KEY = _NoKey()


class BroadcastHandle(Generic[K, V]):
    """A dictionary that every subtask has; to be written in `process_broadcast` only, or the subtasks' copies would
    differ."""

    def __init__(self, name: str, entries: dict[K, V]) -> None:
        self._name = name
        self._entries = entries
        self._is_open = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get(self, key: K, default: V | None = None) -> V | None:
        """The value under `key`."""
        return self._entries.get(key, default)

    def items(self) -> Iterator[tuple[K, V]]:
        """The pairs, in the order of their first coming. Don't change the values."""
        return iter(self._entries.items())

    def put(self, key: K, value: V) -> None:
        """Sets the value under `key`.

        Raises:
            UsageError: the record at hand is not a broadcast one.
        """
        self._check_open()
        self._entries[key] = value

    def remove(self, key: K) -> None:
        """Removes `key`, if it is there.

        Raises:
            UsageError: the record at hand is not a broadcast one.
        """
        self._check_open()
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Removes all keys.

        Raises:
            UsageError: the record at hand is not a broadcast one.
        """
        self._check_open()
        self._entries.clear()

    def _check_open(self) -> None:
        if not self._is_open:
            raise UsageError(
                f"broadcast state {self._name!r} can be changed in process_broadcast only",
                hint="each subtask would have another copy of it: other records come to each",
            )


class BroadcastContext(Context[Out]):
    """What a broadcast function may use. While a broadcast record is at hand there is no key: keyed state and timers
    are refused, but for `for_each_key`."""

    def __init__(self, operator: OperatorContext, output: Output, *, keyed: bool) -> None:
        super().__init__(operator, output, keyed=keyed)
        self._states: dict[str, BroadcastHandle[Any, Any]] = {}
        self._versions: dict[str, int] = {}
        state: dict[str, Any] = next(iter(operator.own_copy()), {})
        self._has_versions = "broadcast_states" in state  # else the snapshot is from before there were any
        self._saved: dict[str, Any] = state["broadcast_states" if self._has_versions else "broadcast"] if state else {}

    @property
    def key(self) -> Any:
        """The key of the record (or timer) at hand, on a keyed stream.

        Raises:
            UsageError: the record at hand is a broadcast one.
        """
        self._refuse_without_key()
        return self._current.key

    def register_timer(self, time_ms: int) -> None:
        self._refuse_without_key()
        super().register_timer(time_ms)

    def cancel_timer(self, time_ms: int) -> None:
        self._refuse_without_key()
        super().cancel_timer(time_ms)

    def register_event_timer(self, time_ms: int) -> None:
        self._refuse_without_key()
        super().register_event_timer(time_ms)

    def cancel_event_timer(self, time_ms: int) -> None:
        self._refuse_without_key()
        super().cancel_event_timer(time_ms)

    def broadcast_state(self, descriptor: MapState[K, V]) -> BroadcastHandle[K, V]:
        """The handle of broadcast state; to be called in `open`.

        Raises:
            TopologyError: two descriptors with one name.
            IncompatibleSnapshotError: what the snapshot has under the name can't be taken over.
        """
        name = descriptor.name
        if name in self._states:
            raise TopologyError(f"broadcast state {name!r} is declared twice", hint="give each its own name")
        handle: BroadcastHandle[K, V] = BroadcastHandle(name, self._restored(descriptor))
        self._states[name], self._versions[name] = handle, descriptor.version
        return handle

    def _restored(self, descriptor: MapState[K, V]) -> dict[K, V]:
        saved = self._saved.get(descriptor.name)
        if saved is None:
            return {}
        if not self._has_versions:
            return dict(saved)
        store = self._operator.store
        return store.evolve_map(descriptor, saved["version"], saved["entries"])

    def for_each_key(
        self,
        state: ValueHandle[Any] | ListHandle[Any] | MapHandle[Any, Any] | ReducingHandle[Any],
        visit: Callable[[Any], None],
    ) -> None:
        """Calls `visit(key)` for every key of this subtask that `state` has something for: in the call it is the
        current key. For `process_broadcast`, when a new rule is about what has been gathered under the old ones."""
        before = self._current.key
        try:
            for key in state.all_keys():
                self._operator.store.go_to(key)
                visit(key)
        finally:
            self._current.key = before

    def begin_broadcast(self) -> None:
        """The records that follow are broadcast ones."""
        self._current.key = NO_KEY
        for state in self._states.values():
            state._is_open = True

    def end_broadcast(self) -> None:
        """The records that follow are not."""
        for state in self._states.values():
            state._is_open = False

    def _refuse_without_key(self) -> None:
        if self._current.key is NO_KEY:
            hash(NO_KEY)

    def captured(self) -> dict[str, dict[str, Any]]:
        """All broadcast state, by name: the descriptor's version, and the entries encoded."""
        encode = self._operator.store.encode_map
        return {
            name: {"version": self._versions[name], "entries": encode(state._entries)}
            for name, state in self._states.items()
        }

    def check_all_claimed(self) -> None:
        """Called when the function is open.

        Raises:
            IncompatibleSnapshotError: the snapshot has broadcast state that the function did not declare, and it may
                not be dropped.
        """
        if dropped := sorted(self._saved.keys() - self._states.keys()):
            refuse_dropped(
                f"the snapshot has broadcast state {', '.join(dropped)}, which the function no longer declares",
                allowed=self._operator.allow_dropped,
            )


class BroadcastFunction(_Function[Out], Generic[In, Rule, Out]):
    """A function of a stream, keyed or not, and of a broadcast one, whose records every subtask gets: rules that
    change while the job runs.

    In `open`: `self.rules = ctx.broadcast_state(MapState("rules"))`.

    All subtasks see the same broadcast records, but where several subtasks send them not in the same order, and never
    at the same point of their own records. So what `process_broadcast` makes of several records must not depend on
    their order (keep the newest by a version number in the record, say), and it must not depend on a clock, chance or
    keyed state; then all copies become equal. Event time is the minimum of both streams: a broadcast stream without
    watermarks holds it back until it ends.
    """

    def open(self, ctx: Any) -> None:
        """Declares state; called once before any record. `ctx` is a `BroadcastContext`."""

    def process(self, record: In, ctx: BroadcastContext[Out]) -> None:
        """Takes one record; broadcast state can be read."""
        raise NotImplementedError

    def process_broadcast(self, record: Rule, ctx: BroadcastContext[Out]) -> None:
        """Takes one broadcast record; broadcast state can be changed, and there is no key."""
        raise NotImplementedError


class BroadcastBatchFunction(_Function[Out], Generic[Rule, Out]):
    """The same with the stream in columns and the broadcast records one at a time."""

    def open(self, ctx: Any) -> None:
        """Declares state; called once before any record. `ctx` is a `BroadcastContext`."""

    def process(self, columns: Columns, ctx: BroadcastContext[Out]) -> None:
        """Takes one batch; broadcast state can be read."""
        raise NotImplementedError

    def process_broadcast(self, record: Rule, ctx: BroadcastContext[Out]) -> None:
        """Takes one broadcast record; broadcast state can be changed, and there is no key."""
        raise NotImplementedError
