"""Expressions at work on a stream: checked against its schema, then functions of batches that pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import compute
from streamcore.batch.columns import Array, Columns
from streamcore.batch.expressions import Expression
from streamcore.batch.schema import Field, Schema
from streamcore.errors import TopologyError

_REFUSED = (pa.ArrowException, TypeError, ValueError, OverflowError)


def result_field(name: str, expression: Expression, schema: Schema) -> Field:
    """The field that an expression makes on a stream of that schema, found on a batch without records.

    Raises:
        TopologyError: there is no such column, or a function can't take its type; has the expression's text.
    """
    try:
        value = expression.evaluate(_empty(schema))
        return compute.field_of(name, value, nullable=expression.is_nullable(schema))
    except TopologyError as error:
        raise TopologyError(f"{expression}: {error.message}", hint=error.hint) from error
    except _REFUSED as error:
        raise TopologyError(f"{expression}: {error}", hint=f"the columns are {schema}") from error


class Predicate:
    """The records for which an expression is true, as a mask; missing is not true.

    Raises:
        TopologyError: the expression doesn't fit the schema or isn't true or false.
    """

    def __init__(self, expression: Expression, schema: Schema) -> None:
        field = result_field("mask", expression, schema)
        if field.type != pa.bool_():
            raise TopologyError(
                f"{expression}: it is {field.type}, not true or false", hint="compare it with something"
            )
        self._expression = expression

    def __call__(self, columns: Columns) -> Array:
        """The mask of a batch; bool (n,)."""
        mask = self._expression.evaluate(columns)
        if isinstance(mask, pa.Array):
            mask = mask.fill_null(False).to_numpy(zero_copy_only=False)
        return mask if isinstance(mask, np.ndarray) else np.full(len(columns), mask is not None and bool(mask))


class Projection:
    """Columns made of columns: `schema` is the result's, whose fields are computed, or taken over if not in `made`.

    Raises:
        TopologyError: an expression doesn't fit the schema.
    """

    def __init__(self, made: Mapping[str, Expression], source: Schema, *, keep: bool) -> None:
        fields: dict[str, Field] = dict(source.by_name) if keep else {}
        fields.update((name, result_field(name, expression, source)) for name, expression in made.items())
        schema = Schema(tuple(fields.values()))
        self.schema = source if schema == source else schema
        self._made = dict(made)

    def __call__(self, columns: Columns) -> Columns:
        """The columns of the result."""
        arrays: dict[str, Any] = {}
        for field in self.schema.fields:
            expression = self._made.get(field.name)
            if expression is None:
                arrays[field.name] = columns.encoded(field.name)
            else:
                arrays[field.name] = compute.column(expression.evaluate(columns), field, len(columns))
        return Columns(self.schema, arrays)


def _empty(schema: Schema) -> Columns:
    arrays: dict[str, Any] = {}
    for field in schema.fields:
        shape = (0, field.width) if field.width else (0,)
        arrays[field.name] = pa.array([], field.type) if field.dtype is None else np.empty(shape, field.dtype)
    return Columns(schema, arrays)
