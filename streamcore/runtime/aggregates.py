"""Aggregates: what users ask of a group of records, made of mergeable accumulators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from streamcore.batch import Field, Schema
from streamcore.errors import TopologyError
from streamcore.state.accumulators import COUNT, Accumulating, Accumulator, Kind, Numbers

Result = Callable[[list[Numbers]], Numbers]
"""The results (n,) of n groups from the values of their accumulators."""


@dataclass(frozen=True)
class Aggregate:
    """One column of results: accumulators of `field`, of the given kinds, and how the result is made of them."""

    name: str
    field: str
    kinds: tuple[Kind, ...]
    result: Result
    is_float: bool | None = None
    """The result's type: float64, int64, or (None) whichever of the two the field is kept as."""

    def named(self, name: str) -> Aggregate:
        """The same under another name."""
        return replace(self, name=name)

    def bind(self, schema: Schema, where: str) -> BoundAggregate:
        """The aggregate over a stream of a type.

        Raises:
            TopologyError: the stream has no such field, or it isn't one of numbers.
        """
        is_float = self.field != "" and _kept_as_float(schema, self, where)
        accumulators = tuple(
            COUNT if kind == "count" else Accumulator(kind, self.field, is_float) for kind in self.kinds
        )
        result_float = is_float if self.is_float is None else self.is_float
        return BoundAggregate(accumulators, self.result, Field(self.name, pa.float64() if result_float else pa.int64()))


class Bound(Protocol):
    """What an operator asks of an aggregate over a stream of a known type."""

    @property
    def accumulators(self) -> tuple[Accumulating, ...]:
        """What has to be kept for it."""
        ...

    @property
    def columns(self) -> tuple[Field, ...]:
        """The columns of its results."""
        ...

    def results(self, values: Mapping[str, Numbers]) -> Mapping[str, Any]:
        """The results of n groups, by column, from the accumulated values by part; (n,) each."""
        ...


@dataclass(frozen=True)
class BoundAggregate:
    """An aggregate whose field's type is known."""

    accumulators: tuple[Accumulator, ...]
    result: Result
    column: Field

    @property
    def columns(self) -> tuple[Field, ...]:
        """The one column of results."""
        return (self.column,)

    def results(self, values: Mapping[str, Numbers]) -> dict[str, Numbers]:
        """The results of n groups from the accumulated values by name; (n,)."""
        return {self.column.name: self.result([values[accumulator.name] for accumulator in self.accumulators])}


def count() -> Aggregate:
    """How many records; int64, named `count`."""
    return Aggregate("count", "", ("count",), _only, is_float=False)


def sum_of(field: str) -> Aggregate:
    """The sum of a field, named `sum_FIELD`: int64 for integers (beyond it, it wraps round), else float64."""
    return Aggregate(f"sum_{field}", field, ("sum",), _only)


def mean(field: str) -> Aggregate:
    """The mean of a field, float64, named `mean_FIELD`."""
    return Aggregate(f"mean_{field}", field, ("sum", "count"), _ratio, is_float=True)


def min_of(field: str) -> Aggregate:
    """The lowest value of a field, named `min_FIELD`; NaN is left out, unless there is nothing else."""
    return Aggregate(f"min_{field}", field, ("min",), _only)


def max_of(field: str) -> Aggregate:
    """The highest value of a field, named `max_FIELD`; NaN is left out, unless there is nothing else."""
    return Aggregate(f"max_{field}", field, ("max",), _only)


def _only(values: list[Numbers]) -> Numbers:
    return values[0]


def _ratio(values: list[Numbers]) -> Numbers:
    quotients: Numbers = values[0] / values[1]
    return quotients


def _kept_as_float(schema: Schema, aggregate: Aggregate, where: str) -> bool:
    field = schema.by_name.get(aggregate.field)
    if field is None:
        raise TopologyError(
            f"{where}: {aggregate.name} of a field {aggregate.field!r} that isn't there",
            hint=f"the fields are {schema}",
        )
    if field.dtype is None or field.width or field.dtype == np.uint64:
        raise TopologyError(
            f"{where}: {aggregate.name} of field {field}, which isn't a plain number",
            hint="aggregates are made of int, float and bool fields that are always there",
        )
    return field.dtype.kind == "f"
