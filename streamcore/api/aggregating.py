"""Aggregates and folds over a stream, by key or as a whole: bound to its columns, and added to the topology."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

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
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.keys import KeySelector
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


def bind_aggregates(
    stream: DataStream[Any], aggregates: tuple[Aggregate, ...], time: EventTime | None = None
) -> list[Bound]:
    """The aggregates over the stream's type and event time: `time`, or the one that its watermarks go by."""
    where = f"aggregate ({user_line()})"
    schema = need_columns(stream, where)
    check_aggregates(aggregates, where)
    if time is None and stream._tag is None:
        time = stream._node.time
    return [aggregate.bind(schema, where, time) for aggregate in aggregates]


def check_aggregates(aggregates: Sequence[Any], where: str) -> None:
    """Refuses what is no aggregate.

    Raises:
        TopologyError: one isn't, or there are none.
    """
    if wrong := [aggregate for aggregate in aggregates if not isinstance(aggregate, Aggregate)]:
        raise TopologyError(f"{where}: {wrong[0]!r} is no aggregate", hint="aggregate(count(), mean('field'))")
    if not aggregates:
        raise TopologyError(f"{where}: there is nothing to aggregate", hint="aggregate(count(), mean('field'))")


def bind_fold(
    stream: DataStream[Any],
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
    if merge is not None:
        refuse_unneutral(where, initial, merge)
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


def is_of_numbers(initial: Any) -> bool:
    """Whether the state of a fold can be kept in arrays."""
    try:
        state_layout(initial)
    except NotCompilableError:
        return False
    return True


def refuse_unneutral(where: str, initial: Any, merge: Callable[..., Any]) -> None:
    """Refuses a first state that merging changes.

    Raises:
        TopologyError: it does.
    """
    if not _is_neutral(initial, merge):
        raise TopologyError(
            f"{where}: merge(initial, initial) isn't initial, so results would depend on how often states are merged",
            hint="begin with what merging leaves as it is, and put the rest into result=",
        )


def _is_neutral(initial: Any, merge: Callable[..., Any]) -> bool:
    try:
        return bool(merge(initial, initial) == initial)
    except Exception:  # noqa: BLE001 - two states without records never meet; what fails on others is said then
        return True


def need_columns(stream: DataStream[Any], where: str) -> Schema:
    """The stream's schema.

    Raises:
        TopologyError: it has none, or its key isn't one of fields.
    """
    key = key_of(stream)
    if stream.schema is None or (key is not None and callable(key.by)):
        by_fields = ", keyed by fields" if key is not None else ""
        raise TopologyError(
            f"{where} works on columns: it needs a stream with a type{by_fields}",
            hint="give the source or the map before it a type, and key_by the name of a field",
        )
    for name in fields_of(key):
        if stream.schema.by_name[name].width:
            raise TopologyError(f"{where}: a vector can't be a key, and {name!r} is one", hint="key by a plain field")
    return stream.schema


def add_aggregate(
    stream: DataStream[Any],
    windows: Windows | None,
    time: EventTime | None,
    bound: Sequence[Bound],
    *,
    can_merge: bool = True,
    lateness_ms: int = 0,
    late_tag: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """Adds the operator to the topology; without windows it gives its results at the end of input.

    Args:
        stream: keyed by fields; or without key, and all its records are one group, whose results have no key. These
            are made in one subtask; where the stream comes from several, records are added up there before.
        can_merge: whether the aggregates have a way to merge groups.
        lateness_ms: how long windows take records after they have fired. Each such record gives a result for every
            window of its own that has fired, with the value after it.
        late_tag: the side output of records that are late even so, as they came. It takes one stage.

    Raises:
        TopologyError: the stream has no columns, two results have one name, or the tag has another type.
    """
    where = f"aggregate ({user_line()})"
    schema, key = need_columns(stream, where), key_of(stream)
    names, by = fields_of(key), by_of(key)
    bounds = (WINDOW_START, WINDOW_END) if windows is not None else ()
    result, times = result_schema(schema.select(names), bounds, columns_of(bound), where), WindowTimes(windows, time)
    tag = late_tag.name if late_tag is not None else None
    make = partial(WindowAggregate, by, times, bound, result, lateness_ms=lateness_ms, late_tag=tag)
    stream_out = stream._then("aggregate", partial(make, partials=False), Form.COLUMNS, result)
    node = stream_out._node
    node.name = f"aggregate per {windows}" if windows is not None else "aggregate"
    node.time = EventTime(WINDOW_END, -1) if windows is not None else None
    if not names:
        node.parallelism, node.is_single = 1, True
    if late_tag is not None:
        node.sides = {late_tag.name: late_type(late_tag, schema, where)}
    elif can_merge:
        accumulators = accumulators_of(bound)
        first = partial(PartialAggregate, schema.select(names), times, accumulators, each_behind=lateness_ms > 0)
        between = SliceTable(schema.select(names), accumulators).partial_schema
        node.two_stage = TwoStage(first, between, partial(make, partials=True))
    return stream_out


def key_of(stream: DataStream[Any]) -> KeySelector | None:
    """The stream's key, if it has one."""
    return stream._partitioning.key if stream._partitioning is not None else None


def fields_of(key: KeySelector | None) -> tuple[str, ...]:
    """The fields of a key; none where there is no key."""
    return key.fields if key is not None else ()


def by_of(key: KeySelector | None) -> str | tuple[str, ...]:
    """The field of a key, or its fields, as an operator takes them."""
    return key.fields[0] if key is not None and key.single else fields_of(key)


def columns_of(bound: Sequence[Bound]) -> list[Field]:
    """The columns of the results of aggregates."""
    return [column for aggregate in bound for column in aggregate.columns]


def result_schema(key: Schema, window: Sequence[str], values: Iterable[Field], where: str) -> Schema:
    """The type of results: the key's fields, the window's bounds, and the values.

    Raises:
        TopologyError: two of them have one name.
    """
    bounds = [Field(name, pa.int64()) for name in window]
    fields = (*key.fields, *bounds, *values)
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TopologyError(
            f"{where}: two results are named {twice[0]!r}",
            hint="results have the key's fields, the window's and the values': name an aggregate otherwise, as in "
            "aggregate(n=count()), or the field before",
        )
    return Schema(fields)


def late_type(tag: OutputTag[Any], schema: Schema, where: str) -> Schema:
    """The type of late records: the stream's.

    Raises:
        TopologyError: the tag has another.
    """
    named = schema_of(tag.type)
    if named is not None and named.fields != schema.fields:
        raise TopologyError(
            f"{where}: late records go to {tag.name!r} as {named}, but the stream's are {schema}",
            hint="give the tag the stream's type, or none",
        )
    return schema


def renamed(named: dict[str, Aggregate]) -> list[Aggregate]:
    """Aggregates under the names that the user gave."""
    return [
        aggregate.named(name) if isinstance(aggregate, Aggregate) else aggregate for name, aggregate in named.items()
    ]
