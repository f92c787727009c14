"""The last records of keys, added up in slices: the state of windows by count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels import counted as kernels
from streamcore.state.accumulators import Accumulating, Numbers
from streamcore.state.key_slots import SPARE_KEYS, IntArray, KeySlots, free_names
from streamcore.state.totals import Totals, Values, concat_values

_MERGED_AT_ONCE = 1 << 20


class CountTable:
    """Windows of the last `size` records of a key after every `every`-th, for the keys of `key_schema`'s fields.

    Of each key `size / gcd(size, every)` slices are kept, and no records.
    """

    def __init__(self, key_schema: Schema, accumulators: Sequence[Accumulating], size: int, every: int) -> None:
        self._every = every
        self._slice = math.gcd(size, every)
        self._slices = size // self._slice
        self._is_apart = every >= size  # so that of a key which has just completed a window nothing is needed
        self._keys = KeySlots(key_schema)
        self._totals = Totals(accumulators)
        parts = [part.name for accumulator in accumulators for part in accumulator.parts]
        self._seen_name, self._place_name, *self._names = free_names(("seen", "place", *parts), key_schema.names)
        numbers = [Field(name, pa.int64()) for name in (self._seen_name, self._place_name)]
        self.schema = Schema((*key_schema.fields, *numbers, *self._totals.fields(self._names)))
        self._seen = np.zeros(256, np.int64)
        self._row_of = np.full(256, -1, np.int64)
        self._look_at_keys = SPARE_KEYS

    def add(self, batch: Columns) -> tuple[dict[str, Any], dict[Accumulating, list[Numbers]]] | None:
        """Adds records in order. Returns the columns of the keys and the accumulated values, by accumulator, of the
        windows that they complete, in the order in which they do; None: none."""
        slots = self._keys.slots(batch)
        self._make_room()
        count = len(batch)
        rows, touched, completed = np.empty(count, np.int64), np.empty((count, 4), np.int64), np.empty(count, np.int64)
        row_count, windows = kernels.number(
            slots, self._seen, self._slice, self._every, self._row_of, rows, touched, completed
        )
        touched, completed = touched[:row_count], completed[:windows]
        places = self._places(touched[:, kernels.ROW_SLOT], touched[:, kernels.ROW_SLICE])
        current = Totals(self._totals.accumulators, row_count)
        begun = np.flatnonzero(touched[:, kernels.ROW_BEGUN])
        current.put(begun, self._totals.take(places[begun]))
        current.add(rows, batch)
        result = None
        if windows:
            keys = self._keys.columns(touched[completed, kernels.ROW_SLOT])
            result = keys, self._totals.by_accumulator(self._windows(current, touched, completed))
        self._totals.put(places, current.arrays)
        if self._is_apart and len(self._keys) > self._look_at_keys:
            self._forget_keys()
        return result

    def captured(self) -> Columns:
        """All slices that are kept, columns of `schema`; for `restore`."""
        slots = self._in_use()
        seen = self._seen[slots]
        lengths = np.minimum(-(-seen // self._slice), self._slices)
        of_key = np.repeat(np.arange(len(slots)), lengths)
        place = np.arange(len(of_key)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        slots = slots[of_key]
        columns = {**self._keys.columns(slots), self._seen_name: seen[of_key], self._place_name: place}
        values = self._totals.take(slots * self._slices + place)
        return Columns(self.schema, {**columns, **self._totals.encoded(self._names, values)})

    def restore(self, rows: Columns) -> None:
        """Takes up what `captured` gave, in place of nothing."""
        slots = self._keys.slots(rows)
        self._make_room()
        self._seen[slots] = rows[self._seen_name]
        places = slots * self._slices + rows[self._place_name]
        self._totals.put(places, self._totals.decoded(self._names, rows))

    def _windows(self, current: Totals, touched: IntArray, completed: IntArray) -> Values:
        """The values of windows by the rows in which they end."""
        if self._slices == 1:
            return current.take(completed)
        found = []
        step = max(_MERGED_AT_ONCE // self._slices, 1)
        for start in range(0, len(completed), step):
            some = completed[start : start + step]
            kept_for, kept, rows_for, rows = (np.empty(len(some) * self._slices, np.int64) for _ in range(4))
            kept_count, row_count = kernels.slices_of(some, touched, self._slices, kept_for, kept, rows_for, rows)
            merged = Totals(self._totals.accumulators, len(some))
            merged.merge(kept_for[:kept_count], self._totals.take(kept[:kept_count]))
            merged.merge(rows_for[:row_count], current.take(rows[:row_count]))
            found.append(merged.arrays)
        return concat_values(found)

    def _places(self, slots: IntArray, slices: IntArray) -> IntArray:
        places: IntArray = slots * self._slices + slices % self._slices
        return places

    def _in_use(self) -> IntArray:
        """The slots of keys of which something is kept."""
        seen = self._seen[: len(self._keys)]
        return np.flatnonzero(seen % self._every if self._is_apart else seen)

    def _make_room(self) -> None:
        if len(self._keys) > len(self._seen):
            known, capacity = len(self._seen), max(2 * len(self._seen), len(self._keys))
            self._seen = np.concatenate([self._seen, np.zeros(capacity - known, np.int64)])
            self._row_of = np.full(capacity, -1, np.int64)
        if len(self._seen) * self._slices > len(self._totals.arrays[0][0]):
            self._totals.grow(len(self._seen) * self._slices)

    def _forget_keys(self) -> None:
        """Gives up the slots of keys that are between two windows: keys come and go, and memory must not grow."""
        used = self._in_use()
        if self._keys.has_many_unused(len(used)):
            seen, places = self._seen[used], np.arange(self._slices)
            values = self._totals.take((used[:, None] * self._slices + places).reshape(-1))
            new = self._keys.keep(used)
            capacity = max(256, len(used))
            self._seen, self._row_of = np.zeros(capacity, np.int64), np.full(capacity, -1, np.int64)
            self._totals = Totals(self._totals.accumulators, capacity * self._slices)
            self._seen[new] = seen
            self._totals.put((new[:, None] * self._slices + places).reshape(-1), values)
        self._look_at_keys = max(2 * len(self._keys), SPARE_KEYS)
