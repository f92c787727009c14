"""What can be compiled: map, filter, scan, reduce, and the folds of window aggregates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamcore.batch import Schema
from streamcore.kernels.functions.layout import Kind, Layout, array_schema, record_layout, state_layout
from streamcore.kernels.functions.program import Program, build
from streamcore.kernels.functions.refusal import NotCompilableError


def compile_map(function: Callable[[Any], Any], columns: Schema, out: Schema) -> Program:
    """`function(record) -> result`, where the result is a record (or tuple) of `out`.

    Raises:
        NotCompilableError: the function can't be compiled with the interpreter's results. (So do all of these.)
    """
    return build("map", function, columns, record_layout(columns), out=out)


def compile_filter(function: Callable[[Any], object], columns: Schema) -> Program:
    """`function(record)`, whose truth counts."""
    return build("filter", function, columns, record_layout(columns))


def compile_scan(
    function: Callable[[Any, Any], tuple[Any, Any]], initial: Any, columns: Schema, out: Schema
) -> Program:
    """`function(state, record) -> (state, result)`; states begin as `initial`."""
    return build("scan", function, columns, record_layout(columns), state=state_layout(initial), out=out)


def compile_reduce(
    function: Callable[[Any, Any], Any], columns: Schema, key_fields: tuple[str, ...], *, with_results: bool
) -> Program:
    """`function(record, record) -> record`. Fields that are no numbers must be the key's own."""
    record = record_layout(columns)
    for name, kind in zip(record.names, record.kinds, strict=True):
        if kind is Kind.OPAQUE and name not in key_fields:
            raise NotCompilableError(f"field {name!r} ({columns.by_name[name].type}) can't be kept in arrays")
    return build("reduce", function, columns, record, state=record, out=columns if with_results else None)


def compile_fold(function: Callable[[Any, Any], Any], initial: Any, columns: Schema) -> Program:
    """`function(state, record) -> state`; states begin as `initial`."""
    return build("fold", function, columns, record_layout(columns), state=state_layout(initial))


def compile_merge(function: Callable[[Any, Any], Any], initial: Any) -> Program:
    """`function(state, state) -> state`: a fold whose records are states, columns as `state_schema` has them."""
    state = state_layout(initial)
    return build("fold", function, state_schema(state), state, state=state)


def compile_result(function: Callable[[Any], Any], initial: Any, out: Schema) -> Program:
    """`function(state) -> result`: a map whose records are states, columns as `state_schema` has them."""
    state = state_layout(initial)
    return build("map", function, state_schema(state), state, out=out)


def state_schema(state: Layout) -> Schema:
    """The columns that states of a layout are kept in; its rows are the states again when these are records."""
    return Schema(array_schema(state).fields, state.cls)
