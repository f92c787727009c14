"""The keys of a stream's fields and their slots, which are given up again as a whole when few are in use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.key_index import KeyIndex

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


def _column(values: Any, field: Field) -> Any:
    """Keys as a column of the field's type."""
    if field.dtype is not None:
        return np.asarray(values, field.dtype)
    if isinstance(values, pa.Array):
        return values if values.type == field.type else values.cast(field.type)
    return pa.array(as_list(values) if not isinstance(values, tuple) else list(values), field.type)


def free_names(wanted: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Column names that nobody has yet: a user's field may be called `slice` too."""
    used, free = set(taken), []
    for name in wanted:
        while name in used:
            name += "_"  # noqa: PLW2901
        used.add(name)
        free.append(name)
    return free
