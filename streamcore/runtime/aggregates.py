"""Aggregates: what users ask of a group of records, made of mergeable accumulators. Those of numbers are here; those
of whole records in `record_aggregates`, of distinct values and distributions in `sketch_aggregates`.

A value that is missing (`int | None`) is left out, as in SQL; where there is nothing else, the result is missing too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from streamcore.batch import Field, Schema
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime
from streamcore.state.accumulators import COUNT, Accumulating, Accumulator, Kind, Moments, Numbers
from streamcore.state.values import is_number, is_time, result_column

Result = Callable[[list[Numbers]], Any]
"""The results (n,) of n groups from what their accumulators have kept, part by part."""


class Made(NamedTuple):
    """What an aggregate is over a stream of a known type: what to keep, how the result is made of it, its type."""

    accumulators: tuple[Accumulating, ...]
    result: Result
    type: pa.DataType
    nullable: bool = False


@dataclass(frozen=True)
class Over:
    """The stream that an aggregate is bound over.

    Attributes:
        schema: its type.
        name: the aggregate's.
        where: the user's line.
        time: its event time, if it has one.
    """

    schema: Schema
    name: str
    where: str
    time: EventTime | None

    def field(self, name: str) -> Field:
        """A field of the stream.

        Raises:
            TopologyError: there is none of that name.
        """
        field = self.schema.by_name.get(name)
        if field is None:
            raise TopologyError(
                f"{self.where}: {self.name} of a field {name!r} that isn't there",
                hint=f"the fields are {self.schema}",
            )
        return field

    def number(self, name: str, *, or_time: bool = False) -> Field:
        """A field of numbers, or of times too.

        Raises:
            TopologyError: it isn't one, or isn't there.
        """
        field = self.field(name)
        fits = (is_number(field.type) and not pa.types.is_uint64(field.type)) or (or_time and is_time(field.type))
        if not fits:
            raise TopologyError(
                f"{self.where}: {self.name} of field {field}, which isn't a plain number{' or time' * or_time}",
                hint="it takes int, float and bool fields" + " and those of times" * or_time,
            )
        return field

    def value(self, name: str) -> Field:
        """A field of single values: numbers, text, bytes, times.

        Raises:
            TopologyError: it holds vectors or lists, or isn't there.
        """
        field = self.field(name)
        if pa.types.is_nested(field.type):
            raise TopologyError(
                f"{self.where}: {self.name} of field {field}, which holds more than one value",
                hint="it takes fields of numbers, text, bytes and times",
            )
        return field


@dataclass(frozen=True)
class Aggregate:
    """One column of results over the records of a group: `count()`, `mean("price")`, …

    Args:
        name: of the column.
        fields: those that it reads, besides event time.
        make: what it is over a stream of a known type.
    """

    name: str
    fields: tuple[str, ...]
    make: Callable[[Over], Made]

    def named(self, name: str) -> Aggregate:
        """The same under another name."""
        return replace(self, name=name)

    def bind(self, schema: Schema, where: str, time: EventTime | None = None) -> BoundAggregate:
        """The aggregate over a stream of a type, with or without event time.

        Raises:
            TopologyError: the stream has no such field, or it isn't one that the aggregate takes.
        """
        accumulators, result, type_, nullable = self.make(Over(schema, self.name, where, time))
        return BoundAggregate(accumulators, result, Field(self.name, type_, nullable))


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

    def results(self, values: Mapping[Accumulating, Sequence[Numbers]]) -> Mapping[str, Any]:
        """The results of n groups, by column, from what each accumulator has kept, part by part; (n,) each."""
        ...


@dataclass(frozen=True)
class BoundAggregate:
    """An aggregate over a stream whose type is known."""

    accumulators: tuple[Accumulating, ...]
    result: Result
    column: Field

    @property
    def columns(self) -> tuple[Field, ...]:
        """The one column of results."""
        return (self.column,)

    def results(self, values: Mapping[Accumulating, Sequence[Numbers]]) -> dict[str, Any]:
        """The results of n groups from what each accumulator has kept, part by part; (n,)."""
        kept = [array for accumulator in self.accumulators for array in values[accumulator]]
        return {self.column.name: self.result(kept)}


def count() -> Aggregate:
    """How many records; int64, named `count`.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, count
        >>> rows = [("a", 1.0), ("a", 2.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(count()).execute_and_collect()
        [Record(shop='a', count=2), Record(shop='b', count=1)]
    """
    return Aggregate("count", (), lambda over: Made((COUNT,), _only, pa.int64()))


def count_of(field: str) -> Aggregate:
    """How many records in which a field isn't missing; int64, named `count_FIELD`. The field may have any type.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, count_of
        >>> rows = [("a", 1.0), ("a", None), ("b", None)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float | None))
        >>> sales.key_by("shop").aggregate(count_of("price")).execute_and_collect()
        [Record(shop='a', count_price=1), Record(shop='b', count_price=0)]
    """

    def make(over: Over) -> Made:
        nullable = over.field(field).nullable
        return Made((Accumulator("count", field) if nullable else COUNT,), _only, pa.int64())

    return Aggregate(f"count_{field}", (field,), make)


def sum_of(field: str) -> Aggregate:
    """The sum of a field, named `sum_FIELD`: int64 for integers (beyond it, it wraps round), else float64.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, sum_of
        >>> rows = [("a", 1.0), ("a", 2.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(sum_of("price")).execute_and_collect()
        [Record(shop='a', sum_price=3.0), Record(shop='b', sum_price=5.0)]
    """
    return Aggregate(f"sum_{field}", (field,), partial(_number, "sum", field))


def mean(field: str) -> Aggregate:
    """The mean of a field, float64, named `mean_FIELD`.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, mean
        >>> rows = [("a", 1.0), ("a", 2.0), ("b", None)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float | None))
        >>> sales.key_by("shop").aggregate(mean("price")).execute_and_collect()
        [Record(shop='a', mean_price=1.5), Record(shop='b', mean_price=None)]
    """

    def make(over: Over) -> Made:
        found = over.number(field)
        number = Accumulator("count", field) if found.nullable else COUNT
        kept = (Accumulator("sum", field, pa.types.is_floating(found.type)), number)
        return Made(kept, _ratio if found.nullable else _quotient, pa.float64(), found.nullable)

    return Aggregate(f"mean_{field}", (field,), make)


def min_of(field: str) -> Aggregate:
    """The lowest value of a field of numbers or times, named `min_FIELD`; NaN is left out, unless there is nothing
    else. int64, float64, or the times' own type.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, min_of
        >>> rows = [("a", 2.0), ("a", 1.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(min_of("price")).execute_and_collect()
        [Record(shop='a', min_price=1.0), Record(shop='b', min_price=5.0)]
    """
    return Aggregate(f"min_{field}", (field,), partial(_number, "min", field))


def max_of(field: str) -> Aggregate:
    """The highest value of a field of numbers or times, named `max_FIELD`; NaN is left out, unless there is nothing
    else. int64, float64, or the times' own type.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, max_of
        >>> rows = [("a", 2.0), ("a", 1.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(max_of("price")).execute_and_collect()
        [Record(shop='a', max_price=2.0), Record(shop='b', max_price=5.0)]
    """
    return Aggregate(f"max_{field}", (field,), partial(_number, "max", field))


def var_of(field: str, *, ddof: int = 1) -> Aggregate:
    """The variance of a field, float64, named `var_FIELD`: the squared distances from the mean, added up and divided
    by n - `ddof`. Loses no digits where values lie close together far from zero (Welford's and Chan's sums).

    NaN for `ddof` values or fewer, as in NumPy, and if a value is NaN or infinite.

    Args:
        ddof: 1 for the variance of a sample, 0 for that of a whole population.

    Raises:
        TopologyError: `ddof` is below 0.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, var_of
        >>> rows = [("a", 1.0), ("a", 2.0), ("a", 6.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(var_of("price"), population=var_of("price", ddof=0)).execute_and_collect()
        [Record(shop='a', var_price=7.0, population=4.666666666666667)]
    """
    return Aggregate(f"var_{field}", (field,), partial(_spread, field, _ddof("var_of", ddof), is_root=False))


def std_of(field: str, *, ddof: int = 1) -> Aggregate:
    """The standard deviation of a field, float64, named `std_FIELD`: the square root of `var_of`.

    Raises:
        TopologyError: `ddof` is below 0.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, std_of
        >>> sales = StreamEnvironment().from_values([("a", 1.0), ("a", 3.0)], Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(std_of("price", ddof=0)).execute_and_collect()
        [Record(shop='a', std_price=1.0)]
    """
    return Aggregate(f"std_{field}", (field,), partial(_spread, field, _ddof("std_of", ddof), is_root=True))


def _number(kind: Kind, field: str, over: Over) -> Made:
    found = over.number(field, or_time=kind in ("min", "max"))
    is_float = pa.types.is_floating(found.type)
    type_ = found.type if is_time(found.type) else pa.float64() if is_float else pa.int64()
    kept: tuple[Accumulating, ...] = (Accumulator(kind, field, is_float),)
    if found.nullable:
        kept = (*kept, Accumulator("count", field))
    as_kept = not found.nullable and not is_time(type_)
    return Made(kept, _only if as_kept else partial(_of_type, type_), type_, found.nullable)


def _spread(field: str, ddof: int, over: Over, *, is_root: bool) -> Made:
    over.number(field)

    def result(kept: list[Numbers]) -> Numbers:
        number, _, squares = kept
        few = number <= ddof
        variance = np.where(few, np.nan, squares / np.where(few, 1, number - ddof))
        return np.sqrt(variance) if is_root else variance

    return Made((Moments(field),), result, pa.float64())


def _ddof(function: str, ddof: int) -> int:
    if ddof < 0:
        raise TopologyError(f"{function}: ddof is {ddof}", hint="1 for a sample, 0 for a whole population")
    return ddof


def _only(kept: list[Numbers]) -> Numbers:
    return kept[0]


def _of_type(type_: pa.DataType, kept: list[Numbers]) -> Any:
    return result_column(kept[0], type_, kept[1] == 0 if len(kept) > 1 else None)


def _quotient(kept: list[Numbers]) -> Numbers:
    quotient: Numbers = kept[0] / kept[1]
    return quotient


def _ratio(kept: list[Numbers]) -> Any:
    number = np.maximum(kept[1], 1)  # a group has records, but they may all lack the field
    return result_column(kept[0] / number, pa.float64(), kept[1] == 0)


def needed_by(aggregates: Sequence[Bound]) -> tuple[Accumulating, ...]:
    """The accumulators that some aggregates need, each once."""
    return tuple(dict.fromkeys(a for aggregate in aggregates for a in aggregate.accumulators))
