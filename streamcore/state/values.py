"""Columns of any type as what accumulators keep: NumPy numbers, or Python values, and back.

Times of day and dates are kept as the whole numbers that Arrow counts them in, so that no unit loses anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, Any]
Rows = np.ndarray[Any, np.dtype[np.int64]]


def is_number(type_: pa.DataType) -> bool:
    """Whether the type is that of whole numbers, floats or truth values."""
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_))


def is_time(type_: pa.DataType) -> bool:
    """Whether values of the type are counted in units of time: timestamps, dates, times of day, durations."""
    return bool(pa.types.is_temporal(type_) and not pa.types.is_interval(type_))


def wide_dtype(type_: pa.DataType) -> np.dtype[Any]:
    """The dtype as which numbers or times of the type are kept: int64, uint64 or float64."""
    if pa.types.is_floating(type_):
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if pa.types.is_uint64(type_) else np.int64)


def present_rows(column: Any) -> Rows | None:
    """The rows of a column that have a value, ascending; None if all have."""
    if isinstance(column, np.ndarray) or column.null_count == 0:
        return None
    return np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))


def ordered_rows(column: Any) -> Rows | None:
    """The rows whose value has a place in an order: neither missing nor NaN; None if all have."""
    rows = present_rows(column)
    if isinstance(column, np.ndarray):
        is_nan = np.isnan(column) if column.dtype.kind == "f" else None
        return np.flatnonzero(~is_nan) if is_nan is not None and is_nan.any() else None
    if rows is None and not pa.types.is_floating(column.type):
        return None
    rows = np.arange(len(column)) if rows is None else rows
    values = numbers(column.take(pa.array(rows)))
    return rows[~np.isnan(values)] if values.dtype.kind == "f" else rows


def numbers(column: Any) -> Array:
    """A column of numbers or times without missing values as NumPy has them; int64, uint64 or float64 (n,)."""
    if isinstance(column, np.ndarray):
        wide = np.float64 if column.dtype.kind == "f" else np.uint64 if column.dtype == np.uint64 else np.int64
        return column.astype(wide, copy=False)
    array: Array = _counted(column).to_numpy(zero_copy_only=False)
    return array.astype(wide_dtype(column.type), copy=False)


def objects(column: Any) -> list[Any]:
    """A column as Python values, None where one is missing; times as whole numbers."""
    values: list[Any] = column.tolist() if isinstance(column, np.ndarray) else _counted(column).to_pylist()
    return values


def column_of(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Python values, as `objects` gives them, as an Arrow array of the type."""
    if not is_time(type_):
        return pa.array(values, type_)
    return pa.array(values, _counter(type_)).cast(type_)


def result_column(values: Array, type_: pa.DataType, missing: Any = None) -> Any:
    """Kept numbers as a column of results: NumPy numbers of the type, or Arrow where it is one of times or values are
    missing (`missing`, bool (n,))."""
    if is_time(type_):
        return pa.array(values, mask=missing).cast(_counter(type_)).cast(type_)
    values = values.astype(np.dtype(type_.to_pandas_dtype()), copy=False)
    return values if missing is None else pa.array(values, type_, mask=missing)


def rows_of(column: Any, rows: Rows | None) -> Any:
    """The values at some rows, or (None) all of them."""
    if rows is None:
        return column
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))


def _counter(type_: pa.DataType) -> pa.DataType:
    return pa.int32() if type_.bit_width == 32 else pa.int64()


def _counted(column: pa.Array) -> pa.Array:
    return column.cast(_counter(column.type)) if is_time(column.type) else column
