"""`KeyColumns`: the keys of a batch when a key is several fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from streamcore.batch.dictionary import decoded


class KeyColumns:
    """Tuple keys, field by field: one NumPy array, Arrow array or list per field, of one length (n,)."""

    __slots__ = ("fields",)

    def __init__(self, fields: Sequence[Any]) -> None:
        assert fields, "a key of no fields"
        assert len(set(map(len, fields))) == 1, f"key fields of lengths {[len(field) for field in fields]}"
        self.fields = tuple(fields)

    def __len__(self) -> int:
        return len(self.fields[0])

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.to_pylist())

    def to_pylist(self) -> list[tuple[Any, ...]]:
        """The keys as tuples of Python objects."""
        return list(zip(*map(as_list, self.fields), strict=True))


def as_list(keys: Any) -> list[Any]:
    """Keys in any form - list, NumPy array, Arrow array, `KeyColumns` - as Python objects."""
    if isinstance(keys, list):
        return keys
    values: list[Any] = keys.tolist() if isinstance(keys, np.ndarray) else decoded(keys).to_pylist()
    return values
