"""Schemas: which columns a typed stream has.

A fixed-width field that can't be missing (bool, integer, float, a vector of them) is a NumPy column;
every other field (strings, bytes, times, optional values) is an Arrow column.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import types
import typing
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamcore.errors import TopologyError

_PYTHON_TYPES: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.datetime: pa.timestamp("us"),
    datetime.date: pa.date32(),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Vector:
    """The type of a field that holds `width` numbers of one dtype: a 2-D NumPy column (rows, width)."""

    width: int
    dtype: npt.DTypeLike = np.float64


@dataclasses.dataclass(frozen=True)
class Field:
    """One column: its name, Arrow type, and whether a value may be missing."""

    name: str
    type: pa.DataType
    nullable: bool = False

    @functools.cached_property
    def width(self) -> int:
        """Numbers per row of a vector column; 0 for a plain column."""
        return int(self.type.list_size) if pa.types.is_fixed_size_list(self.type) else 0

    @functools.cached_property
    def dtype(self) -> np.dtype[Any] | None:
        """The NumPy dtype of the column's numbers, or None when it is an Arrow column."""
        item = self.type.value_type if self.width else self.type
        if self.nullable or not (pa.types.is_integer(item) or pa.types.is_floating(item) or pa.types.is_boolean(item)):
            return None
        dtype: np.dtype[Any] = np.dtype(item.to_pandas_dtype())
        return dtype

    def __str__(self) -> str:
        return f"{self.name}: {self.type}{'?' if self.nullable else ''}"


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a typed stream, in order, and the Python type of its rows."""

    fields: tuple[Field, ...]
    row_type: type[Any] | None = dataclasses.field(default=None, compare=False)

    @staticmethod
    def of(**fields: Any) -> Schema:
        """A schema from names and types: `Schema.of(user=int, vector=Vector(10, "f4"))`.

        Raises:
            TopologyError: a type has no column form.
        """
        return Schema(tuple(_field(name, declared) for name, declared in fields.items()))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @functools.cached_property
    def by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}

    @functools.cached_property
    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(f.name, f.type, nullable=f.nullable) for f in self.fields])

    @functools.cached_property
    def make_row(self) -> Callable[[Iterable[Any]], Any]:
        """Builds one row from the values of its fields, in order."""
        cls = self.row_type
        if cls is None:
            return typing.cast(Callable[[Iterable[Any]], Any], record_type(self.names)._make)
        if hasattr(cls, "_make"):
            return typing.cast(Callable[[Iterable[Any]], Any], cls._make)
        if any(p.kind is p.KEYWORD_ONLY for p in inspect.signature(cls).parameters.values()):
            names = self.names
            return lambda values: cls(**dict(zip(names, values, strict=True)))
        return lambda values: cls(*values)

    def select(self, names: Iterable[str]) -> Schema:
        """The schema of some of the columns."""
        return Schema(tuple(self.by_name[name] for name in names))

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.fields)) + ")"

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.fields, self.row_type)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        object.__setattr__(self, "fields", state[0])
        object.__setattr__(self, "row_type", state[1])


@functools.cache
def record_type(names: tuple[str, ...]) -> Any:
    """The named tuple of rows whose schema has no row type of its own."""
    return namedtuple("Record", names)


def is_record_type(cls: type) -> bool:
    """Whether a class is one that `record_type` has made."""
    return cls.__module__ == __name__ and cls is record_type(cls._fields)  # type: ignore[attr-defined]


def schema_of(declared: Any) -> Schema | None:
    """The schema that a user's type stands for: a `Schema`, a `pyarrow.Schema`, a dataclass, a NamedTuple
    or a msgspec Struct; None for any other type (such a stream travels as rows).

    Raises:
        TopologyError: a field's type has no column form.
    """
    if declared is None or isinstance(declared, Schema):
        return declared
    if isinstance(declared, pa.Schema):
        return Schema(tuple(Field(f.name, f.type, f.nullable and not _is_number(f.type)) for f in declared))
    if not isinstance(declared, type):
        return None
    if dataclasses.is_dataclass(declared):
        names = [field.name for field in dataclasses.fields(declared)]
    elif issubclass(declared, tuple) and hasattr(declared, "_fields"):
        names = list(getattr(declared, "_fields", ()))
    elif issubclass(declared, msgspec.Struct):
        names = list(declared.__struct_fields__)
    else:
        return None
    hints = typing.get_type_hints(declared, include_extras=True)
    return Schema(tuple(_field(name, hints[name]) for name in names), declared)


def _is_number(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_boolean(arrow))


def _field(name: str, declared: Any) -> Field:
    if isinstance(declared, pa.DataType):
        return Field(name, declared, not (_is_number(declared) or pa.types.is_fixed_size_list(declared)))
    if isinstance(declared, Vector):
        return Field(name, pa.list_(pa.from_numpy_dtype(np.dtype(declared.dtype)), declared.width))
    if typing.get_origin(declared) is typing.Annotated:
        vectors = [extra for extra in typing.get_args(declared)[1:] if isinstance(extra, Vector)]
        return _field(name, vectors[0] if vectors else typing.get_args(declared)[0])
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(declared) if option is not type(None)]
        if len(options) == 1:
            return Field(name, _field(name, options[0]).type, True)
    if declared in _PYTHON_TYPES:
        return Field(name, _PYTHON_TYPES[declared])
    try:
        return Field(name, pa.from_numpy_dtype(np.dtype(declared)))
    except (TypeError, pa.ArrowNotImplementedError):
        raise TopologyError(
            f"field {name!r} has type {declared!r}, which has no column form",
            hint="use bool, int, float, str, bytes, datetime, a NumPy dtype, Vector(width, dtype), or X | None of one",
        ) from None
