"""Aggregates and folds over sessions and over windows by count: added to the topology in one stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from streamcore.api.aggregating import need_columns, result_schema
from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.batch import schema_of
from streamcore.runtime.aggregates import Bound
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.operators.count_window import CountAggregate
from streamcore.runtime.operators.session import SessionAggregate
from streamcore.runtime.operators.window import WINDOW_END, WINDOW_START
from streamcore.runtime.spec import Form
from streamcore.runtime.window_kinds import CountWindows, SessionWindows

if TYPE_CHECKING:
    from streamcore.api.keyed import KeyedStream


def add_session_aggregate(
    stream: KeyedStream[Any, Any],
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
        TopologyError: the stream isn't typed and keyed by fields, or two results have one name.
    """
    where = f"aggregate ({user_line()})"
    result = result_schema(stream, where, (WINDOW_START, WINDOW_END), bound)
    tag = late_tag.name if late_tag is not None else None
    make = partial(
        SessionAggregate, stream._key.by, windows.gap_ms, time, bound, result, lateness_ms=lateness_ms, late_tag=tag
    )
    out = stream._then("aggregate", make, Form.COLUMNS, result)
    out._node.name = f"aggregate per {windows}"
    out._node.time = EventTime(WINDOW_END, -1)
    if late_tag is not None:
        out._node.sides[late_tag.name] = schema_of(late_tag.type) or need_columns(stream, where)
    return out


def add_count_aggregate(
    stream: KeyedStream[Any, Any], windows: CountWindows, bound: Sequence[Bound]
) -> DataStream[Any]:
    """Adds the operator to the topology. The results have the key's fields and those of the aggregates; they have no
    event time, since records of any time come together.

    Raises:
        TopologyError: the stream isn't typed and keyed by fields, or two results have one name.
    """
    result = result_schema(stream, f"aggregate ({user_line()})", (), bound)
    make = partial(CountAggregate, stream._key.by, windows, bound, result)
    out = stream._then("aggregate", make, Form.COLUMNS, result)
    out._node.name = f"aggregate per {windows}"
    out._node.time = None
    return out
