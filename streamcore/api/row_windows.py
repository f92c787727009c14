"""Windows that are computed record by record: what they keep, what they give, added to the topology."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from streamcore.api.aggregating import (
    check_aggregates,
    columns_of,
    fields_of,
    is_of_numbers,
    key_of,
    late_type,
    refuse_unneutral,
    result_schema,
)
from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.batch import Field, Schema, schema_of
from streamcore.kernels.functions.build import state_schema
from streamcore.kernels.functions.layout import state_layout
from streamcore.plan.graph import Input
from streamcore.runtime.aggregates import Aggregate
from streamcore.runtime.assigners import WindowAssigner
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.evictors import Evictor
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operators.row_windows import RowWindows
from streamcore.runtime.operators.sliced_fold import SlicedFold
from streamcore.runtime.operators.window import WINDOW_END, WINDOW_START
from streamcore.runtime.operators.windowing import WindowInput, WindowOperator
from streamcore.runtime.record_times import times_or_none
from streamcore.runtime.row_results import (
    FoldOfRecords,
    GiveAggregates,
    GiveRowAggregates,
    GiveValue,
    RowMaker,
    last_ms_of,
)
from streamcore.runtime.spec import Form
from streamcore.runtime.triggers import Trigger
from streamcore.runtime.window_functions import WindowFunction
from streamcore.runtime.windows import Windows


@dataclass(frozen=True, eq=False)
class WindowSpec:
    """Windows as the user has described them, of a keyed stream or of all records."""

    stream: DataStream[Any]
    name: str
    assigner: WindowAssigner[Any]
    trigger: Trigger[Any]
    evictor: Evictor[Any] | None
    time: EventTime | None
    lateness_ms: int
    late_tag: OutputTag[Any] | None
    sliced: Windows | None
    """Windows that overlap and fire at their end alone: folds that merge can share slices."""

    @property
    def key(self) -> KeySelector | None:
        """The stream's key; None for windows of all records."""
        return key_of(self.stream)

    def result_schema(self, where: str, values: Iterable[Field]) -> Schema | None:
        """The key's fields, the window's bounds and the values; None where the key isn't one of fields.

        Raises:
            TopologyError: two of them have one name.
        """
        if self.stream.schema is None or (self.key is not None and not self.key.fields):
            return None
        bounds = (WINDOW_START, WINDOW_END) if self.assigner.has_bounds else ()
        return result_schema(self.stream.schema.select(fields_of(self.key)), bounds, values, where)

    def row_maker(self, schema: Schema | None, values: Sequence[str]) -> RowMaker:
        """What makes results of values."""
        single = self.key is not None and self.key.single
        return RowMaker(schema, tuple(values), self.key is not None, single, self.assigner.has_bounds)


def aggregate_rows(spec: WindowSpec, aggregates: Sequence[Aggregate]) -> DataStream[Any]:
    """Built-in aggregates of the records that a window keeps."""
    where = f"aggregate ({user_line()})"
    check_aggregates(aggregates, where)
    schema = spec.stream.schema
    if schema is None:
        names = [aggregate.name for aggregate in aggregates]
        return add_windows(spec, "aggregate", None, GiveRowAggregates(tuple(aggregates), spec.row_maker(None, names)))
    bound = [aggregate.bind(schema, where, spec.time) for aggregate in aggregates]
    columns = columns_of(bound)
    result = spec.result_schema(where, columns)
    maker = spec.row_maker(result, [column.name for column in columns])
    return add_windows(spec, "aggregate", None, GiveAggregates(schema, tuple(bound), maker), result)


def fold_rows(
    spec: WindowSpec,
    initial: Any,
    add: Callable[..., Any],
    merge: Callable[..., Any] | None,
    result: Callable[..., Any] | None,
    returns: Any,
) -> DataStream[Any]:
    """The user's own aggregate, one state per window."""
    where = f"fold ({user_line()})"
    values = schema_of(returns)
    if returns is None and result is None:
        values = state_schema(state_layout(initial)) if is_of_numbers(initial) else None
    if merge is not None:
        refuse_unneutral(where, initial, merge)
    schema = spec.result_schema(where, values.fields) if values is not None else None
    maker = spec.row_maker(schema, values.names if values is not None and schema is not None else ())
    fold = FoldOfRecords(partial(_begin, add, initial), add, merge)
    return add_windows(spec, "fold", fold, GiveValue(result, maker), schema)


def reduce_rows(spec: WindowSpec, function: Callable[[Any, Any], Any]) -> DataStream[Any]:
    """The records of a window folded into one."""
    taken = {*(spec.key.fields if spec.key is not None else ()), WINDOW_START, WINDOW_END}
    fields = [field for field in spec.stream.schema.fields if field.name not in taken] if spec.stream.schema else []
    schema = spec.result_schema(f"reduce ({user_line()})", fields)
    maker = spec.row_maker(schema, [field.name for field in fields] if schema is not None else ())
    return add_windows(spec, "reduce", FoldOfRecords(_itself, function, function), GiveValue(None, maker), schema)


def add_windows(
    spec: WindowSpec,
    name: str,
    fold: FoldOfRecords | None,
    function: WindowFunction[Any, Any, Any],
    schema: Schema | None = None,
    tags: Iterable[OutputTag[Any]] = (),
) -> DataStream[Any]:
    """Adds the operator to the topology: `function` gets what `fold` has made of a window's records, or all of them."""
    stream = spec.stream
    times = times_or_none(spec.time, stream.schema)
    source = WindowInput(spec.key, times, stream.schema, spec.lateness_ms, spec.late_tag)
    make: Callable[[], WindowOperator]
    if spec.sliced is not None and fold is not None and fold.merge is not None:
        make = partial(_fresh, SlicedFold, (spec.sliced, fold, function), source)
    else:
        make = partial(_fresh, RowWindows, (spec.assigner, spec.trigger, spec.evictor, fold, function), source)
    node = stream._env.graph.add(
        f"{name} per {spec.name}",
        user_line(),
        make=make,
        forms=(Form.ANY,),
        schemas=(stream.schema,),
        output=schema,
        inputs=[Input(stream._node, stream._tag, 0, stream._partitioning)],
    )
    if spec.key is None:
        node.parallelism, node.is_single = 1, True
    node.time = _result_time(spec, schema, is_own=name == type(function).__name__)
    node.sides = {tag.name: schema_of(tag.type) for tag in tags}
    if spec.late_tag is not None:
        late = schema_of(spec.late_tag.type)
        node.sides[spec.late_tag.name] = late_type(spec.late_tag, stream.schema, name) if stream.schema else late
    return DataStream(stream._env, node, schema)


def _result_time(spec: WindowSpec, schema: Schema | None, *, is_own: bool) -> EventTime | None:
    """The last millisecond of the window is the result's event time."""
    if not spec.assigner.has_bounds or spec.assigner.processing_time:
        return None
    if schema is not None:
        end = schema.by_name.get(WINDOW_END)
        return EventTime(WINDOW_END, -1) if end is not None and end.type == pa.int64() else None
    return None if is_own else EventTime(last_ms_of)


def _fresh(cls: Callable[..., WindowOperator], settings: tuple[Any, ...], source: WindowInput) -> WindowOperator:
    """An operator with copies of the user's objects: every subtask has its own."""
    return cls(*copy.deepcopy(settings), source)


def _begin(add: Callable[[Any, Any], Any], initial: Any, record: Any) -> Any:
    return add(initial, record)


def _itself(record: Any) -> Any:
    return record
