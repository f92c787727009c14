"""Data as users have it - columns, tables, Parquet, rows, pairs - in the forms that state is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamcore.batch import Columns, Field, schema_of
from streamcore.errors import DataError
from streamcore.kernels.key_columns import KeyColumns, as_list

Data = Any
"""`Columns`, a pyarrow Table or RecordBatch, a mapping of column names to arrays, a list of dictionaries, the path of a
Parquet file or directory; for state of Python objects also a mapping of keys to values, or (key, value) pairs."""

Key = str | tuple[str, ...]


def is_tabular(data: Data) -> bool:
    """Whether data has columns with names."""
    if isinstance(data, Columns | pa.Table | pa.RecordBatch | str | os.PathLike):
        return True
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict)


def to_columns(data: Data, what: str) -> Columns:
    """Data as columns.

    Args:
        what: names the data in messages.

    Raises:
        DataError: it has none, or a value is missing in a column of numbers.
    """
    if isinstance(data, Columns):
        return data
    try:
        if isinstance(data, str | os.PathLike):
            data = pq.read_table(os.fspath(data))
        elif isinstance(data, list) and all(isinstance(row, dict) for row in data):
            data = pa.Table.from_pylist(data)
        elif isinstance(data, Mapping):
            return Columns.of(**data)
        elif isinstance(data, pa.RecordBatch):
            data = pa.Table.from_batches([data])
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{what}: {error}") from error
    if not isinstance(data, pa.Table):
        raise DataError(
            f"{what}: {type(data).__name__} has no columns",
            hint="give Columns, a pyarrow Table, a list of dictionaries, arrays by name, or the path of a Parquet file",
        )
    schema = schema_of(data.schema)
    assert schema is not None, "an Arrow schema is one of ours"
    for field in schema.fields:
        if not field.nullable and data[field.name].null_count:
            raise DataError(f"{what}: column {field.name!r} has no value in {data[field.name].null_count} rows")
    batches = data.combine_chunks().to_batches()
    return Columns.from_arrow(batches[0] if batches else pa.RecordBatch.from_pylist([], data.schema), schema)


def keys_of(columns: Columns, key: Key, what: str) -> Any:
    """The keys in one column, or the tuples of several.

    Raises:
        DataError: a column isn't there, or has no value somewhere.
    """
    names = [key] if isinstance(key, str) else list(key)
    for name in names:
        if name not in columns:
            raise DataError(
                f"{what}: there is no column {name!r} to take keys from",
                hint=f"say which with key=; the columns are: {', '.join(columns.schema.names)}",
            )
        array = columns[name]
        if not isinstance(array, np.ndarray) and array.null_count:
            raise DataError(f"{what}: column {name!r} has no key in {array.null_count} rows")
    return columns[key] if isinstance(key, str) else KeyColumns([columns[name] for name in names])


def to_pairs(data: Data, key: Key, value: str | Callable[[dict[str, Any]], Any], what: str) -> list[tuple[Any, Any]]:
    """Data as (key, value) pairs.

    Args:
        value: the column of the values, or a function that makes a value of a row, a dictionary.

    Raises:
        DataError: it has neither.
    """
    if not is_tabular(data):
        return _pairs(data.items() if isinstance(data, Mapping) else data, what)
    columns = to_columns(data, what)
    keys = as_list(keys_of(columns, key, what))
    if callable(value):
        return list(zip(keys, map(value, columns.to_arrow().to_pylist()), strict=True))
    if value not in columns:
        raise DataError(
            f"{what}: there is no column {value!r} to take values from",
            hint=f"say which with value=; the columns are: {', '.join(columns.schema.names)}",
        )
    return list(zip(keys, as_list(columns[value]), strict=True))


def as_field(array: Any, field: Field, what: str) -> np.ndarray[Any, Any]:
    """An array in the type of a column of fixed width.

    Raises:
        DataError: a number has no place in it, or it has another width.
    """
    values = array if isinstance(array, np.ndarray) else np.asarray(array)
    if values.ndim != 1 + bool(field.width) or (field.width and values.shape[1] != field.width):
        raise DataError(
            f"{what}: column {field.name!r} has shape {values.shape[1:]} per row, the state's field is {field}"
        )
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what}: column {field.name!r} is of type {values.dtype}, the state's field is {field}")
    with np.errstate(all="ignore"):
        converted = values.astype(field.dtype)
    if not np.array_equal(converted, values, equal_nan=values.dtype.kind == "f"):
        raise DataError(f"{what}: column {field.name!r} has numbers that are none of the state's field {field}")
    return converted


def _pairs(data: Iterable[Any], what: str) -> list[tuple[Any, Any]]:
    try:
        return [(key, value) for key, value in data]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what}: {error}", hint="give (key, value) pairs, a dictionary, or something with columns"
        ) from error
