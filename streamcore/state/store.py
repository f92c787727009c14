"""All keyed state of one operator subtask: made from descriptors, captured and restored as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np

from streamcore.batch import Columns, Schema, concat_columns
from streamcore.batch.codec import decode_saved, encode_saved
from streamcore.errors import IncompatibleSnapshotError, TopologyError
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.state.capture import Capture
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState, ListState, MapState, ReducingState, TableState, ValueState
from streamcore.state.heap import HeapBackend, ListHandle, MapHandle, ReducingHandle, ValueHandle
from streamcore.state.key_groups import groups_of
from streamcore.state.object_table import CurrentKey, ObjectState, ObjectTable, StateBackend
from streamcore.state.timers import TimerQueue

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

Saved = dict[str, Any]


class KeyedStore:
    """The keyed state of one operator subtask.

    State is restored when its descriptor is declared, from `saved`: the captured stores of the old
    subtasks, of which only the key groups in `groups` are taken. `backend` has the state of Python objects; without
    one it is in memory.
    """

    def __init__(
        self,
        max_parallelism: int,
        groups: range,
        saved: list[Saved],
        *,
        allow_pickle: bool,
        backend: StateBackend | None = None,
    ) -> None:
        self.current = CurrentKey()
        self.timers = TimerQueue()
        self.event_timers = TimerQueue()
        self._max_parallelism = max_parallelism
        self._groups = groups
        self._saved = saved
        self.allow_pickle = allow_pickle
        self._backend = backend or HeapBackend(max_parallelism, allow_pickle=allow_pickle)
        self._objects: dict[str, ObjectTable] = {}
        self._columnar: dict[str, ColumnarTable] = {}
        self._tables: dict[str, TableState] = {}
        for store in saved:
            self.timers.restore(store["timers"], groups, allow_pickle=allow_pickle)
            self.event_timers.restore(store.get("event_timers", {}), groups, allow_pickle=allow_pickle)

    @overload
    def declare(self, descriptor: ValueState[T]) -> ValueHandle[T]: ...
    @overload
    def declare(self, descriptor: ListState[T]) -> ListHandle[T]: ...
    @overload
    def declare(self, descriptor: MapState[K, V]) -> MapHandle[K, V]: ...
    @overload
    def declare(self, descriptor: ReducingState[T]) -> ReducingHandle[T]: ...
    @overload
    def declare(self, descriptor: ColumnarState) -> ColumnarTable: ...
    def declare(self, descriptor: ObjectState | ColumnarState) -> Any:
        """The handle of a descriptor, with what the snapshot has under its name.

        Raises:
            TopologyError: the name is taken.
            IncompatibleSnapshotError: the snapshot has state of another kind under the name.
        """
        self._refuse_taken(descriptor.name)
        if isinstance(descriptor, ColumnarState):
            columnar = self._columnar[descriptor.name] = ColumnarTable(descriptor, self._max_parallelism)
            for saved in self._saved_as(descriptor.name, "columnar"):
                columnar.restore(saved, self._groups)
            return columnar
        kind = {ListState: "list", MapState: "map"}.get(type(descriptor), "value")
        return self._backend.handle(descriptor, self.table(descriptor.name, kind), self.current)

    def table(self, name: str, kind: str = "value") -> ObjectTable:
        """The table key → value behind a name, for operators that go by whole batches."""
        self._refuse_taken(name)
        table = self._objects[name] = self._backend.table(name, kind)
        for saved in self._saved_as(name, kind):
            table.restore(saved, self._groups)
        return table

    def touch(self, keys: Sequence[Any]) -> None:
        """The handles are about to be used under these keys, and under no others until the operator is called again."""
        self._backend.touch(keys)

    def go_to(self, key: Any) -> None:
        """Makes a key the current one, outside of a batch."""
        self.current.key = key
        self._backend.touch((key,))

    def settle(self) -> None:
        """Puts away what operators have been lent: their call is over."""
        self._backend.settle()

    def close(self) -> None:
        """Frees what the state takes outside of memory."""
        self._backend.close()

    def declare_table(self, descriptor: TableState) -> None:
        """Registers state of the operator's own form and restores it.

        Raises:
            TopologyError: the name is taken.
            IncompatibleSnapshotError: what the snapshot has under the name has another key, or lacks a column.
        """
        self._refuse_taken(descriptor.name)
        self._tables[descriptor.name] = descriptor
        parts: list[Columns] = []
        for saved in self._saved_as(descriptor.name, "table"):
            rows = decode_saved(saved["form"], saved["rows"], allow_pickle=self.allow_pickle)
            assert isinstance(rows, Columns), "a saved table is columns"
            _refuse_other_columns(descriptor, saved["key"], rows.schema)
            groups = groups_of(_keys_of(rows, descriptor.key), self._max_parallelism)
            parts.append(rows.filter((groups >= self._groups.start) & (groups < self._groups.stop)))
        if parts:
            descriptor.restore(concat_columns(parts))

    def check_all_claimed(self, operator: str) -> None:
        """Called when the operator is open.

        Raises:
            IncompatibleSnapshotError: the snapshot has state that no descriptor asked for.
        """
        claimed = {*self._objects, *self._columnar, *self._tables}
        dropped = sorted({name for store in self._saved for name in store["states"]} - claimed)
        if dropped:
            raise IncompatibleSnapshotError(
                f"operator {operator}: the snapshot has state {', '.join(dropped)}, "
                "which the operator no longer declares",
                hint="restore with the code that wrote the snapshot, or start without --restore",
            )

    def capture(self, checkpoint_id: int, since: int | None = None) -> tuple[Saved, dict[str, Capture]]:
        """Everything as it is now: what later changes don't touch, and by name what is to be copied step by step.

        Args:
            checkpoint_id: what to call it when a later capture builds on it.
            since: the checkpoint after which the changes are enough; None: all of it.
        """
        states: dict[str, Any] = {}
        for name, descriptor in self._tables.items():
            form, rows = encode_saved(descriptor.capture(), allow_pickle=False)
            states[name] = {"kind": "table", "key": descriptor.key, "form": int(form), "rows": rows}
        timers, event_timers = (
            queue.capture(self._max_parallelism, allow_pickle=self.allow_pickle)
            for queue in (self.timers, self.event_timers)
        )
        captures: dict[str, Capture] = dict(self._backend.capture(checkpoint_id, since))
        captures |= {name: table.capture(checkpoint_id, since) for name, table in self._columnar.items()}
        return {"states": states, "timers": timers, "event_timers": event_timers}, captures

    def _refuse_taken(self, name: str) -> None:
        if name in self._objects or name in self._columnar or name in self._tables:
            raise TopologyError(
                f"state {name!r} is declared twice", hint="give each descriptor of an operator its own name"
            )

    def _saved_as(self, name: str, kind: str) -> list[Saved]:
        found = [store["states"][name] for store in self._saved if name in store["states"]]
        for saved in found:
            if saved["kind"] != kind:
                raise IncompatibleSnapshotError(
                    f"state {name!r} is {saved['kind']} state in the snapshot and {kind} state in the operator",
                    hint="a scan or reduce keeps columnar state when its function is compiled and value state when it "
                    "is interpreted: give it compiled=True or compiled=False as when the snapshot was taken",
                )
        return found


def _refuse_other_columns(descriptor: TableState, key: Any, saved: Schema) -> None:
    state = f"state {descriptor.name!r}"
    names, mine = (", ".join([by] if isinstance(by, str) else by) for by in (key, descriptor.key))
    if names != mine:
        raise IncompatibleSnapshotError(
            f"{state} is kept by {names or 'no key'} in the snapshot, and by {mine or 'no key'} in the operator",
            hint="restore with the key of the snapshot, or give the operator another uid",
        )
    for field in descriptor.schema.fields if descriptor.schema is not None else ():
        there = saved.by_name.get(field.name)
        if there is None or there.type != field.type:
            raise IncompatibleSnapshotError(
                f"{state} has {'no column' if there is None else f'a column {there}, not'} {field} in the snapshot",
                hint="restore with the aggregates and fields of the snapshot, or give the operator another uid; the "
                f"columns are {saved}",
            )


def entries(saved: Saved, *, allow_pickle: bool = False) -> dict[str, dict[Any, Any]]:
    """The captured store as plain dictionaries, state name → key → value; for inspection and tests."""
    from streamcore.batch import plain

    result: dict[str, dict[Any, Any]] = {}
    for name, state in saved["states"].items():
        table: dict[Any, Any] = {}
        if state["kind"] == "columnar":
            columns = {field: values.tolist() for field, values in state["columns"].items()}
            for i, key in enumerate(as_list(state["keys"])):
                table[key] = {field: values[i] for field, values in columns.items()}
        elif state["kind"] == "table":
            rows = decode_saved(state["form"], state["rows"], allow_pickle=False)
            assert isinstance(rows, Columns), "a saved table is columns"
            for key, row in zip(as_list(_keys_of(rows, state["key"])), rows.to_rows(), strict=True):
                table.setdefault(key, []).append(row)
        else:
            for body in state["groups"].values():
                table.update((key, value) for key, value in plain.decode(body, allow_pickle=allow_pickle))
        result[name] = table
    return result


def _keys_of(rows: Columns, key: str | tuple[str, ...]) -> Any:
    if not key:
        return np.zeros(len(rows), np.int64)
    return rows[key] if isinstance(key, str) else KeyColumns([rows[name] for name in key])
