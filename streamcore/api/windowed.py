"""`WindowedStream`: a keyed stream cut into windows of event time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamcore.api.aggregating import add_aggregate, bind_aggregates, bind_fold, renamed
from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.errors import TopologyError
from streamcore.runtime.aggregates import Aggregate
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.windows import Windows

if TYPE_CHECKING:
    from streamcore.api.keyed import KeyedStream

K = TypeVar("K")
T = TypeVar("T")
S = TypeVar("S")


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
        bound = bind_aggregates(self._stream, (*aggregates, *renamed(named)), self._time)
        return add_aggregate(self._stream, self._windows, self._time, bound)

    def fold(
        self,
        initial: S,
        add: Callable[[S, T], S],
        *,
        merge: Callable[[S, S], S] | None = None,
        result: Callable[[S], Any] | None = None,
        returns: Any = None,
        compiled: bool | None = None,
    ) -> DataStream[Any]:
        """An aggregate of the user's own functions, compiled like those of `map`. One record per key and window: the
        key's fields, `window_start`, `window_end`, and the fields of `returns` (without `result`: of the state).

        Args:
            initial: the state of a window before its first record: a number, a tuple of numbers, or a NamedTuple or
                dataclass of numbers.
            add: `add(state, record) -> state`, called in the order in which the records come.
            merge: `merge(state, state) -> state`. Sliding windows need it; with it, records are added up before an
                exchange, and the states of several subtasks are merged in no promised order. Merging `initial` with a
                state must give that state.
            result: `result(state) -> record of returns`.

        Raises:
            TopologyError: the state is not of numbers; sliding windows without `merge`; `compiled=True` and a
                function can't be compiled; `initial` merged with itself isn't `initial`.
        """
        windows = self._windows
        if merge is None and windows.slice_ms != windows.size_ms:
            raise TopologyError(
                f"fold ({user_line()}): windows that overlap share what has been added up",
                hint="give merge=, a function of two states",
            )
        bound = bind_fold(self._stream, initial, add, merge, result, returns, compiled)
        return add_aggregate(self._stream, windows, self._time, [bound], can_merge=merge is not None)
