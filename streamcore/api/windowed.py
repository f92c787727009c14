"""`WindowedStream`: a keyed stream cut into windows of event time; and aggregates with and without windows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow as pa

from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.batch import Field, Schema
from streamcore.errors import TopologyError
from streamcore.plan.graph import TwoStage
from streamcore.runtime.aggregates import Aggregate
from streamcore.runtime.event_time import EventTime
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

K = TypeVar("K")
T = TypeVar("T")


class WindowedStream(Generic[K, T]):
    """The windows of each key. A window's results come when the watermark has passed its end."""

    def __init__(self, stream: KeyedStream[K, T], windows: Windows, time: EventTime) -> None:
        self._stream = stream
        self._windows = windows
        self._time = time

    def aggregate(self, *aggregates: Aggregate, **named: Aggregate) -> DataStream[Any]:
        """One record per key and window with records: the key's fields, `window_start`, `window_end` (exclusive;
        milliseconds), and a field per aggregate. Its event time is the window's last millisecond.

        Where the stream crosses between subtasks, records are added up before (see `two_stage` of the environment).

        Raises:
            TopologyError: an aggregate doesn't fit the stream's type.
        """
        return add_aggregate(self._stream, self._windows, self._time, (*aggregates, *renamed(named)))


def add_aggregate(
    stream: KeyedStream[Any, Any], windows: Windows | None, time: EventTime | None, aggregates: tuple[Aggregate, ...]
) -> DataStream[Any]:
    """Adds the operator to the topology; without windows it gives its results at the end of input."""
    selector, schema = stream._key, stream.schema
    where = f"aggregate ({user_line()})"
    if schema is None or not selector.fields:
        raise TopologyError(
            f"{where} works on columns: it needs a stream with a type, keyed by fields",
            hint="give the source or the map before it a type, and key_by the name of a field",
        )
    if wrong := [aggregate for aggregate in aggregates if not isinstance(aggregate, Aggregate)]:
        raise TopologyError(f"{where}: {wrong[0]!r} is no aggregate", hint="aggregate(count(), mean('field'))")
    if not aggregates:
        raise TopologyError(f"{where}: there is nothing to aggregate", hint="aggregate(count(), mean('field'))")
    bound = [aggregate.bind(schema, where) for aggregate in aggregates]
    bounds = [Field(name, pa.int64()) for name in (WINDOW_START, WINDOW_END) if windows is not None]
    fields = (*schema.select(selector.fields).fields, *bounds, *(aggregate.column for aggregate in bound))
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
