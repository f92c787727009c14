"""All keyed state of one operator subtask: made from descriptors, captured and restored as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from streamcore.batch import Columns, concat_columns, plain
from streamcore.batch.codec import decode_saved, encode_saved
from streamcore.errors import IncompatibleSnapshotError, TopologyError, UnknownStateError, UsageError
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.state.capture import Capture
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import (
    ColumnarState,
    ListState,
    MapState,
    ReducingState,
    TableState,
    ValueState,
    Versioned,
)
from streamcore.state.evolution import Evolution, OtherForm, as_values, in_columns
from streamcore.state.heap import HeapBackend, ListHandle, MapHandle, ReducingHandle, ValueHandle
from streamcore.state.key_groups import groups_of
from streamcore.state.object_table import CurrentKey, ObjectState, ObjectTable, StateBackend
from streamcore.state.timer_capture import TimerCapture
from streamcore.state.timers import TimerQueue

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

Saved = dict[str, Any]

logger = logging.getLogger("streamcore.state")


class KeyedStore:
    """The keyed state of one operator subtask.

    State is restored when its descriptor is declared, from `saved`: the captured stores of the old
    subtasks, of which only the key groups in `groups` are taken. `backend` has the state of Python objects; without
    one it is in memory.

    A captured store is `{"states": {name: state}, "schemas": {name: {"kind", "version", "fields"}}, "timers": ...,
    "event_timers": ...}`. A schema tells of a state what the state itself may not: the descriptor's version, and of
    columnar and table state the fields with their types.
    """

    def __init__(
        self,
        max_parallelism: int,
        groups: range,
        saved: list[Saved],
        *,
        allow_pickle: bool,
        backend: StateBackend | None = None,
        operator: str = "",
        allow_dropped: bool = False,
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
        self._schemas: dict[str, dict[str, Any]] = {}
        self._operator = operator
        self._allow_dropped = allow_dropped
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
    def declare(self, descriptor: ColumnarState, other_form: OtherForm | None = None) -> ColumnarTable: ...
    def declare(self, descriptor: ObjectState | ColumnarState, other_form: OtherForm | None = None) -> Any:
        """The handle of a descriptor, with what the snapshot has under its name.

        Args:
            other_form: of columnar state that may have been kept as objects.

        Raises:
            TopologyError: the name is taken.
            IncompatibleSnapshotError: the snapshot has state of another kind under the name, or it can't be taken over.
        """
        if isinstance(descriptor, ColumnarState):
            return self._declare_columnar(descriptor, other_form)
        kind = {ListState: "list", MapState: "map"}.get(type(descriptor), "value")
        table = self._object_table(descriptor.name, kind, descriptor, None)
        return self._backend.handle(descriptor, table, self.current)

    def table(self, name: str, kind: str = "value", other_form: OtherForm | None = None) -> ObjectTable:
        """The table key → value behind a name, for operators that go by whole batches.

        Args:
            other_form: of values that may have been kept in columns.

        Raises:
            IncompatibleSnapshotError: as `declare`.
        """
        return self._object_table(name, kind, None, other_form)

    def _declare_columnar(self, descriptor: ColumnarState, other_form: OtherForm | None) -> ColumnarTable:
        name = descriptor.name
        self._take(name, "columnar", descriptor)
        table = self._columnar[name] = ColumnarTable(descriptor, self._max_parallelism)
        for saved, evolution in self._saved_as(name, "columnar", descriptor, "value" if other_form else ""):
            if other_form is None:
                table.restore(saved, self._groups, evolution)
            elif saved["kind"] == "columnar":
                table.restore(other_form.completed(saved), self._groups, evolution)
            else:
                table.restore(in_columns(saved, self._groups, evolution, other_form), self._groups, evolution)
        return table

    def _object_table(
        self, name: str, kind: str, descriptor: ObjectState | None, other_form: OtherForm | None
    ) -> ObjectTable:
        self._take(name, kind, descriptor)
        table = self._objects[name] = self._backend.table(name, kind)
        for saved, evolution in self._saved_as(name, kind, descriptor, "columnar" if other_form else ""):
            if saved["kind"] == "columnar" and other_form is not None:
                for key, value in as_values(saved, self._groups, evolution, other_form):
                    table.put(key, value)
            else:
                table.restore(saved, self._groups, evolution)
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
        self._take(descriptor.name, "table", descriptor)
        self._tables[descriptor.name] = descriptor
        parts: list[Columns] = []
        for saved, evolution in self._saved_as(descriptor.name, "table", descriptor):
            rows = decode_saved(saved["form"], saved["rows"], allow_pickle=self.allow_pickle)
            assert isinstance(rows, Columns), "a saved table is columns"
            _refuse_other_key(descriptor, saved["key"])
            groups = groups_of(_keys_of(rows, descriptor.key), self._max_parallelism)
            own = (groups >= self._groups.start) & (groups < self._groups.stop)
            rows = evolution.rows(rows.filter(own))
            evolution.check_groups(groups_of(_keys_of(rows, descriptor.key), self._max_parallelism), groups[own])
            parts.append(rows)
        if parts:
            descriptor.restore(concat_columns(parts))

    def check_all_claimed(self, operator: str) -> None:
        """Called when the operator is open.

        Raises:
            IncompatibleSnapshotError: the snapshot has state that no descriptor asked for, and it may not be dropped.
        """
        claimed = {*self._objects, *self._columnar, *self._tables}
        dropped = sorted({name for store in self._saved for name in store["states"]} - claimed)
        if dropped:
            refuse_dropped(
                f"operator {operator}: the snapshot has state {', '.join(dropped)}, which the operator no longer "
                "declares",
                allowed=self._allow_dropped,
            )

    def encode_map(self, entries: dict[Any, Any]) -> bytes:
        """A dictionary that belongs to no key, as a snapshot has it: as if to the key None."""
        return plain.encode([[None, entries]], allow_pickle=self.allow_pickle)

    def evolve_map(self, descriptor: MapState[K, V], saved_version: int, body: bytes) -> dict[K, V]:
        """What `encode_map` was given, as the descriptor has it now.

        Raises:
            IncompatibleSnapshotError: it can't be taken over.
        """
        name = descriptor.name
        evolution = Evolution(name, saved_version, descriptor, self._max_parallelism, self.allow_pickle)
        entries: dict[K, V] = next(iter(evolution.entries(int(groups_of([None], self._max_parallelism)[0]), body)))[1]
        self._tell(name, evolution.changes)
        return entries

    def capture(self, checkpoint_id: int, since: int | None = None) -> tuple[Saved, dict[str, Capture]]:
        """Everything as it is now: what later changes don't touch, which `encoded_store` puts into its plain form, and
        by name what is to be copied step by step, as the timers are, too.

        Args:
            checkpoint_id: what to call it when a later capture builds on it.
            since: the checkpoint after which the changes are enough; None: all of it.
        """
        states: dict[str, Any] = {}
        for name, descriptor in self._tables.items():
            states[name] = {"kind": "table", "key": descriptor.key, "captured": descriptor.capture()}
        timers, event_timers = (
            queue.capture(self._max_parallelism, allow_pickle=self.allow_pickle)
            for queue in (self.timers, self.event_timers)
        )
        captures: dict[str, Capture] = dict(self._backend.capture(checkpoint_id, since))
        captures |= {name: table.capture(checkpoint_id, since) for name, table in self._columnar.items()}
        saved = {"states": states, "schemas": self._schemas, "timers": timers, "event_timers": event_timers}
        return saved, captures

    def kinds(self) -> dict[str, str]:
        """The declared states: name → `value`, `list`, `map`, `columnar` or `table`."""
        return {name: schema["kind"] for name, schema in self._schemas.items()}

    def lookup(self, name: str, key: Any, missing: Any = None) -> Any:
        """What a state has for one key of this subtask, to be read at once and left as it is; columnar state: field →
        value. `missing` if there is nothing.

        Raises:
            UnknownStateError: there is no such state.
            UsageError: it is table state, in the operator's own form, which has no keys to look under.
        """
        if name in self._columnar:
            fields = self._columnar[name].lookup(key)
            return missing if fields is None else fields
        if name in self._tables:
            raise UsageError(
                f"state {name!r} is table state, which is only put into rows for a snapshot",
                hint="ask for it as of the last checkpoint: consistency=checkpoint",
            )
        if name not in self._objects:
            raise UnknownStateError(
                f"there is no state {name!r}", hint=f"there is: {', '.join(self.kinds()) or 'none'}"
            )
        return self._objects[name].get(key, missing)

    def _take(self, name: str, kind: str, descriptor: Versioned | None) -> None:
        if name in self._schemas:
            raise TopologyError(
                f"state {name!r} is declared twice", hint="give each descriptor of an operator its own name"
            )
        schema = descriptor.schema if isinstance(descriptor, ColumnarState | TableState) else None
        self._schemas[name] = {
            "kind": kind,
            "version": descriptor.version if descriptor is not None else 0,
            "fields": {field.name: str(field.type) for field in schema.fields} if schema is not None else {},
        }

    def _saved_as(
        self, name: str, kind: str, descriptor: Versioned | None, other_kind: str = ""
    ) -> Iterator[tuple[Saved, Evolution]]:
        """What the old subtasks have under a name, and how it is taken over."""
        changes: set[str] = set()
        for store in self._saved:
            if name not in store["states"]:
                continue
            saved, version = store["states"][name], store.get("schemas", {}).get(name, {}).get("version", 0)
            if saved["kind"] not in (kind, other_kind):
                raise IncompatibleSnapshotError(
                    f"state {name!r} is {saved['kind']} state in the snapshot and {kind} state in the operator",
                    hint="give the new state another name, and have the old one dropped with --allow-dropped-state",
                )
            yield saved, Evolution(name, version, descriptor, self._max_parallelism, self.allow_pickle, changes)
        self._tell(name, changes)

    def _tell(self, name: str, changes: set[str]) -> None:
        for change in sorted(changes):
            logger.warning("operator %s: state %r: %s", self._operator, name, change)


def refuse_dropped(what: str, *, allowed: bool, instead: str = "restore with the code that wrote the snapshot") -> None:
    """Something in a snapshot is for nobody: drops it with a warning where that is allowed.

    Raises:
        IncompatibleSnapshotError: it is not.
    """
    if not allowed:
        raise IncompatibleSnapshotError(what, hint=f"{instead}; or have it dropped: --allow-dropped-state")
    logger.warning("%s; it is dropped", what)


def _refuse_other_key(descriptor: TableState, key: Any) -> None:
    names, mine = (", ".join([by] if isinstance(by, str) else by) for by in (key, descriptor.key))
    if names != mine:
        raise IncompatibleSnapshotError(
            f"state {descriptor.name!r} is kept by {names or 'no key'} in the snapshot, and by {mine or 'no key'} in "
            "the operator",
            hint="restore with the key of the snapshot, or give the operator another uid",
        )


def encoded_store(captured: Saved) -> Saved:
    """A captured store, when all of it has been copied, as plain data; in any thread.

    Raises:
        StateCodecError: a timer's key has no plain form.
    """
    store = dict(captured)
    for queue in ("timers", "event_timers"):
        if isinstance(timers := store.get(queue), TimerCapture):
            store[queue] = timers.saved()
    if "states" in store:
        store["states"] = {name: _encoded_rows(state) for name, state in store["states"].items()}
    return store


def _encoded_rows(state: Saved) -> Saved:
    if "captured" not in state:
        return state
    form, rows = encode_saved(state["captured"], allow_pickle=False)
    return {"kind": state["kind"], "key": state["key"], "form": int(form), "rows": rows}


def entries(saved: Saved, *, allow_pickle: bool = False) -> dict[str, dict[Any, Any]]:
    """The captured store as plain dictionaries, state name → key → value; for inspection and tests."""
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
