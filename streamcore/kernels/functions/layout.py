"""What a record, a state or a result looks like to compiled code: named values of a few kinds.

Compiled code sees numbers as Python shows them: every integer dtype as int64, every float dtype as float64. A field
that is no plain number (text, a time, an optional value, a vector) has the kind OPAQUE: it can be handed on, nothing
else.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamcore.batch import Field, Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.kernels.functions.classes import check_plain, record_class
from streamcore.kernels.functions.refusal import NotCompilableError


class Kind(enum.Enum):
    """The kinds of value that compiled code knows."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    OPAQUE = "opaque"


class Shape(enum.Enum):
    """How the values of a layout stand together."""

    SCALAR = "scalar"
    TUPLE = "tuple"
    RECORD = "record"


PYTHON_KINDS: dict[type, Kind] = {int: Kind.INT, float: Kind.FLOAT, bool: Kind.BOOL}
WIDE: dict[Kind, np.dtype[Any]] = {
    Kind.INT: np.dtype(np.int64),
    Kind.FLOAT: np.dtype(np.float64),
    Kind.BOOL: np.dtype(np.bool_),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The values of a record, a state or a result.

    Attributes:
        shape: one bare value, a plain tuple, or a record of `cls`.
        names: of the values; those of a scalar or tuple are made up.
        kinds: of the values.
        cls: the class of a record; None for that of a schema without a type of its own (see `row_class`).
    """

    shape: Shape
    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    cls: type[Any] | None = None

    @property
    def numbers(self) -> list[tuple[int, str, Kind]]:
        """(position, name, kind) of the values that are not opaque."""
        return [
            (i, name, kind)
            for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True))
            if kind is not Kind.OPAQUE
        ]

    @functools.cached_property
    def build(self) -> Any:
        """Makes the Python object from its values, in order."""
        if self.shape is Shape.SCALAR:
            return lambda values: values[0]
        if self.shape is Shape.TUPLE:
            return tuple
        return Schema((), self.row_class).make_row

    @functools.cached_property
    def row_class(self) -> type[Any]:
        """The class of the records as the interpreter sees them."""
        return self.cls or type(Schema.of(**dict.fromkeys(self.names, int)).make_row(self.names))

    def values(self, state: Any) -> tuple[Any, ...]:
        """The values of a Python object of this layout.

        Raises:
            ValueError: the object has another shape, or a value isn't of its kind.
        """
        if self.shape is Shape.SCALAR:
            found: tuple[Any, ...] = (state,)
        elif self.shape is Shape.TUPLE:
            if type(state) is not tuple or len(state) != len(self.names):
                raise ValueError(f"{state!r} is no tuple of {len(self.names)} values")
            found = state
        else:
            if type(state) is not self.row_class:
                raise ValueError(f"{state!r} is no {self.row_class.__name__}")
            found = tuple(getattr(state, name) for name in self.names)
        for name, kind, value in zip(self.names, self.kinds, found, strict=True):
            if PYTHON_KINDS.get(type(value), Kind.OPAQUE) is not kind and kind is not Kind.OPAQUE:
                raise ValueError(f"{name} is {value!r} ({type(value).__name__}), not {kind.value}")
            if kind is Kind.INT and not -(1 << 63) <= value < 1 << 63:
                raise ValueError(f"{name} is {value}, which doesn't fit 64 bits")
        return found

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.shape, self.names, self.kinds, self.cls)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("shape", "names", "kinds", "cls"), state, strict=True):
            object.__setattr__(self, name, value)


def kind_of(field: Field) -> Kind:
    """How compiled code sees a column."""
    dtype = field.dtype
    if dtype is None or field.width or dtype == np.float16:
        return Kind.OPAQUE
    return {"i": Kind.INT, "u": Kind.INT, "f": Kind.FLOAT, "b": Kind.BOOL}[dtype.kind]


def record_layout(schema: Schema) -> Layout:
    """The layout of a stream's records.

    Raises:
        NotCompilableError: making a record runs code of the user's, or a field's name is no Python name.
    """
    cls: Any = schema.row_type
    if cls is not None:
        check_plain(cls)
    record_class(schema.names, cls)  # the names must do for a namedtuple
    return Layout(Shape.RECORD, schema.names, tuple(kind_of(field) for field in schema.fields), cls)


def state_layout(initial: Any) -> Layout:
    """The layout of the states that begin as `initial`: a number, a tuple of numbers, or a record of numbers.

    Raises:
        NotCompilableError: the state can't be kept in arrays, or a first value is not of its field's declared type.
    """
    cls = type(initial)
    if cls in PYTHON_KINDS:
        layout = Layout(Shape.SCALAR, ("value",), (PYTHON_KINDS[cls],))
    elif cls is tuple and initial:
        kinds = [PYTHON_KINDS.get(type(value), Kind.OPAQUE) for value in initial]
        layout = Layout(Shape.TUPLE, tuple(f"item_{i}" for i in range(len(kinds))), tuple(kinds))
    else:
        layout = _record_state(initial)
    for name, kind in zip(layout.names, layout.kinds, strict=True):
        if kind is Kind.OPAQUE:
            raise NotCompilableError(f"{name} of the state is no int, float or bool")
    try:
        layout.values(initial)
    except ValueError as error:
        raise NotCompilableError(f"the first state: {error}") from None
    return layout


def _record_state(initial: Any) -> Layout:
    cls = type(initial)
    try:
        schema = schema_of(cls)
    except TopologyError as error:
        raise NotCompilableError(f"a state of type {cls.__name__}: {error.message}") from None
    if schema is None or not schema.fields:
        raise NotCompilableError(
            f"a state of type {cls.__name__}: only a number, a tuple of numbers, and a NamedTuple or dataclass of "
            "numbers can be kept in arrays"
        )
    return record_layout(schema)


def array_schema(layout: Layout, extra: Mapping[str, Kind] | None = None) -> Schema:
    """The schema of the arrays that keep states of a layout: the numbers, widened, then `extra` ones."""
    fields = {name: WIDE[kind] for _, name, kind in layout.numbers}
    fields.update({name: WIDE[kind] for name, kind in (extra or {}).items()})
    return Schema.of(**fields)
