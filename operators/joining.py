"""What the joins have in common: the fields of their results, and which rows match."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, DataStream, Field, Schema, StreamcoreError, kernel

Rows = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of rows, or slots; int64 (n,)."""

Key = str | tuple[str, ...]
"""A field, or several."""


class JoinError(StreamcoreError):
    """The streams can't be joined so."""


class JoinFields:
    """The fields of a join: all of the left, and those of the right that aren't its key, after them.

    Args:
        on: the key of the left and of the right, or one for both.

    Attributes:
        left, right: the sides' schemas.
        left_key, right_key: their keys.
        result: the schema of the results.

    Raises:
        JoinError: a stream has no type or no such key, the keys' types differ, or a name would come twice.
    """

    def __init__(self, where: str, left: DataStream[Any], right: DataStream[Any], on: str | tuple[Key, Key]) -> None:
        if left.schema is None or right.schema is None:
            raise JoinError(f"{where} works on columns: both streams need a type")
        self.left, self.right = left.schema, right.schema
        self.left_key, self.right_key = (on, on) if isinstance(on, str) else on
        left_fields, right_fields = (
            key_fields(where, self.left, self.left_key),
            key_fields(where, self.right, self.right_key),
        )
        if [_kind(field) for field in left_fields] != [_kind(field) for field in right_fields]:
            raise JoinError(
                f"{where}: the keys have different types",
                hint=f"left: {', '.join(map(str, left_fields))}; right: {', '.join(map(str, right_fields))}",
            )
        self._others = tuple(field for field in self.right.fields if field not in right_fields)
        if twice := sorted({field.name for field in self._others} & set(self.left.names)):
            raise JoinError(
                f"{where}: both streams have a field {twice[0]!r}",
                hint="give one of them another name before, with map_batch",
            )
        self.result = Schema((*self.left.fields, *self._others))

    def results(self, left: Columns, right: Columns) -> Columns:
        """The pairs of rows of equal number."""
        arrays = {name: left.encoded(name) for name in self.left.names}
        return Columns(self.result, {**arrays, **{field.name: right.encoded(field.name) for field in self._others}})


def key_fields(where: str, schema: Schema, key: Key) -> tuple[Field, ...]:
    """The fields of a key.

    Raises:
        JoinError: one isn't there.
    """
    names = (key,) if isinstance(key, str) else key
    missing = [name for name in names if name not in schema.by_name]
    if missing or not names:
        raise JoinError(f"{where}: there is no key {key!r}", hint=f"the fields are {schema}")
    return tuple(schema.by_name[name] for name in names)


def key_of(columns: Columns, key: Key) -> Any:
    """The key of each record, in the form that `ColumnarTable.slots` takes."""
    return columns.encoded(key) if isinstance(key, str) else tuple(columns.encoded(name) for name in key)


@kernel
def matches(left: Rows, right: Rows, slots: int) -> tuple[Rows, Rows]:
    """All pairs of rows with equal slots: their numbers, by left row, then right row.

    Args:
        left, right: the slot of each row, below `slots`.

    Example:
        >>> matches(np.array([0, 1, 0]), np.array([2, 0, 0]), 3)
        (array([0, 0, 2, 2]), array([1, 2, 1, 2]))
    """
    starts = np.zeros(slots + 1, np.int64)
    for slot in right:
        starts[slot + 1] += 1
    for slot in range(slots):
        starts[slot + 1] += starts[slot]
    by_slot, place = np.empty(len(right), np.int64), starts[:slots].copy()
    for row in range(len(right)):
        slot = right[row]
        by_slot[place[slot]] = row
        place[slot] += 1
    total = 0
    for slot in left:
        total += starts[slot + 1] - starts[slot]
    left_rows, right_rows = np.empty(total, np.int64), np.empty(total, np.int64)
    pair = 0
    for row in range(len(left)):
        for at in range(starts[left[row]], starts[left[row] + 1]):
            left_rows[pair] = row
            right_rows[pair] = by_slot[at]
            pair += 1
    return left_rows, right_rows


def _kind(field: Field) -> str:
    if pa.types.is_integer(field.type):
        return "integer"
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        return "text"
    return str(field.type)
