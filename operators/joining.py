"""What the joins have in common: the fields of their results, and which rows match."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa

from streamcore import Columns, DataStream, Field, OutputTag, Schema, TopologyError, kernel

Rows = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of rows, or slots; int64 (n,)."""

Key = str | tuple[str, ...]
"""A field, or several."""

How = Literal["inner", "left", "right", "full", "semi", "anti"]
"""Which records a join gives: pairs; with the left, the right, or all records that have no partner; the left records
that have a partner, or those that have none."""

LateTags = tuple[OutputTag[Any], OutputTag[Any]]
"""Where the late records of the left and of the right go."""


class JoinError(TopologyError):
    """The streams can't be joined so."""


class JoinFields:
    """The fields of a join: all of the left, and those of the right that aren't its key, after them.

    In results without partner, the other side's fields are missing, so they may be; the key's fields never are for
    want of a partner. Semi and anti joins have the left's fields only.

    Args:
        on: the key of the left and of the right, or one for both.
        how: which results there are.
        suffix: what is added to the names of the right's fields that the left has too.
        added: fields that come after the others.

    Attributes:
        left, right: the sides' schemas.
        left_key, right_key: their keys.
        result: the schema of the results.

    Raises:
        JoinError: a stream has no type or no such key, the keys' types differ, or a name would come twice.
    """

    def __init__(
        self,
        where: str,
        left: DataStream[Any],
        right: DataStream[Any],
        on: str | tuple[Key, Key],
        *,
        how: How = "inner",
        suffix: str = "_right",
        added: tuple[Field, ...] = (),
    ) -> None:
        if left.schema is None or right.schema is None:
            raise JoinError(f"{where} works on columns: both streams need a type")
        self.left, self.right = left.schema, right.schema
        self.left_key, self.right_key = (on, on) if isinstance(on, str) else on
        left_fields, right_fields = (
            key_fields(where, self.left, self.left_key),
            key_fields(where, self.right, self.right_key),
        )
        keeps_right = how in ("right", "full")
        if [_kind(field, keeps_right) for field in left_fields] != [
            _kind(field, keeps_right) for field in right_fields
        ]:
            raise JoinError(
                f"{where}: the keys have different types",
                hint=f"left: {', '.join(map(str, left_fields))}; right: {', '.join(map(str, right_fields))}",
            )
        self._right_key_of = {left.name: right.name for left, right in zip(left_fields, right_fields, strict=True)}
        others = [field for field in self.right.fields if field not in right_fields and how not in ("semi", "anti")]
        names = {f.name: f.name + suffix if f.name in self.left.by_name else f.name for f in others}
        self._others = tuple(
            (field.name, Field(names[field.name], field.type, field.nullable or how in ("left", "full")))
            for field in others
        )
        nullable_keys = {
            left.name: left.nullable or (keeps_right and right.nullable)
            for left, right in zip(left_fields, right_fields, strict=True)
        }
        self._lefts = tuple(
            Field(field.name, field.type, nullable_keys.get(field.name, field.nullable or keeps_right))
            for field in self.left.fields
        )
        fields = (*self._lefts, *(field for _, field in self._others), *added)
        if len({field.name for field in fields}) < len(fields):
            twice = next(f.name for i, f in enumerate(fields) if f.name in {other.name for other in fields[:i]})
            raise JoinError(
                f"{where}: two fields would have the name {twice!r}",
                hint=f"give a suffix other than {suffix!r}, or another name before",
            )
        self.result = Schema(fields)

    def results(self, left: Columns, right: Columns, **added: Any) -> Columns:
        """The pairs of rows of equal number."""
        arrays = {field.name: _fitted(left, field.name, field) for field in self._lefts}
        arrays.update((field.name, _fitted(right, name, field)) for name, field in self._others)
        return Columns(self.result, {**arrays, **added})

    def left_alone(self, left: Columns, **added: Any) -> Columns:
        """The left's records without partner; or of semi and anti joins, the results."""
        arrays = {field.name: _fitted(left, field.name, field) for field in self._lefts}
        arrays.update((field.name, pa.nulls(len(left), field.type)) for _, field in self._others)
        return Columns(self.result, {**arrays, **added})

    def right_alone(self, right: Columns, **added: Any) -> Columns:
        """The right's records without partner."""
        arrays: dict[str, Any] = {}
        for field in self._lefts:
            name = self._right_key_of.get(field.name)
            arrays[field.name] = pa.nulls(len(right), field.type) if name is None else _fitted(right, name, field)
        arrays.update((field.name, _fitted(right, name, field)) for name, field in self._others)
        return Columns(self.result, {**arrays, **added})


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


def time_fields(where: str, fields: JoinFields, time: str | tuple[str, str]) -> tuple[str, str]:
    """The fields with the event time of the left and of the right.

    Raises:
        JoinError: one isn't there, or holds no int64.
    """
    times = (time, time) if isinstance(time, str) else time
    for schema, name in zip((fields.left, fields.right), times, strict=True):
        field = schema.by_name.get(name)
        if field is None or field.type != pa.int64() or field.nullable:
            raise JoinError(
                f"{where}: there is no event time in a field {name!r}",
                hint=f"it holds int64 milliseconds and is never missing; the fields: {schema}",
            )
    return times


def late_tags(late_to: LateTags | None) -> tuple[OutputTag[Any], ...]:
    """The side outputs of late records, for `process(tags=...)`."""
    return () if late_to is None else late_to


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


def _fitted(columns: Columns, name: str, field: Field) -> Any:
    """A column in the form in which columns hold `field`: what may be missing is an Arrow array."""
    array = columns.encoded(name)
    if field.dtype is None and isinstance(array, np.ndarray):
        return columns.select(name).to_arrow().column(0)
    return array


def _kind(field: Field, exactly: bool) -> str:
    if pa.types.is_integer(field.type) and not exactly:
        return "integer"
    if pa.types.is_string(field.type) or (pa.types.is_large_string(field.type) and not exactly):
        return "text"
    return str(field.type)
