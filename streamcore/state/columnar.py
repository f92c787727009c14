"""The columnar backend: a struct per key in growing NumPy arrays, with a key → slot index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Array
from streamcore.kernels.index import IntIndex
from streamcore.state.descriptors import ColumnarState
from streamcore.state.key_groups import IntArray, groups_of


class ObjectIndex:
    """Slots for keys that are not integers: a dictionary, asked once per distinct key of a batch."""

    def __init__(self) -> None:
        self._slots: dict[Any, int] = {}

    @property
    def size(self) -> int:
        return len(self._slots)

    @property
    def keys(self) -> list[Any]:
        """The keys in slot order."""
        return list(self._slots)

    def slots(self, keys: Any) -> IntArray:
        """The slot of each key (a list, NumPy or Arrow array), new keys getting new slots; int64 (n,)."""
        known = self._slots
        if isinstance(keys, pa.Array):
            plain = keys.dictionary_decode() if pa.types.is_dictionary(keys.type) and keys.null_count else keys
            encoded = plain if pa.types.is_dictionary(plain.type) else plain.dictionary_encode(null_encoding="encode")
            distinct = np.array([known.setdefault(key, len(known)) for key in encoded.dictionary.to_pylist()], np.int64)
            return distinct[encoded.indices.to_numpy()] if len(distinct) else np.empty(0, np.int64)
        values = keys.tolist() if isinstance(keys, np.ndarray) else keys
        return np.array([known.setdefault(key, len(known)) for key in values], np.int64)


class ColumnarTable:
    """The state of one descriptor in one subtask.

    `table.slots(keys)` gives each record its row; `table["field"]` is the field's array over all rows,
    to be read and written in place (by a kernel, say). Fetch it after `slots`: growing replaces it.
    """

    def __init__(self, descriptor: ColumnarState) -> None:
        self.descriptor = descriptor
        self._index: IntIndex | ObjectIndex | None = None
        self._arrays = {f.name: _zeros(f, 64) for f in descriptor.schema.fields}

    def __len__(self) -> int:
        return self._index.size if self._index else 0

    def __getitem__(self, field: str) -> np.ndarray[Any, Any]:
        return self._arrays[field][: len(self)]

    @property
    def keys(self) -> Any:
        """All keys in slot order: int64 (n,) or a list."""
        return self._index.keys if self._index else np.empty(0, np.int64)

    def slots(self, keys: Array) -> IntArray:
        """The row of each key (n,), int64; new keys get rows with the descriptor's initial values."""
        index = self._index
        if index is None:
            is_int = isinstance(keys, np.ndarray) and keys.dtype.kind in "iub"
            index = self._index = IntIndex() if is_int else ObjectIndex()
        if isinstance(index, IntIndex):
            keys = np.asarray(keys, np.int64)
        before = index.size
        slots = index.slots(keys)
        if index.size > before:
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
            for name, values in self.descriptor.initial(self.keys[before:]).items():
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


def _zeros(field: Any, capacity: int) -> np.ndarray[Any, Any]:
    return np.zeros((capacity, field.width) if field.width else capacity, field.dtype)
