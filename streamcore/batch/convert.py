"""A batch in either form, and the way from one form to the other (once at the border, never per record)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch.columns import Columns, concat_columns
from streamcore.batch.schema import Field, Schema
from streamcore.errors import BadRecordError

Batch = list[Any] | Columns
"""Records on their way: a list of Python objects, or columns."""

_UNFIT = (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError)


def to_rows(batch: Batch, schema: Schema | None = None) -> list[Any]:
    """The batch as a list of Python objects: of `schema`'s row type, if that is what the columns are."""
    if not isinstance(batch, Columns):
        return batch
    if schema is not None and batch.schema is not schema and batch.schema == schema:
        batch = Columns(schema, batch.arrays)  # made by a function or read from a snapshot: without row type
    return batch.to_rows()


def to_columns(batch: Batch, schema: Schema) -> Columns:
    """The batch as columns of `schema`.

    Raises:
        BadRecordError: a record lacks a field or has a value of another type; names the record and field.
    """
    if isinstance(batch, Columns):
        return batch
    values = _field_values(batch, schema)
    return Columns(schema, {f.name: _column(values[i], f, batch) for i, f in enumerate(schema.fields)})


def concat(parts: Sequence[Batch]) -> Batch:
    """All records of the parts in order; the parts have one form."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Columns):
        return concat_columns(parts)  # type: ignore[arg-type]
    rows: list[Any] = []
    for part in parts:
        rows.extend(to_rows(part))
    return rows


def same_form(first: Any, other: Any) -> bool:
    """Whether both are batches that `concat` can join: rows, or columns of one schema."""
    if isinstance(first, Columns) and isinstance(other, Columns):
        return first.schema is other.schema or first.schema == other.schema
    return isinstance(first, list) and isinstance(other, list)


def take(batch: Batch, indices: Any) -> Batch:
    """The records at `indices` (int64 positions), in that order."""
    if isinstance(batch, Columns):
        return batch.take(indices)
    return [batch[i] for i in indices.tolist()]


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """The records from `start` up to, not including, `stop`."""
    return batch.slice(start, stop) if isinstance(batch, Columns) else batch[start:stop]


def _field_values(rows: list[Any], schema: Schema) -> list[Sequence[Any]]:
    width = len(schema.fields)
    if not rows:
        return [()] * width
    if isinstance(rows[0], tuple):
        try:
            columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        except (TypeError, ValueError):
            columns = []
        if len(columns) != width or not all(issubclass(kind, tuple) for kind in set(map(type, rows))):
            bad = next(row for row in rows if not isinstance(row, tuple) or len(row) != width)
            raise BadRecordError(f"record {_short(bad)} doesn't have the {width} fields of {schema}")
        return columns
    by_key = isinstance(rows[0], dict)
    columns = []
    for name in schema.names:
        get = operator.itemgetter(name) if by_key else operator.attrgetter(name)
        try:
            columns.append([get(row) for row in rows])
        except (AttributeError, KeyError, TypeError):
            bad = next(row for row in rows if not _has(row, get))
            raise BadRecordError(
                f"record {_short(bad)} has no field {name!r}", hint=f"the stream's type is {schema}"
            ) from None
    return columns


def _has(row: Any, get: Callable[[Any], Any]) -> bool:
    try:
        get(row)
    except (AttributeError, KeyError, TypeError):
        return False
    return True


def _column(values: Sequence[Any], field: Field, rows: list[Any]) -> Any:
    try:
        return _array(values, field)
    except _UNFIT as error:
        for value, row in zip(values, rows, strict=False):
            if not _fits(value, field):
                raise BadRecordError(
                    f"record {_short(row)}: field {field.name!r} is {_short(value)}, not {field.type}"
                ) from None
        raise BadRecordError(f"field {field.name!r} can't be made {field.type}: {error}") from None


def _array(values: Sequence[Any], field: Field) -> Any:
    if field.dtype is not None and field.width:
        return np.array(values, dtype=field.dtype).reshape(len(values), field.width)
    if pa.types.is_integer(field.type) and _has_fractions(values):
        raise ValueError("a number has a fraction")
    array = pa.array(values, type=field.type)
    if array.null_count and not field.nullable:
        raise ValueError("a value is missing")
    return array if field.dtype is None else array.to_numpy(zero_copy_only=False).astype(field.dtype, copy=False)


def _has_fractions(values: Sequence[Any]) -> bool:
    """Arrow would cut them off without a word."""
    if all(not issubclass(kind, (float, np.floating)) for kind in set(map(type, values))):
        return False
    return any(isinstance(value, (float, np.floating)) and not float(value).is_integer() for value in values)


def _fits(value: Any, field: Field) -> bool:
    try:
        _array([value], field)
    except _UNFIT:
        return False
    return True


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
