"""Aggregates and folds over a keyed stream: bound to its columns, added to the topology in one stage or in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamcore.api.callsite import user_line
from streamcore.api.compiled import compiled_or_none, need
from streamcore.api.stream import DataStream
from streamcore.batch import Field, Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.kernels.functions.build import compile_fold, compile_merge, compile_result, state_schema
from streamcore.kernels.functions.layout import state_layout
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.plan.graph import TwoStage
from streamcore.runtime.aggregates import Aggregate, Bound
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.folds import BoundFold, Fold, Step
from streamcore.runtime.operators.window import (
    WINDOW_END,
    WINDOW_START,
    PartialAggregate,
    WindowAggregate,
    WindowTimes,
    accumulators_of,
)
from streamcore.runtime.spec import Form
from streamcore.runtime.windows import Windows
from streamcore.state.slices import SliceTable

if TYPE_CHECKING:
    from streamcore.api.keyed import KeyedStream


def bind_aggregates(
    stream: KeyedStream[Any, Any], aggregates: tuple[Aggregate, ...], time: EventTime | None = None
) -> list[Bound]:
    """The aggregates over the stream's type and event time: `time`, or the one that its watermarks go by."""
    where = f"aggregate ({user_line()})"
    schema = need_columns(stream, where)
    if wrong := [aggregate for aggregate in aggregates if not isinstance(aggregate, Aggregate)]:
        raise TopologyError(f"{where}: {wrong[0]!r} is no aggregate", hint="aggregate(count(), mean('field'))")
    if not aggregates:
        raise TopologyError(f"{where}: there is nothing to aggregate", hint="aggregate(count(), mean('field'))")
    if time is None and stream._tag is None:
        time = stream._node.time
    return [aggregate.bind(schema, where, time) for aggregate in aggregates]


def bind_fold(
    stream: KeyedStream[Any, Any],
    initial: Any,
    add: Callable[..., Any],
    merge: Callable[..., Any] | None,
    result: Callable[..., Any] | None,
    returns: Any,
    compiled: bool | None,
) -> Bound:
    """The fold over the stream's type, its functions compiled where they can be."""
    where = f"fold ({user_line()})"
    schema = need_columns(stream, where)
    try:
        layout = state_layout(initial)
    except NotCompilableError as refused:
        raise TopologyError(
            f"{where}: {refused.reason}", hint="keep a number, a tuple of numbers, or a NamedTuple of numbers"
        ) from None
    states = state_schema(layout)
    if merge is not None and not _is_neutral(initial, merge):
        raise TopologyError(
            f"{where}: merge(initial, initial) isn't initial, so results would depend on how often states are merged",
            hint="begin with what merging leaves as it is, and put the rest into result=",
        )
    add_step = Step(
        add, compiled_or_none("fold", add, compiled, schema, lambda: compile_fold(add, initial, schema), result=states)
    )
    merge_step = merge and Step(
        merge, compiled_or_none("fold", merge, compiled, states, lambda: compile_merge(merge, initial), result=states)
    )
    fold = Fold(schema, layout, layout.values(initial), add_step, merge_step)
    if result is None:
        return BoundFold(fold, None, states)
    out = schema_of(returns)
    if out is None:
        raise TopologyError(f"{where}: the type of the results isn't known", hint="give returns=, a type with fields")
    program = compiled_or_none(
        "fold", result, compiled, states, lambda: compile_result(result, initial, need(out)), result=out
    )
    return BoundFold(fold, Step(result, program), out)


def _is_neutral(initial: Any, merge: Callable[..., Any]) -> bool:
    try:
        return bool(merge(initial, initial) == initial)
    except Exception:  # noqa: BLE001 - two states without records never meet; what fails on others is said then
        return True


def need_columns(stream: KeyedStream[Any, Any], where: str) -> Schema:
    """The stream's schema.

    Raises:
        TopologyError: it has none, or its key isn't one of fields.
    """
    if stream.schema is None or not stream._key.fields:
        raise TopologyError(
            f"{where} works on columns: it needs a stream with a type, keyed by fields",
            hint="give the source or the map before it a type, and key_by the name of a field",
        )
    for name in stream._key.fields:
        if stream.schema.by_name[name].width:
            raise TopologyError(f"{where}: a vector can't be a key, and {name!r} is one", hint="key by a plain field")
    return stream.schema


def add_aggregate(
    stream: KeyedStream[Any, Any],
    windows: Windows | None,
    time: EventTime | None,
    bound: Sequence[Bound],
    *,
    can_merge: bool = True,
) -> DataStream[Any]:
    """Adds the operator to the topology; without windows it gives its results at the end of input."""
    where = f"aggregate ({user_line()})"
    selector, schema = stream._key, need_columns(stream, where)
    bounds = [Field(name, pa.int64()) for name in (WINDOW_START, WINDOW_END) if windows is not None]
    fields = (
        *schema.select(selector.fields).fields,
        *bounds,
        *(column for aggregate in bound for column in aggregate.columns),
    )
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TopologyError(
            f"{where}: two results are named {twice[0]!r}",
            hint="results have the key's fields, the window's and the aggregates': name an aggregate otherwise, as in "
            "aggregate(n=count()), or the field before",
        )
    result, times = Schema(fields), WindowTimes(windows, time)
    key = schema.select(selector.fields)
    accumulators = accumulators_of(bound)
    make = partial(WindowAggregate, selector.by, times, bound, result)
    stream_out = stream._then("aggregate", partial(make, partials=False), Form.COLUMNS, result)
    stream_out._node.name = f"aggregate per {windows}" if windows is not None else "aggregate"
    stream_out._node.time = EventTime(WINDOW_END, -1) if windows is not None else None
    if can_merge:
        stream_out._node.two_stage = TwoStage(
            partial(PartialAggregate, key, times, accumulators),
            SliceTable(key, accumulators).partial_schema,
            partial(make, partials=True),
        )
    return stream_out


def renamed(named: dict[str, Aggregate]) -> list[Aggregate]:
    """Aggregates under the names that the user gave."""
    return [
        aggregate.named(name) if isinstance(aggregate, Aggregate) else aggregate for name, aggregate in named.items()
    ]
