"""map, filter, flat_map over rows; map_batch, filter_batch over columns; union.

The loops over rows are the cheapest that Python allows: one list comprehension a batch. Their variable is
called `record`, by which `runtime.failures` finds the record that made a user's function raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamcore.batch import Array, Batch, Columns, Schema, to_rows
from streamcore.errors import TopologyError
from streamcore.runtime.functions import require_columns
from streamcore.runtime.operator import Operator


class Map(Operator):
    """One record out for each record in."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def process(self, batch: Batch, port: int) -> None:
        function = self._function
        self.output.emit([function(record) for record in to_rows(batch)])


class Filter(Operator):
    """The records for which the predicate is true."""

    def __init__(self, predicate: Callable[[Any], object]) -> None:
        self._predicate = predicate

    def process(self, batch: Batch, port: int) -> None:
        predicate = self._predicate
        self.output.emit([record for record in to_rows(batch) if predicate(record)])


class FlatMap(Operator):
    """Any number of records out for each record in."""

    def __init__(self, function: Callable[[Any], Iterable[Any]]) -> None:
        self._function = function

    def process(self, batch: Batch, port: int) -> None:
        function = self._function
        self.output.emit([result for record in to_rows(batch) for result in function(record)])


class MapBatch(Operator):
    """Columns out for columns in."""

    def __init__(self, function: Callable[[Columns], Columns], schema: Schema) -> None:
        self._function = function
        self._schema = schema

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "map_batch got rows"
        result = require_columns(self._function(batch), "the function given to map_batch")
        if result.schema != self._schema:
            raise TopologyError(
                f"the function given to map_batch returned {result.schema}, but the stream's type is {self._schema}",
                hint="give map_batch the result's type: map_batch(function, returns=Type)",
            )
        self.output.emit(result)


class FilterBatch(Operator):
    """The records of a batch where a boolean mask is true."""

    def __init__(self, mask: Callable[[Columns], Array]) -> None:
        self._mask = mask

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "filter_batch got rows"
        mask = self._mask(batch)
        if len(mask) != len(batch):
            raise TopologyError(f"the mask given to filter_batch has {len(mask)} values for {len(batch)} records")
        self.output.emit(batch.filter(mask))


class Forward(Operator):
    """Hands batches on: the meeting point of a union, the mouth of a back edge."""

    def process(self, batch: Batch, port: int) -> None:
        self.output.emit(batch)
