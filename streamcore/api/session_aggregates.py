"""Aggregates and folds over sessions and over windows by count: added to the topology in one stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from streamcore.api.aggregating import key_of, late_type, need_columns, result_schema
from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.batch import Schema
from streamcore.runtime.aggregates import Bound
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.count_window import CountAggregate
from streamcore.runtime.operators.session import SessionAggregate
from streamcore.runtime.operators.window import WINDOW_END
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
        stream: keyed by fields; or without key, and all its records are one group, in one subtask.
        lateness_ms: for how long after its end a session takes records still, and gives its results again after each.
        late_tag: the side output for records that come later, of the stream's type; None: they are counted and dropped.

    Raises:
        TopologyError: the stream has no columns, two results have one name, or the tag has another type.
    """
    where, tag = f"aggregate ({user_line()})", late_tag.name if late_tag is not None else None
    make = partial(SessionAggregate, lateness_ms=lateness_ms, late_tag=tag)
    out = _added(
        stream, windows, bound, where, lambda by, result: partial(make, by, windows.gap_ms, time, bound, result)
    )
    out._node.time = EventTime(WINDOW_END, -1)
    if late_tag is not None:
        out._node.sides = {late_tag.name: late_type(late_tag, need_columns(stream, where), where)}
    return out


def add_count_aggregate(stream: DataStream[Any], windows: CountWindows, bound: Sequence[Bound]) -> DataStream[Any]:
    """Adds the operator to the topology. The results have the key's fields and those of the aggregates; they have no
    event time, since records of any time come together.

    Args:
        stream: keyed by fields; or without key, and all its records are one group, in one subtask.

    Raises:
        TopologyError: the stream has no columns, or two results have one name.
    """
    where = f"aggregate ({user_line()})"
    out = _added(stream, windows, bound, where, lambda by, result: partial(CountAggregate, by, windows, bound, result))
    out._node.time = None
    return out


def _added(
    stream: DataStream[Any],
    windows: SessionWindows | CountWindows,
    bound: Sequence[Bound],
    where: str,
    make: Callable[[str | tuple[str, ...], Schema], Callable[[], Operator]],
) -> DataStream[Any]:
    """The stream of results of the operator that `make` makes for (the key, the type of results)."""
    schema, key = need_columns(stream, where), key_of(stream)
    names = key.fields if key is not None else ()
    by: str | tuple[str, ...] = names[0] if key is not None and key.single else names
    result = result_schema(schema.select(names), bound, where, has_bounds=isinstance(windows, SessionWindows))
    out = stream._then("aggregate", make(by, result), Form.COLUMNS, result)
    out._node.name = f"aggregate per {windows}"
    if not names:
        out._node.parallelism = 1
    return out
