"""The keys of a stream's fields and their slots, which are given up again as a whole when few are in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamcore.batch import Columns, Schema
from streamcore.kernels.key_columns import KeyColumns
from streamcore.kernels.key_index import KeyIndex
from streamcore.state.slices import _column

IntArray = np.ndarray[Any, np.dtype[np.int64]]

SPARE_KEYS = 1 << 18


class KeySlots:
    """Slots for the keys of `schema`'s fields: 0, 1, 2, … in order of first appearance. Without fields all records have
    one key."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._index = KeyIndex()

    def __len__(self) -> int:
        return self._index.size if self.schema.fields else 1

    def slots(self, batch: Columns) -> IntArray:
        """The slot of each record's key, new keys getting new slots; int64 (n,)."""
        names = self.schema.names
        if not names:
            return np.zeros(len(batch), np.int64)
        if len(names) == 1:
            return self._index.slots(batch.encoded(names[0]))
        return self._index.slots(KeyColumns([batch.encoded(name) for name in names]))

    def columns(self, slots: IntArray) -> dict[str, Any]:
        """The keys of some slots (n,) as columns of the schema, by name."""
        fields = self.schema.fields
        if not fields:
            return {}
        taken = self._index.take(slots)
        parts: Sequence[Any] = [taken]
        if len(fields) > 1:
            parts = taken.fields if isinstance(taken, KeyColumns) else list(zip(*taken, strict=True))
        return {field.name: _column(part, field) for field, part in zip(fields, parts, strict=True)}

    def has_many_unused(self, used: int) -> bool:
        """Whether so few of the slots are in use that the others are worth giving up."""
        return len(self) > 4 * used + SPARE_KEYS

    def keep(self, slots: IntArray) -> IntArray:
        """Forgets all keys but those of some slots, each given once, and returns their new slots; int64 (n,)."""
        keys, self._index = self._index.take(slots), KeyIndex()
        return self._index.slots(keys)
