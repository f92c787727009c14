"""`WindowedStream`: a stream cut into windows, of each key or of all records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from streamcore.api.aggregating import add_aggregate, bind_aggregates, bind_fold, is_of_numbers, key_of, renamed
from streamcore.api.callsite import user_line
from streamcore.api.row_windows import WindowSpec, add_windows, aggregate_rows, fold_rows, reduce_rows
from streamcore.api.session_aggregates import add_count_aggregate, add_session_aggregate
from streamcore.api.stream import DataStream
from streamcore.batch import Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.runtime.aggregates import Aggregate, Bound
from streamcore.runtime.assigners import WindowAssigner, assigner_of
from streamcore.runtime.event_time import EventTime, TimeOf
from streamcore.runtime.evictors import CountEvictor, Evictor
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.triggers import Trigger
from streamcore.runtime.window_functions import WindowFunction
from streamcore.runtime.window_kinds import CountWindows, GlobalWindows, SessionWindows
from streamcore.runtime.windows import LONGEST_MS, Windows
from streamcore.time import Duration

K = TypeVar("K")
T = TypeVar("T")
S = TypeVar("S")
U = TypeVar("U")

_MOST_SLICES = 4096
"""Of a window by count on columns: so many are kept of every key, with or without records."""

AnyWindows = Windows | SessionWindows | GlobalWindows | CountWindows | WindowAssigner[Any]


@dataclass(frozen=True, eq=False)
class WindowedStream(Generic[K, T]):
    """The windows of each key, or (`window_all`) of the whole stream. Immutable: every method gives a new one.

    A window's results come when it is over - the watermark has passed its end, or the clock, or it has its number of
    records - unless a trigger says otherwise. On a typed stream, keyed by fields or as a whole, aggregates and folds
    over windows of event time and by count are computed on columns; everything else, and whatever has a trigger or an
    evictor, record by record.
    """

    _stream: DataStream[T]
    _windows: AnyWindows
    _time: EventTime | None
    _lateness_ms: int = 0
    _late_tag: OutputTag[Any] | None = None
    _trigger: Trigger[Any] | None = None
    _evictor: Evictor[Any] | None = None
    _assigner: WindowAssigner[Any] = field(init=False)

    def __post_init__(self) -> None:
        own = isinstance(self._windows, WindowAssigner)
        object.__setattr__(self, "_assigner", self._windows if own else assigner_of(self._windows))  # type: ignore[arg-type]

    def allowed_lateness(self, duration: Duration) -> WindowedStream[K, T]:
        """Windows stay for so many seconds of event time after their end, and give their results again, at once, for
        every record that still comes. More than 2**60 ms is taken for that.

        Raises:
            TopologyError: the windows can't be late, or the duration is negative or infinite.
        """
        self._need_lateness("allowed_lateness")
        if not 0 <= duration < math.inf:
            raise TopologyError(f"allowed_lateness ({user_line()}): {duration} s", hint="seconds(30), or more, or less")
        return replace(self, _lateness_ms=round(min(duration * 1000, LONGEST_MS)))

    def late_to(self, tag: OutputTag[Any]) -> WindowedStream[K, T]:
        """Sends records that come too late for all their windows to a side output, which is read by
        `result.side_output(tag)`; without it they are dropped, and counted in the metric `late_records`.

        Raises:
            TopologyError: the windows can't be late, or it is no tag.
        """
        self._need_lateness("late_to")
        if not isinstance(tag, OutputTag):
            raise TopologyError(f"late_to ({user_line()}): {tag!r} is no tag", hint="late_to(OutputTag('late'))")
        return replace(self, _late_tag=tag)

    def trigger(self, trigger: Trigger[Any]) -> WindowedStream[K, T]:
        """Lets windows fire by another rule: `count_trigger(100)`, `continuous_trigger(seconds(1))`,
        `purging(...)`, or a `Trigger` of the user's own.

        Raises:
            TopologyError: it doesn't go with these windows.
        """
        where = f"trigger ({user_line()})"
        if not isinstance(trigger, Trigger):
            raise TopologyError(f"{where}: {trigger!r} is no trigger", hint="trigger(count_trigger(100))")
        self._refuse_count_windows(where)
        if self._assigner.merging and not trigger.can_merge:
            raise TopologyError(
                f"{where}: {self._windows} merge, and {type(trigger).__name__} can't",
                hint="implement on_merge, and set can_merge = True in the class",
            )
        if trigger.needs_event_time and (self._time is None or self._assigner.processing_time):
            raise TopologyError(
                f"{where}: {type(trigger).__name__} goes by event time, and these windows have none, so it would "
                "never fire",
                hint="give the stream watermarks, or the trigger processing_time=True",
            )
        return replace(self, _trigger=trigger)

    def evictor(self, evictor: Evictor[Any]) -> WindowedStream[K, T]:
        """Lets only some of a window's records be seen when it fires: `count_evictor(10)`, `time_evictor(seconds(5))`,
        or an `Evictor` of the user's own. The window then keeps all its records, even for an aggregate.

        Raises:
            TopologyError: it doesn't go with these windows.
        """
        where = f"evictor ({user_line()})"
        if not isinstance(evictor, Evictor):
            raise TopologyError(f"{where}: {evictor!r} is no evictor", hint="evictor(count_evictor(10))")
        self._refuse_count_windows(where)
        if evictor.needs_time and self._time is None and not self._assigner.processing_time:
            raise TopologyError(
                f"{where}: {type(evictor).__name__} goes by the records' times, and the stream has none",
                hint="give the stream watermarks, or window(..., time=)",
            )
        return replace(self, _evictor=evictor)

    def aggregate(self, *aggregates: Aggregate, **named: Aggregate) -> DataStream[Any]:
        """One record per key and window with records: the key's fields, `window_start`, `window_end` (exclusive;
        milliseconds), and a field per aggregate. Its event time is the window's last millisecond. Results of count
        and global windows have no `window_start` and `window_end`.

        Where the stream crosses between subtasks, records are added up before (see `two_stage` of the environment).
        With a trigger or an evictor, and where windows can't be computed on columns, a window keeps its records, and
        is computed anew whenever it fires.

        On a stream without type, or one keyed by a function, results are `WindowResult(key, window_start, window_end,
        value)` (`KeyResult(key, value)` without bounds) with a dictionary of the aggregates.

        Raises:
            TopologyError: an aggregate doesn't fit the stream's type.
        """
        wanted = (*aggregates, *renamed(named))
        if self._is_columnar:
            return self._on_columns(bind_aggregates(self._stream, wanted, self._time), can_merge=True)
        return aggregate_rows(self._spec(), wanted)

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
        """An aggregate of the user's own functions. One record per key and window: the key's fields, `window_start`,
        `window_end`, and the fields of `returns` (without `result`: of the state); on a stream without type, or one
        keyed by a function, `WindowResult(key, window_start, window_end, value)`. A window keeps its state, not its
        records (unless it has an evictor).

        Where windows are computed on columns, the functions are compiled like those of `map`.

        Args:
            initial: the state of a window before its first record: a number, a tuple of numbers, or a NamedTuple or
                dataclass of numbers is kept on columns, any other value over rows. It is shared: return a new state
                rather than changing it in place.
            add: `add(state, record) -> state`, called in the order in which the records come.
            merge: `merge(state, state) -> state`. Sessions need it, and sliding windows on columns; with it, records
                are added up before an exchange, and the states of several subtasks are merged in no promised order.
                Merging `initial` with a state must give that state.
            result: `result(state) -> record of returns`.

        Raises:
            TopologyError: windows that merge, without `merge`; `compiled=True` and a function can't be compiled, or the
                state is not of numbers; `initial` merged with itself isn't `initial`.
        """
        where = f"fold ({user_line()})"
        if self._assigner.merging and merge is None:
            raise TopologyError(f"{where}: {self._windows} merge", hint="give merge=, a function of two states")
        if not self._is_columnar or not (compiled or is_of_numbers(initial)):
            if compiled:
                raise TopologyError(f"{where}: these windows are computed record by record", hint="leave out compiled=")
            return fold_rows(self._spec(), initial, add, merge, result, returns)
        if merge is None and not self._are_apart:
            raise TopologyError(
                f"{where}: windows that overlap share what has been added up",
                hint="give merge=, a function of two states",
            )
        bound = bind_fold(self._stream, initial, add, merge, result, returns, compiled)
        return self._on_columns([bound], can_merge=merge is not None)

    def reduce(self, function: Callable[[T, T], T]) -> DataStream[Any]:
        """Folds the records of each window into one: on a typed stream keyed by fields a record of the key's fields,
        `window_start`, `window_end` and the other fields, else `WindowResult(key, window_start, window_end, value)`.

        Args:
            function: `function(value, record)`, in the order in which records come; associative where windows merge
                (sessions) or overlap (they share what has been reduced).
        """
        return reduce_rows(self._spec(), function)

    def process(
        self,
        function: WindowFunction[K, T, U],
        *,
        returns: type[U] | Schema | None = None,
        tags: Iterable[OutputTag[Any]] = (),
    ) -> DataStream[U]:
        """Runs a function over all records of each window that fires. A window keeps its records.

        If results have a field `window_end`, their event time is one millisecond before it; else give the next window
        a `time=`.

        Args:
            returns: the type of the results.
            tags: the side outputs that have a type of their own.
        """
        if not isinstance(function, WindowFunction):
            raise TopologyError(
                f"process ({user_line()}): {function!r} is no WindowFunction", hint="derive a class from WindowFunction"
            )
        return add_windows(self._spec(), type(function).__name__, None, function, schema_of(returns), tags)

    @property
    def _is_columnar(self) -> bool:
        """Whether aggregates are computed on columns."""
        if self._trigger is not None or self._evictor is not None or self._assigner.processing_time:
            return False
        if not isinstance(self._windows, Windows | SessionWindows | CountWindows) or self._stream.schema is None:
            return False
        if isinstance(self._windows, CountWindows) and self._windows.slices > _MOST_SLICES:
            return False
        key = key_of(self._stream)
        return key is None or not callable(key.by)

    @property
    def _are_apart(self) -> bool:
        """Whether a record belongs to one window, and what has been added up is never merged."""
        match self._windows:
            case Windows():
                return not self._windows.overlap
            case CountWindows(size=size, every=every):
                return every % size == 0
        return False

    def _on_columns(self, bound: list[Bound], *, can_merge: bool) -> DataStream[Any]:
        stream, windows, time = self._stream, self._windows, self._time
        if isinstance(windows, CountWindows):
            return add_count_aggregate(stream, windows, bound)
        assert time is not None, "windows of event time without it"
        late: dict[str, Any] = {"lateness_ms": self._lateness_ms, "late_tag": self._late_tag}
        if isinstance(windows, SessionWindows):
            return add_session_aggregate(stream, windows, time, bound, **late)
        assert isinstance(windows, Windows), "windows that aren't computed on columns"
        return add_aggregate(stream, windows, time, bound, can_merge=can_merge, **late)

    def _spec(self) -> WindowSpec:
        evictor, windows = self._evictor, self._windows
        if isinstance(windows, CountWindows) and windows.size != windows.every:
            evictor = CountEvictor(windows.size) if evictor is None else evictor
        plain = self._trigger is None and evictor is None and not self._assigner.processing_time
        sliced = windows if plain and isinstance(windows, Windows) and windows.every_ms < windows.size_ms else None
        return WindowSpec(
            self._stream,
            str(windows) if not isinstance(windows, WindowAssigner) else type(windows).__name__,
            self._assigner,
            self._trigger or self._assigner.default_trigger(),
            evictor,
            None if self._assigner.processing_time else self._time,
            self._lateness_ms,
            self._late_tag,
            sliced,
        )

    def _need_lateness(self, what: str) -> None:
        if self._assigner.processing_time or not self._assigner.has_bounds:
            raise TopologyError(
                f"{what} ({user_line()}): a record can't be late for {self._windows}",
                hint="only windows of event time have an end that a record can miss",
            )

    def _refuse_count_windows(self, where: str) -> None:
        if isinstance(self._windows, CountWindows):
            raise TopologyError(
                f"{where}: windows of {self._windows} have their own", hint="use global_windows() with a trigger"
            )


def windowed(stream: DataStream[T], windows: AnyWindows, time: TimeOf | None, where: str) -> WindowedStream[Any, T]:
    """A stream cut into windows.

    Raises:
        TopologyError: no kind of windows, or windows of event time on a stream without it.
    """
    if not isinstance(windows, Windows | SessionWindows | GlobalWindows | CountWindows | WindowAssigner):
        raise TopologyError(f"{where}: {windows!r} is no windows", hint="window(tumbling(seconds(5)))")
    known = stream._time
    event_time = EventTime(time) if time is not None else known
    by_clock = getattr(windows, "processing_time", False)
    if time is not None and by_clock:
        raise TopologyError(f"{where}: time={time!r} for windows of processing time", hint="leave one of them out")
    if event_time is None and not by_clock and not isinstance(windows, GlobalWindows | CountWindows):
        raise TopologyError(
            f"{where}: the stream from {stream._node} has no event time",
            hint="give the source watermarks: env.source(source, watermarks=bounded_out_of_orderness("
            "'time', seconds(5))), or the stream: stream.assign_watermarks(...); where a map has given the "
            "field another name: window(..., time='name')",
        )
    if event_time is not None:
        event_time.check(stream.schema, where)
    return WindowedStream(stream, windows, event_time)
