"""Records in compiled code: numba's named tuples, built by intrinsics; opaque values where a column is no number."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from numba import types
from numba.extending import intrinsic, models, register_model

from streamcore.kernels.functions.classes import check_plain, field_names, is_tuple_class, record_class
from streamcore.kernels.functions.layout import Kind, Layout, Shape
from streamcore.kernels.functions.refusal import refuse_type


class ColumnValue(types.Type):  # type: ignore[misc]
    """A value of the column `column` in the record at hand. Compiled code can hand it on: no operation knows it."""

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(f"column {column!r}")


register_model(ColumnValue)(models.OpaqueModel)

NUMBA_KINDS = {Kind.INT: types.int64, Kind.FLOAT: types.float64, Kind.BOOL: types.boolean}


@functools.cache
def numba_type(layout: Layout) -> Any:
    """The numba type of a layout."""
    parts = [
        ColumnValue(name) if kind is Kind.OPAQUE else NUMBA_KINDS[kind]
        for name, kind in zip(layout.names, layout.kinds, strict=True)
    ]
    if layout.shape is Shape.SCALAR:
        return parts[0]
    if layout.shape is Shape.TUPLE:
        return types.BaseTuple.from_types(parts)
    cls: Any = layout.cls
    return types.BaseTuple.from_types(parts, record_class(layout.names, cls))


def intrinsic_of(name: str, arity: int, definition: Any) -> Any:
    """The intrinsic of a definition with `arity` arguments: numba wants to see each by name."""
    names = ", ".join(f"a{i}" for i in range(arity))
    scope: dict[str, Any] = {"definition": definition}
    exec(f"def {name}(typingctx, {names}): return definition(typingctx, {names})", scope)  # noqa: S102 - names are ours
    return intrinsic(scope[name])


@functools.cache
def maker(layout: Layout) -> Any:
    """An intrinsic that builds a value of a layout from its numbers, in order."""
    wanted = numba_type(layout)
    kinds = layout.kinds

    def make(typingctx: Any, *numbers: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            if layout.shape is Shape.SCALAR:
                return values[0]
            given = iter(values)
            parts = [
                context.get_constant_null(wanted[i]) if kind is Kind.OPAQUE else next(given)
                for i, kind in enumerate(kinds)
            ]
            return context.make_tuple(builder, wanted, parts)

        return wanted(*(NUMBA_KINDS[kind] for kind in kinds if kind is not Kind.OPAQUE)), codegen

    return intrinsic_of(f"make_{layout.shape.value}", len(layout.numbers), make)


@functools.cache
def constructor(cls: Any) -> Any:
    """An intrinsic that builds a record of a user's class from all of its fields, in order; of any types.

    Raises:
        NotCompilableError: making a record runs code of the user's.
    """
    check_plain(cls)
    names = field_names(cls)
    proxy = record_class(names, cls)

    def construct(typingctx: Any, *values: Any) -> Any:
        wanted = types.BaseTuple.from_types([types.unliteral(value) for value in values], proxy)

        def codegen(context: Any, builder: Any, signature: Any, parts: Any) -> Any:
            return context.make_tuple(builder, wanted, parts)

        return wanted(*wanted), codegen

    return intrinsic_of("construct", len(names), construct)


@functools.cache
def replacer(names: tuple[str, ...], is_method: bool) -> Any:
    """An intrinsic `(record, *values)`: the record with the named fields replaced. The method `_replace` is that of
    named tuples, the function `dataclasses.replace` that of dataclasses."""

    def replace(typingctx: Any, record: Any, *values: Any) -> Any:
        if not isinstance(record, types.BaseNamedTuple):
            raise refuse_type(f"replace on {record}, which is no record")
        cls = record.instance_class.stands_for or tuple  # without a type of their own, records are named tuples
        if not (is_tuple_class(cls) if is_method else dataclasses.is_dataclass(cls)):
            raise refuse_type(f"replaces fields of {cls.__name__} in a way that it doesn't have")
        unknown = [name for name in names if name not in record.fields]
        if unknown:
            raise refuse_type(f"{record.instance_class.__name__} has no field {unknown[0]!r}")
        changed = dict(zip(names, map(types.unliteral, values), strict=True))
        parts = [changed.get(name, old) for name, old in zip(record.fields, record, strict=True)]
        wanted = types.BaseTuple.from_types(parts, record.instance_class)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            new = dict(zip(names, arguments[1:], strict=True))
            fields = [
                new[name] if name in new else builder.extract_value(arguments[0], i)
                for i, name in enumerate(record.fields)
            ]
            return context.make_tuple(builder, wanted, fields)

        return wanted(record, *changed.values()), codegen

    return intrinsic_of("replace", len(names) + 1, replace)
