"""Aggregates and folds over sessions and over windows by count: added to the topology in one stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from streamcore.api.aggregating import by_of, columns_of, fields_of, key_of, late_type, need_columns, result_schema
from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.batch import Schema
from streamcore.runtime.aggregates import Bound
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.count_window import CountAggregate
from streamcore.runtime.operators.session import SessionAggregate
from streamcore.runtime.operators.window import WINDOW_END, WINDOW_START
from streamcore.runtime.spec import Form
from streamcore.runtime.window_kinds import CountWindows, SessionWindows


def add_session_aggregate(
    stream: DataStream[Any],
    windows: SessionWindows,
    time: EventTime,
    bound: Sequence[Bound],
    *,
    lateness_ms: int = 0,
    late_tag: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """Adds the operator to the topology. The results have the key's fields, `window_start`, `window_end` and those of
    the aggregates; their event time is the session's last millisecond.

    Args:
        lateness_ms: for how long after its end a session takes records still, and gives its results again after each.
        late_tag: the side output for records that come later, of the stream's type; None: they are counted and dropped.

    Raises:
        TopologyError: the stream has no columns, two results have one name, or the tag has another type.
    """
    where = f"aggregate ({user_line()})"
    schema, key = need_columns(stream, where), key_of(stream)
    tag = late_tag.name if late_tag is not None else None
    result = result_schema(schema.select(fields_of(key)), (WINDOW_START, WINDOW_END), columns_of(bound), where)
    make = partial(
        SessionAggregate, by_of(key), windows.gap_ms, time, bound, result, lateness_ms=lateness_ms, late_tag=tag
    )
    out = _add(stream, make, result, windows)
    out._node.time = EventTime(WINDOW_END, -1)
    if late_tag is not None:
        out._node.sides = {late_tag.name: late_type(late_tag, schema, where)}
    return out


def add_count_aggregate(stream: DataStream[Any], windows: CountWindows, bound: Sequence[Bound]) -> DataStream[Any]:
    """Adds the operator to the topology. The results have the key's fields and those of the aggregates; they have no
    event time, since records of any time come together.

    Raises:
        TopologyError: the stream isn't typed and keyed by fields, or two results have one name.
    """
    where = f"aggregate ({user_line()})"
    schema, key = need_columns(stream, where), key_of(stream)
    result = result_schema(schema.select(fields_of(key)), (), columns_of(bound), where)
    out = _add(stream, partial(CountAggregate, by_of(key), windows, bound, result), result, windows)
    out._node.time = None
    return out


def _add(
    stream: DataStream[Any], make: Callable[[], Operator], result: Schema, windows: SessionWindows | CountWindows
) -> DataStream[Any]:
    out = stream._then("aggregate", make, Form.COLUMNS, result)
    out._node.name = f"aggregate per {windows}"
    if key_of(stream) is None:
        out._node.parallelism, out._node.is_single = 1, True
    return out
