"""`Columns`: a batch of typed records, one array per field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch.dictionary import concat_arrays, decoded, is_dictionary, normal_form, take_rows
from streamcore.batch.schema import Field, Schema
from streamcore.errors import TopologyError

Array = Any
"""A NumPy array (fixed-width fields; 2-D for vectors) or a pyarrow Array (all others)."""


class Columns:
    """A batch of records as arrays of one length. Treat the arrays as read-only: batches are shared.

    `columns["celsius"]` is the array of a field; `len(columns)` the number of records. A text column may be held
    dictionary-encoded, as a `pyarrow.DictionaryArray` with int32 indices: `columns["word"]` decodes it,
    `columns.encoded("word")` gives it as it is. The field's type is that of the values either way.
    """

    __slots__ = ("_length", "arrays", "schema")

    def __init__(self, schema: Schema, arrays: Mapping[str, Array]) -> None:
        self.schema = schema
        self.arrays: dict[str, Array] = {field.name: _held(arrays[field.name], field) for field in schema.fields}
        self._length = len(next(iter(self.arrays.values()))) if self.arrays else 0
        for name, array in self.arrays.items():
            if len(array) != self._length:
                raise ValueError(f"column {name!r} has {len(array)} rows, the first column has {self._length}")

    @staticmethod
    def of(**arrays: Array) -> Columns:
        """Columns with the schema that the arrays themselves have."""
        arrays = {name: normal_form(array) for name, array in arrays.items()}
        return Columns(Schema(tuple(infer_field(name, array) for name, array in arrays.items())), arrays)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> Array:
        return decoded(self.encoded(name))

    def encoded(self, name: str) -> Array:
        """The array of a field as it is held: perhaps a `pyarrow.DictionaryArray`, which `columns[name]` decodes.

        Raises:
            TopologyError: there is no such column.
        """
        try:
            return self.arrays[name]
        except KeyError:
            raise TopologyError(
                f"there is no column {name!r}", hint=f"the columns are: {', '.join(self.arrays)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Columns):
            return NotImplemented
        return self.schema == other.schema and all(
            np.array_equal(self[name], other[name])
            if isinstance(self.arrays[name], np.ndarray)
            else self[name].equals(other[name])
            for name in self.arrays
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Columns({self._length} rows of {self.schema})"

    @staticmethod
    def concat(parts: Sequence[Columns]) -> Columns:
        """The records of all parts, at least one, which share one schema, in order."""
        return concat_columns(parts)

    def take(self, indices: Array) -> Columns:
        """The records at `indices` (int64 positions), in that order."""
        return self._map(lambda a: a[indices] if isinstance(a, np.ndarray) else take_rows(a, indices))

    def filter(self, mask: Array) -> Columns:
        """The records where the boolean `mask` is true."""
        kept = np.flatnonzero(mask)
        return self if len(kept) == self._length else self.take(kept)

    def slice(self, start: int, stop: int) -> Columns:
        """The records from `start` up to, not including, `stop`; no copy."""
        return self._map(lambda a: a[start:stop])

    def select(self, *names: str) -> Columns:
        """Only the named columns, in that order."""
        return Columns(self.schema.select(names), {name: self.encoded(name) for name in names})

    def with_columns(self, **arrays: Array) -> Columns:
        """These columns with some added or replaced; a new field's type is that of its array."""
        fields = dict(self.schema.by_name)
        arrays = {name: normal_form(array) for name, array in arrays.items()}
        for name, array in arrays.items():
            field, old = infer_field(name, array), fields.get(name)
            is_same = old is not None and old.type == field.type and old.nullable and not isinstance(array, np.ndarray)
            if not is_same:  # an optional field stays one, also in a batch that happens to lack no value
                fields[name] = field
        schema = Schema(tuple(fields.values()))
        return Columns(self.schema if schema == self.schema else schema, {**self.arrays, **arrays})

    def to_rows(self) -> list[Any]:
        """One Python object per record: the schema's row type, or a named tuple."""
        lists: list[Sequence[Any]] = []
        for field in self.schema.fields:
            array = self.arrays[field.name]
            if isinstance(array, np.ndarray):
                lists.append(list(array) if field.width else array.tolist())
            else:
                lists.append(decoded(array).to_pylist())
        return list(map(self.schema.make_row, zip(*lists, strict=True))) if lists else []

    def to_arrow(self) -> pa.RecordBatch:
        """The same records as an Arrow record batch of `schema.arrow`; plain numbers are not copied, dictionaries
        are decoded."""
        arrays = [to_arrow_array(self.arrays[f.name], f) for f in self.schema.fields]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow)

    @staticmethod
    def from_arrow(batch: pa.RecordBatch, schema: Schema) -> Columns:
        """Columns over an Arrow record batch that has the schema's fields, text perhaps dictionary-encoded; plain
        numbers are not copied."""
        return Columns(schema, {f.name: batch.column(f.name) for f in schema.fields})

    def _map(self, change: Any) -> Columns:
        return Columns(self.schema, {name: change(array) for name, array in self.arrays.items()})


def concat_columns(parts: Sequence[Columns]) -> Columns:
    """The records of all parts, which share one schema, in order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    arrays: dict[str, Array] = {}
    for name in first.schema.names:
        pieces = [part.arrays[name] for part in parts]
        if isinstance(pieces[0], np.ndarray):
            arrays[name] = np.concatenate(pieces)
        else:
            arrays[name] = concat_arrays(pieces)
    return Columns(first.schema, arrays)


def infer_field(name: str, array: Array) -> Field:
    """The field that an array stands for."""
    if not isinstance(array, np.ndarray):
        return Field(name, array.type.value_type if is_dictionary(array) else array.type, array.null_count > 0)
    item = pa.from_numpy_dtype(array.dtype)
    return Field(name, item if array.ndim == 1 else pa.list_(item, array.shape[1]))


def to_arrow_array(array: Array, field: Field) -> pa.Array:
    """A column as an Arrow array of the field's type."""
    if not isinstance(array, np.ndarray):
        return decoded(array)
    if field.width:
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, type=field.type)
    return pa.array(array, type=field.type)


def _held(array: Array, field: Field) -> Array:
    """The array in the one form in which columns hold such a field, whatever a user's function has made."""
    if isinstance(array, np.ndarray):
        return array
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if field.dtype is None:
        array = normal_form(array)
        type_ = array.type.value_type if is_dictionary(array) else array.type
        return array if type_ == field.type else decoded(array).cast(field.type)
    if array.null_count:
        raise ValueError(f"column {field.name!r} lacks values, but its field is {field}")
    if field.width:
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, field.width)
    return array.to_numpy(zero_copy_only=False)
