"""A user's function over the records of two streams that share key and window."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from streamcore import Columns, Context, DataStream, Schema, Windows
from streamcore.operators.joining import JoinFields, LateTags, Rows, late_tags, time_fields
from streamcore.operators.paired_windows import PairedWindows, check_windows

Out = TypeVar("Out")

CoGroupFunction = Callable[[Any, tuple[int, int], list[Any], list[Any]], Iterable[Out]]
"""Takes a key, a window's start and end (exclusive, milliseconds), and the left's and the right's records of both, in
order of event time, those of one millisecond in the order of their coming; one of the lists may be empty. Gives
results."""


def co_group(
    left: DataStream[Any],
    right: DataStream[Any],
    function: CoGroupFunction[Out],
    *,
    on: str | tuple[Any, Any],
    windows: Windows,
    time: str | tuple[str, str] = "time",
    returns: type[Out] | Schema | None = None,
    late_to: LateTags | None = None,
) -> DataStream[Out]:
    """What `function(key, window, lefts, rights)` makes of the records of each key and window, when the watermark has
    passed the window's end (as in Apache Flink): a join of one's own. What comes later is counted, and dropped or sent
    to a side output.

    Args:
        on: a field that both have, or the left's and the right's: a field or a tuple of fields each. The key is a
            tuple if there are several.
        windows: tumbling or sliding ones.
        time: the field with event time (int64 milliseconds) of both, or the left's and the right's.
        returns: the type of the results.
        late_to: two side outputs, for the late records of the left and of the right stream.

    Raises:
        JoinError: the streams have no type, or lack such keys or times.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous, tumbling, seconds
        >>> env = StreamEnvironment()
        >>> asked = env.from_values([("ann", 1), ("bob", 2), ("ann", 3)], Schema.of(user=str, time=int))
        >>> given = env.from_values([("bob", 5)], Schema.of(user=str, time=int))
        >>> asked, given = asked.assign_watermarks(monotonous("time")), given.assign_watermarks(monotonous("time"))
        >>> def unanswered(user, window, questions, answers):
        ...     if len(questions) > len(answers):
        ...         yield user, len(questions) - len(answers)
        >>> co_group(asked, given, unanswered, on="user", windows=tumbling(seconds(1))).execute_and_collect()
        [('ann', 2)]
    """
    where = "co_group"
    check_windows(where, windows)
    fields = JoinFields(where, left, right, on, how="semi")
    co_grouped = CoGroup(fields, windows, time_fields(where, fields, time), late_to, function)
    keyed = left.connect(right).key_by(fields.left_key, fields.right_key)
    stream: DataStream[Out] = keyed.process(co_grouped, returns=returns, tags=late_tags(late_to))
    return stream.name(f"co-group per {windows}")


class CoGroup(PairedWindows):
    """Calls the function for each key of a window when it is over."""

    def __init__(
        self,
        fields: JoinFields,
        windows: Windows,
        times: tuple[str, str],
        late_to: LateTags | None,
        function: CoGroupFunction[Any],
    ) -> None:
        super().__init__(fields, windows, times, late_to)
        self._function = function

    def complete(self, bounds: tuple[int, int], left: Columns, right: Columns, ctx: Context[Any]) -> None:
        left_slots, right_slots, count = self.slots(left, right)
        times = self.times
        lefts = _by_slot(left, left_slots, left[times[0]], count)
        rights = _by_slot(right, right_slots, right[times[1]], count)
        names = (self.fields.left_key, self.fields.right_key)
        for of_left, of_right in zip(lefts, rights, strict=True):
            record, name = (of_left[0], names[0]) if of_left else (of_right[0], names[1])
            key = getattr(record, name) if isinstance(name, str) else tuple(getattr(record, field) for field in name)
            for result in self._function(key, bounds, of_left, of_right):
                ctx.emit(result)


def _by_slot(columns: Columns, slots: Rows, times: Rows, count: int) -> list[list[Any]]:
    """The records of each slot, in order of time."""
    rows = columns.take(np.lexsort((times, slots))).to_rows()
    ends = np.cumsum(np.bincount(slots, minlength=count)).tolist()
    return [rows[start:stop] for start, stop in itertools.pairwise([0, *ends])]
