"""What windows over rows make of their records: folded values, built-in aggregates, and the records that go out."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcore.batch import Columns, Schema, to_columns
from streamcore.errors import TopologyError
from streamcore.runtime.aggregates import Aggregate, Bound
from streamcore.runtime.assigners import Window
from streamcore.runtime.window_functions import KeyResult, WindowContext, WindowFunction, WindowResult
from streamcore.state.accumulators import fresh


@dataclass(frozen=True)
class FoldOfRecords:
    """Keeps one value per window: `first(record)`, then `add(value, record)`; `merge` joins those of sessions."""

    first: Callable[[Any], Any]
    add: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any] | None

    def of(self, records: list[Any]) -> Any:
        """The value of some records, one at least."""
        value = self.first(records[0])
        for record in records[1:]:
            value = self.add(value, record)
        return value


@dataclass(frozen=True)
class RowMaker:
    """Makes results: records of `schema` - the key's fields, the window's bounds, the values - or untyped ones.

    Attributes:
        values: the names of the values, if they are several.
        is_keyed: false for windows of all records.
        single: the key is one field, not a tuple of fields.
        has_bounds: results say where the window begins and ends.
    """

    schema: Schema | None
    values: tuple[str, ...]
    is_keyed: bool
    single: bool
    has_bounds: bool

    def row(self, key: Any, window: Window, value: Any) -> Any:
        """The result of a window."""
        if self.schema is None:
            return WindowResult(key, *window, value) if self.has_bounds else KeyResult(key, value)
        keys = () if not self.is_keyed else (key,) if self.single else key
        return self.schema.make_row((*keys, *(window if self.has_bounds else ()), *self._parts(value)))

    def _parts(self, value: Any) -> tuple[Any, ...]:
        """The fields of a value: of a record, a dictionary or a tuple; a plain value is the only one."""
        names = self.values
        if isinstance(value, dict):
            return tuple(value[name] for name in names)
        if all(hasattr(value, name) for name in names):
            return tuple(getattr(value, name) for name in names)
        return value if isinstance(value, tuple) else (value,)


class GiveValue(WindowFunction[Any, Any, Any]):
    """Gives what a fold has made of a window's records."""

    def __init__(self, result: Callable[[Any], Any] | None, maker: RowMaker) -> None:
        self._result = result
        self._maker = maker

    def process(self, key: Any, window: Window, records: list[Any], ctx: WindowContext[Any]) -> None:
        value = records[0] if self._result is None else self._result(records[0])
        ctx.emit(self._maker.row(key, window, value))


class GiveAggregates(WindowFunction[Any, Any, Any]):
    """Computes built-in aggregates over the columns of a window's records."""

    def __init__(self, schema: Schema, aggregates: tuple[Bound, ...], maker: RowMaker) -> None:
        self._schema = schema
        self._aggregates = aggregates
        self._maker = maker

    def process(self, key: Any, window: Window, records: list[Any], ctx: WindowContext[Any]) -> None:
        ctx.emit(self._maker.row(key, window, _aggregated(self._aggregates, to_columns(records, self._schema))))


class GiveRowAggregates(WindowFunction[Any, Any, Any]):
    """The same over records of no declared type: of the fields that aggregates need, the values say the type."""

    def __init__(self, aggregates: tuple[Aggregate, ...], maker: RowMaker) -> None:
        self._aggregates = aggregates
        self._maker = maker

    def process(self, key: Any, window: Window, records: list[Any], ctx: WindowContext[Any]) -> None:
        arrays = {field: _values(records, field) for aggregate in self._aggregates for field in aggregate.fields}
        columns = Columns.of(**arrays) if arrays else Columns.of(record=np.zeros(len(records)))
        bound = tuple(aggregate.bind(columns.schema, "aggregate") for aggregate in self._aggregates)
        ctx.emit(self._maker.row(key, window, _aggregated(bound, columns)))


def last_ms_of(result: Any) -> int:
    """The event time of an untyped result: the last millisecond of its window."""
    last: int = result.window_end - 1
    return last


def _aggregated(aggregates: tuple[Bound, ...], columns: Columns) -> dict[str, Any]:
    """The aggregates of all records, by name, as Python objects."""
    entries = np.zeros(len(columns), np.int64)
    results: dict[str, Any] = {}
    for aggregate in aggregates:
        values = {accumulator: fresh(accumulator, 1) for accumulator in aggregate.accumulators}
        for accumulator, totals in values.items():
            accumulator.add(totals, entries, columns)
        made = Columns(Schema(tuple(aggregate.columns)), aggregate.results(values)).to_rows()[0]
        results.update(zip((column.name for column in aggregate.columns), made, strict=True))
    return results


def _values(records: list[Any], field: str) -> Any:
    get = operator.itemgetter(field) if isinstance(records[0], dict) else operator.attrgetter(field)
    try:
        array = np.array([get(record) for record in records])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TopologyError(
            f"aggregate: a record of type {type(records[0]).__name__} has no number {field!r} ({error})",
            hint="give the stream a type, or aggregate with fold(...)",
        ) from error
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise TopologyError(
            f"aggregate: the field {field!r} of the records isn't a number", hint="aggregate with fold(...)"
        )
    return array
