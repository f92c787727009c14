"""`KeyedStream`: a stream partitioned by key, with state per key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import pyarrow as pa

from streamcore.api.aggregating import add_aggregate, bind_aggregates, bind_fold, renamed
from streamcore.api.callsite import user_line
from streamcore.api.compiled import compiled_or_none, need
from streamcore.api.stream import DataStream
from streamcore.api.windowed import AnyWindows, WindowedStream, windowed
from streamcore.batch import Field, Schema, schema_of
from streamcore.kernels.functions.build import compile_reduce, compile_scan
from streamcore.runtime.aggregates import Aggregate, count
from streamcore.runtime.event_time import TimeOf
from streamcore.runtime.operators.compiled import ReduceColumns, ScanColumns
from streamcore.runtime.operators.keyed import CountColumns, CountRows, Reduce, Scan
from streamcore.runtime.spec import Form

K = TypeVar("K")
T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S")

Emit = Literal["each", "final"]


class KeyedStream(DataStream[T], Generic[K, T]):
    """A stream whose records of equal key meet in one subtask, in order. Functions given to `process` have keyed
    state and timers."""

    def scan(
        self,
        initial: S,
        function: Callable[[S, T], tuple[S, U]],
        *,
        returns: type[U] | Schema | None = None,
        compiled: bool | None = None,
    ) -> DataStream[U]:
        """A running computation per key: `function(state, record) -> (state, result)`, starting from `initial`.

        `initial` is shared by all keys: return a new state rather than changing it in place.

        Compiled as in `map` when the stream and `returns` have a type and the state is a number, a tuple of numbers,
        or a NamedTuple or dataclass of numbers; it is then kept in arrays, and its fields keep their first type: a
        state that outgrows it (64 bits, say) fails the job with a hint at `compiled=False`.
        """
        columns, out = self.schema, schema_of(returns)
        program = compiled_or_none(
            "scan",
            function,
            compiled,
            columns,
            lambda: compile_scan(function, initial, need(columns), need(out)),
            result=out,
        )
        if program is not None:
            return self._then("scan", partial(ScanColumns, self._key, program, initial), Form.COLUMNS, out)
        return self._then("scan", partial(Scan, self._key, initial, function), Form.ROWS, out)

    def reduce(
        self, function: Callable[[T, T], T], *, emit: Emit = "each", compiled: bool | None = None
    ) -> DataStream[T]:
        """Folds the records of each key: emits the value after each record, or (`"final"`) once at the end of input.

        Compiled as in `map` when the stream has a type whose fields are numbers or the key's own.
        """
        columns, each = self.schema, emit != "final"
        program = compiled_or_none(
            "reduce",
            function,
            compiled,
            columns,
            lambda: compile_reduce(function, need(columns), self._key.fields, with_results=each),
            result=columns,
        )
        if program is not None:
            return self._then("reduce", partial(ReduceColumns, self._key, program), Form.COLUMNS, columns)
        interpreted = partial(Reduce, self._key, function, only_final=not each, columns=columns)
        return self._then("reduce", interpreted, Form.ROWS, columns)

    def window(self, windows: AnyWindows, *, time: TimeOf | None = None) -> WindowedStream[K, T]:
        """Cuts the records of each key into windows: `tumbling(seconds(5))`, `sliding(…)`, `session(minutes(30))`,
        `count_windows(100)`, `global_windows()`, or a `WindowAssigner` of the user's own.

        Args:
            time: the field with the event time, when it isn't the one that the stream's watermarks go by; on a stream
                without type a function of the record that returns milliseconds.

        Raises:
            TopologyError: the windows are of event time, and the stream has none.
        """
        return windowed(self, windows, time, f"window ({user_line()})")

    def aggregate(self, *aggregates: Aggregate, **named: Aggregate) -> DataStream[Any]:
        """One record per key at the end of input: the key's fields, and a field per aggregate.

        Raises:
            TopologyError: an aggregate doesn't fit the stream's type.
        """
        return add_aggregate(self, None, None, bind_aggregates(self, (*aggregates, *renamed(named))))

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
        """An aggregate of the user's own functions, with one record per key at the end of input; as
        `WindowedStream.fold`, without the window."""
        bound = bind_fold(self, initial, add, merge, result, returns, compiled)
        return add_aggregate(self, None, None, [bound], can_merge=merge is not None)

    def count(self, *, emit: Emit = "each") -> DataStream[Any]:
        """Counts the records of each key: the count after each record, or (`"final"`) once a key at the end of input.

        On a typed stream keyed by fields the results have these fields and `count`; else they are tuples (key, count).
        """
        final = emit == "final"
        if final and self.schema is not None and self._key.fields:
            return self.aggregate(count()).name("count")
        if self.schema is None or not self._key.fields:
            return self._then("count", partial(CountRows, self._key, only_final=final), Form.ROWS, None)
        schema = Schema((*self.schema.select(self._key.fields).fields, Field("count", pa.int64())))
        return self._then("count", partial(CountColumns, self._key, schema), Form.COLUMNS, schema)

    @property
    def _key(self) -> Any:
        assert self._partitioning is not None, "a keyed stream without key"
        return self._partitioning.key
