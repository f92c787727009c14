"""The columnar backend: a struct per key in growing NumPy arrays, with a key → slot index."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from streamcore.batch import Array
from streamcore.errors import UsageError
from streamcore.kernels.compile import kernel
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.key_index import KeyIndex, take_keys
from streamcore.state.descriptors import ColumnarState
from streamcore.state.evolution import Evolution
from streamcore.state.key_groups import DEFAULT_MAX_PARALLELISM, IntArray, groups_of
from streamcore.state.table_capture import Arrays, TableCapture

_CAPTURES_REMEMBERED = 16
_LARGE = 1 << 16
"""With so many rows, to copy them all when there must be room for more would stop the stream for 5 ms and more."""
_RESERVED_BYTES = 1 << 30
"""Room for the rows of a table that is large, so that they are hardly ever copied again. Of addresses: the system gives
memory to those that are written."""


class ColumnarTable:
    """The state of one descriptor in one subtask.

    `table.slots(keys)` gives each record its row; `table["field"]` is the field's array over all rows,
    to be read and written in place (by a kernel, say). Fetch it after `slots`: growing replaces it.

    Snapshots are taken while the stream goes on, so the table must know which rows are about to change: write only to
    rows that you asked `slots` for since the call of your function began, or tell with `touch`.
    """

    def __init__(self, descriptor: ColumnarState, max_parallelism: int = DEFAULT_MAX_PARALLELISM) -> None:
        self.descriptor = descriptor
        self._max_parallelism = max_parallelism
        self._index = KeyIndex()
        self._arrays: Arrays = {f.name: _zeros(f, 64) for f in descriptor.schema.fields}
        self._groups = np.empty(64, np.int32)  # the key group of each row
        # a generation is the time between two captures; before the first there is nothing to keep track of
        self._generation = 0
        self._touched = np.zeros(0, np.int32)  # the generation in which each row was touched last
        self._captures: dict[int, tuple[int, int]] = {}  # checkpoint → generation that it ended, rows
        self._running: TableCapture | None = None
        self._spare: Arrays = {}
        self._running_since = -1  # it captures the rows that were touched after this generation
        _compile()

    def __len__(self) -> int:
        return self._index.size

    def __getitem__(self, field: str) -> np.ndarray[Any, Any]:
        return self._arrays[field][: len(self)]

    @property
    def keys(self) -> Any:
        """All keys in slot order: int64 (n,) or a list."""
        return _public(self._index.keys)

    def slots(self, keys: Array | KeyColumns | tuple[Array, ...] | list[Any]) -> IntArray:
        """The row of each key (n,), int64; new keys get rows with the descriptor's initial values.

        Args:
            keys: the array of a key column, a list of keys, or the arrays of a tuple key's fields as a tuple.
        """
        if isinstance(keys, tuple):
            keys = KeyColumns(keys)
        before = self._index.size
        slots = self._index.slots(keys)
        if self._index.size > before:
            self._extend(before)
        self._touch(slots)
        return slots

    def lookup(self, key: Any) -> dict[str, Any] | None:
        """The fields of one key, as Python values; None for an unknown key."""
        slot = self._index.find_one(key)
        return None if slot < 0 else {name: array[slot].tolist() for name, array in self._arrays.items()}

    def touch(self, slots: Any) -> None:
        """Tells that rows are about to change; `slots` does so for the rows that it returns.

        Args:
            slots: row numbers (n,), or a mask of booleans over all rows.

        Raises:
            UsageError: there are no such rows.
        """
        rows = np.asarray(slots)
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        elif rows.size == 0:
            return
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or (len(rows) and (rows.min() < 0 or rows.max() >= len(self))):
            raise UsageError(
                f"there are no such rows in {self.descriptor.name!r}, which has {len(self)}",
                hint="give the numbers that slots() returned",
            )
        self._touch(rows.astype(np.int64, copy=False))

    def _touch(self, slots: IntArray) -> None:
        if self._generation == 0:
            return
        running = self._running
        if running is None:
            _touch(slots, self._touched, self._generation)
            return
        first = _touch_first(
            slots, self._touched, self._generation, self._running_since, running.next_row, running.size
        )
        if len(first):
            running.keep(first)

    def capture(self, checkpoint_id: int, since: int | None = None) -> TableCapture:
        """Captures the rows as they are now; the copying is left to the capture's `step`.

        Args:
            checkpoint_id: what to call this capture when a later one builds on it.
            since: leaves out what has not changed since this capture; None: captures everything. Everything is
                captured too when more than half has changed, or that capture is not remembered any more.
        """
        if self._running is not None:
            self._running.finish()
        size, rows, first, self._running_since = len(self), None, 0, -1
        base = self._captures.get(since) if since is not None else None
        if base is not None:
            changed = np.flatnonzero(self._touched[:size] > base[0])
            if 2 * len(changed) <= size:
                rows, first, self._running_since = changed, base[1], base[0]
        keys, groups = self._index.lazy_keys_from(first), self._groups[first:size]
        spare, self._spare = self._spare, {}
        running = TableCapture(lambda: self._arrays, size, rows, first, keys, groups, spare, self._take_back)
        self._running = None if running.done else running
        self._captures[checkpoint_id] = self._generation, size
        if len(self._captures) > _CAPTURES_REMEMBERED:
            del self._captures[next(iter(self._captures))]
        if self._generation == 0:
            self._touched = np.zeros(len(self._groups), np.int32)
        self._generation += 1
        return running

    def restore(self, saved: dict[str, Any], groups: range, evolution: Evolution) -> None:
        """Adds the rows of `saved` that belong to this subtask's key groups.

        Raises:
            IncompatibleSnapshotError: a field can't be taken over, or a key belongs to another group now.
        """
        own = np.flatnonzero((saved["groups"] >= groups.start) & (saved["groups"] < groups.stop))
        columns = evolution.columns(saved["columns"], own)  # also without rows: what doesn't fit is refused everywhere
        if len(own) == 0:
            return
        slots = self.slots(take_keys(saved["keys"], own))
        evolution.check_groups(self._groups[slots], saved["groups"][own])
        for name, values in columns.items():
            self._arrays[name][slots] = values

    def _take_back(self, memory: Arrays) -> None:
        if not self._spare:
            self._spare = memory

    def _extend(self, before: int) -> None:
        size = len(self)
        if size > len(self._groups):
            try:
                self._make_room(before, self._capacity(size))
            except MemoryError:  # where addresses are limited too
                self._make_room(before, max(size, 2 * len(self._groups)))
        keys = self._index.keys_from(before)
        self._groups[before:size] = groups_of(keys, self._max_parallelism)
        if self.descriptor.initial is not None:
            for name, values in self.descriptor.initial(_public(keys)).items():
                self._arrays[name][before:size] = values

    def _make_room(self, before: int, capacity: int) -> None:
        arrays = {name: _longer(array, before, capacity) for name, array in self._arrays.items()}
        groups = _longer(self._groups, before, capacity)
        if self._generation:
            self._touched = _longer(self._touched, before, capacity)
        self._arrays, self._groups = arrays, groups

    def _capacity(self, size: int) -> int:
        """How many rows to make room for when there are `size`."""
        if size > _LARGE:
            a_row = sum(array[:1].nbytes for array in (*self._arrays.values(), self._groups)) + self._touched.itemsize
            size = max(size, _RESERVED_BYTES // a_row)
        return max(size, 2 * len(self._groups))


def _public(keys: Any) -> Any:
    """Keys as users see them: numbers as an array, everything else as Python objects."""
    return keys if isinstance(keys, np.ndarray) else as_list(keys)


def _zeros(field: Any, capacity: int) -> np.ndarray[Any, Any]:
    return np.zeros((capacity, field.width) if field.width else capacity, field.dtype)


def _longer(array: np.ndarray[Any, Any], used: int, capacity: int) -> np.ndarray[Any, Any]:
    longer = np.zeros((capacity, *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    return longer


@kernel
def _touch(slots: Any, touched: Any, generation: Any) -> None:
    for i in range(len(slots)):
        touched[slots[i]] = generation


@kernel
def _touch_first(slots: Any, touched: Any, generation: Any, since: Any, start: Any, stop: Any) -> Any:
    """Touches the rows. Returns those from `start` to `stop` that were touched after the generation `since` but not yet
    in this one, each once."""
    out = np.empty(len(slots), np.int64)
    n = 0
    for i in range(len(slots)):
        slot = slots[i]
        before = touched[slot]
        if before != generation:
            touched[slot] = generation
            if before > since and start <= slot < stop:
                out[n] = slot
                n += 1
    return out[:n]


@cache
def _compile() -> None:
    """Before the first record: while a snapshot is taken, compiling would stop the stream."""
    nothing, touched = np.empty(0, np.int64), np.empty(0, np.int32)
    _touch(nothing, touched, 0)
    _touch_first(nothing, touched, 0, 0, 0, 0)
