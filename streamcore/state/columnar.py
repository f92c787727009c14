"""The columnar backend: a struct per key in growing NumPy arrays, with a key → slot index."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.batch import Array
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.key_index import KeyIndex
from streamcore.state.descriptors import ColumnarState
from streamcore.state.key_groups import IntArray, groups_of


class ColumnarTable:
    """The state of one descriptor in one subtask.

    `table.slots(keys)` gives each record its row; `table["field"]` is the field's array over all rows,
    to be read and written in place (by a kernel, say). Fetch it after `slots`: growing replaces it.
    """

    def __init__(self, descriptor: ColumnarState) -> None:
        self.descriptor = descriptor
        self._index = KeyIndex()
        self._arrays = {f.name: _zeros(f, 64) for f in descriptor.schema.fields}

    def __len__(self) -> int:
        return self._index.size

    def __getitem__(self, field: str) -> np.ndarray[Any, Any]:
        return self._arrays[field][: len(self)]

    @property
    def keys(self) -> Any:
        """All keys in slot order: int64 (n,) or a list."""
        return _public(self._index.keys)

    @property
    def key_arrays(self) -> Any:
        """All keys in slot order, as arrays where there are such: int64 array (a view), Arrow array of text,
        `KeyColumns` of tuple keys, or a list."""
        return self._index.keys

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
        return slots

    def _extend(self, before: int) -> None:
        size = len(self)
        for field in self.descriptor.schema.fields:
            array = self._arrays[field.name]
            if size > len(array):
                bigger = _zeros(field, max(size, 2 * len(array)))
                bigger[:before] = array[:before]
                self._arrays[field.name] = bigger
        if self.descriptor.initial is not None:
            for name, values in self.descriptor.initial(_public(self._index.keys_from(before))).items():
                self._arrays[name][before:size] = values

    def capture(self, max_parallelism: int) -> dict[str, Any]:
        """A copy of the rows, in order of key group."""
        keys = self.keys
        groups = groups_of(keys, max_parallelism)
        order = np.argsort(groups, kind="stable")
        return {
            "kind": "columnar",
            "groups": groups[order],
            "keys": keys[order] if isinstance(keys, np.ndarray) else [keys[i] for i in order.tolist()],
            "columns": {name: array[: len(self)][order] for name, array in self._arrays.items()},
        }

    def restore(self, saved: dict[str, Any], groups: range) -> None:
        """Adds the rows of `saved` that belong to this subtask's key groups."""
        low, high = np.searchsorted(saved["groups"], [groups.start, groups.stop])
        if low == high:
            return
        slots = self.slots(saved["keys"][low:high])
        for name, values in saved["columns"].items():
            self._arrays[name][slots] = values[low:high]


def _public(keys: Any) -> Any:
    """Keys as users see them: numbers as an array, everything else as Python objects."""
    return keys if isinstance(keys, np.ndarray) else as_list(keys)


def _zeros(field: Any, capacity: int) -> np.ndarray[Any, Any]:
    return np.zeros((capacity, field.width) if field.width else capacity, field.dtype)
