"""What a builder adds to an operator: states, timers, offsets; put into a store, which captures them as a job does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from streamcore.batch import Columns
from streamcore.checkpoint.snapshot_file import OperatorSnapshot
from streamcore.errors import DataError, UsageError
from streamcore.kernels.key_columns import as_list
from streamcore.kernels.key_index import take_keys
from streamcore.snapshots.data import Data, Key, as_field, is_tabular, keys_of, to_columns, to_pairs
from streamcore.state.capture import Capture
from streamcore.state.descriptors import ColumnarState, ListState, MapState, ReducingState, TableState, Versioned
from streamcore.state.key_groups import IntArray, groups_of
from streamcore.state.store import KeyedStore, encoded_store
from streamcore.state.table_capture import TableCapture


@dataclasses.dataclass(slots=True)
class Contents:
    """What is added to one operator."""

    states: dict[str, NewState] = dataclasses.field(default_factory=dict)
    timers: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
    event_timers: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
    offsets: dict[str, Any] = dataclasses.field(default_factory=dict)

    def captured(
        self, max_parallelism: int, groups: range, *, allow_pickle: bool
    ) -> tuple[dict[str, Any], dict[str, Capture]]:
        """The share of one subtask, as it would have captured it.

        Raises:
            StateCodecError: a value has no plain form.
        """
        store = KeyedStore(max_parallelism, groups, [], allow_pickle=allow_pickle)
        for state in self.states.values():
            state.put_into(store, groups)
        for queue, timers in ((store.timers, self.timers), (store.event_timers, self.event_timers)):
            own = groups_of([key for _, key in timers], max_parallelism).tolist() if timers else []
            for (time_ms, key), group in zip(timers, own, strict=True):
                if group in groups:
                    queue.register(time_ms, key)
        keyed, tables = store.capture(1)
        for capture in OperatorSnapshot(keyed, None, tables).captures:
            capture.finish()
        return encoded_store(keyed), tables


@dataclasses.dataclass(frozen=True, slots=True)
class NewState:
    """Data for one descriptor: `columns` for columnar and table state, `values` beside the keys for the rest."""

    descriptor: Versioned
    keys: Any
    groups: IntArray
    columns: Columns | None
    values: list[Any]

    @staticmethod
    def of(
        descriptor: Versioned,
        data: Data,
        key: Key,
        value: str | Callable[[dict[str, Any]], Any],
        maximum: int,
        what: str,
    ) -> NewState:
        """Data in the form that the descriptor's state has.

        Args:
            maximum: the operator's max_parallelism.
            what: names the state in messages.

        Raises:
            DataError: it doesn't fit, or has a key twice.
        """
        columns: Columns | None = None
        values: list[Any] = []
        if isinstance(descriptor, TableState):
            columns = to_columns(data, what)
            _check_table(descriptor, columns, what)
            keys = keys_of(columns, descriptor.key, what) if descriptor.key else np.zeros(len(columns), np.int64)
        elif isinstance(descriptor, ColumnarState):
            columns = to_columns(data, what)
            keys = keys_of(columns, key, what)
            columns = _fields(descriptor, columns, {key} if isinstance(key, str) else set(key), what)
        else:
            keys, values = _objects(descriptor, data, key, value, what)
        if not isinstance(descriptor, TableState):
            _refuse_twice(keys, what)
        return NewState(descriptor, keys, _groups(keys, maximum, what), columns, values)

    def put_into(self, store: KeyedStore, groups: range) -> None:
        """Declares the state in a store and fills in what belongs to the key groups."""
        own = np.flatnonzero((self.groups >= groups.start) & (self.groups < groups.stop))
        descriptor = self.descriptor
        if isinstance(descriptor, TableState):
            assert self.columns is not None, "table state of no columns"
            rows = self.columns.take(own)
            store.declare_table(dataclasses.replace(descriptor, capture=lambda: rows))
            return
        if isinstance(descriptor, ColumnarState):
            assert self.columns is not None, "columnar state of no columns"
            table = store.declare(descriptor)
            if len(own):
                slots = table.slots(take_keys(self.keys, own))
                for name in self.columns.schema.names:
                    table[name][slots] = self.columns[name][own]
            return
        handle: Any = store.declare(descriptor)
        for place in own.tolist():
            value = self.values[place]
            store.go_to(self.keys[place])
            if isinstance(descriptor, MapState):
                for inner, item in value.items():
                    handle.put(inner, item)
            elif isinstance(descriptor, ReducingState):
                handle.add(value)  # the first: nothing is reduced
            else:
                handle.set(value)


def _objects(
    descriptor: Versioned, data: Data, key: Key, value: str | Callable[[dict[str, Any]], Any], what: str
) -> tuple[list[Any], list[Any]]:
    """The keys, each once, and their values."""
    tabular = is_tabular(data)
    pairs = to_pairs(data, key, value, what)
    if tabular and isinstance(descriptor, ListState | MapState):
        gathered: dict[Any, Any] = {}
        inner = to_pairs(data, key, "map_key", what) if isinstance(descriptor, MapState) else []
        for place, (found, item) in enumerate(pairs):
            if isinstance(descriptor, MapState):
                gathered.setdefault(found, {})[inner[place][1]] = item
            else:
                gathered.setdefault(found, []).append(item)
        pairs = list(gathered.items())
    kind = list if isinstance(descriptor, ListState) else dict if isinstance(descriptor, MapState) else object
    for found, item in pairs:
        if not isinstance(item, kind):
            raise DataError(f"{what}: key {found!r} has a {type(item).__name__}, not a {kind.__name__}")
    return [found for found, _ in pairs], [item for _, item in pairs]


def _groups(keys: Any, maximum: int, what: str) -> IntArray:
    try:
        return groups_of(keys, maximum) if len(keys) else np.empty(0, np.int64)
    except Exception as error:  # whatever the keys are: they are the user's
        raise DataError(f"{what}: its keys can't be hashed: {error}", hint="use keys as in the stream") from error


def _refuse_twice(keys: Any, what: str) -> None:
    seen: set[Any] = set()
    for key in as_list(keys):
        try:
            is_there = key in seen
        except TypeError as error:
            raise DataError(f"{what}: {key!r} can't be a key: {error}") from error
        if is_there:
            raise DataError(f"{what}: key {key!r} is there twice", hint="give each key one row")
        seen.add(key)


def _fields(descriptor: ColumnarState, columns: Columns, keys: set[str], what: str) -> Columns:
    """The columns in the types of the descriptor's fields; a field that isn't among them starts as for a new key."""
    known = descriptor.schema.by_name
    unknown = [name for name in columns.schema.names if name not in known and name not in keys]
    if unknown:
        raise DataError(
            f"{what}: the state has no field {unknown[0]!r}",
            hint=f"it has {descriptor.schema}; leave other columns out",
        )
    arrays = {name: as_field(columns[name], known[name], what) for name in columns.schema.names if name in known}
    if not arrays:
        raise DataError(f"{what}: none of the columns is one of the state's fields {descriptor.schema}")
    return Columns(descriptor.schema.select(arrays), arrays)


def _check_table(descriptor: TableState, columns: Columns, what: str) -> None:
    for field in descriptor.schema.fields if descriptor.schema is not None else ():
        there = columns.schema.by_name.get(field.name)
        if there is None or there.type != field.type:
            shown = "no such column" if there is None else f"a column {there}"
            raise DataError(f"{what}: it needs a column {field}, and there is {shown}")


def table_captures(keyed: dict[str, Any]) -> dict[str, Capture]:
    """Takes the columnar state out of a store that was read, and gives it in the form in which it is written."""
    states = keyed.get("states", {})
    names = [name for name, saved in states.items() if saved["kind"] == "columnar"]
    return {name: _capture(states.pop(name)) for name in names}


def _capture(saved: dict[str, Any]) -> TableCapture:
    keys, size = saved["keys"], len(saved["groups"])
    capture = TableCapture(
        lambda: saved["columns"], size, None, 0, lambda: keys, saved["groups"], {}, lambda memory: None
    )
    capture.finish()
    return capture


def check_time(time_ms: Any, key: Any) -> tuple[int, Any]:
    """A timer.

    Raises:
        UsageError: its time is no whole number.
    """
    if type(time_ms) is not int:
        raise UsageError(f"a timer for {time_ms!r}", hint="a timer's time is whole milliseconds since 1970, an int")
    return time_ms, key
