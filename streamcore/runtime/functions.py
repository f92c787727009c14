"""The functions with state, timers and side outputs that users write, and the context they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from streamcore.batch import Array, Batch, Columns, Schema
from streamcore.errors import TopologyError
from streamcore.kernels.hashing import hash_keys
from streamcore.runtime.operator import OperatorContext, Output
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState, ListState, MapState, ReducingState, TableState, ValueState
from streamcore.state.heap import ListHandle, MapHandle, ReducingHandle, ValueHandle
from streamcore.state.key_groups import subtasks_of

In = TypeVar("In")
In1 = TypeVar("In1")
In2 = TypeVar("In2")
Out = TypeVar("Out")
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class OutputTag(Generic[T]):
    """Names a side output and the type of its records (None: untyped rows)."""

    name: str
    type: type[T] | Schema | None = None


class Context(Generic[Out]):
    """What a process function may use.

    Attributes:
        key: the key of the record (or timer) at hand, on a keyed stream.
        subtask, parallelism, max_parallelism: where this instance runs; 0-based.
        watermark: how far event time has come, milliseconds; None before the first watermark. After a restore what it
            was, so that what was late then is late again.
    """

    def __init__(self, operator: OperatorContext, output: Output, *, keyed: bool) -> None:
        self._operator = operator
        self._keyed = keyed
        self._output = output
        self._current = operator.store.current
        self.watermark: int | None = None
        self.subtask = operator.subtask
        self.parallelism = operator.parallelism
        self.max_parallelism = operator.max_parallelism
        self._rows: list[Out] = []
        self._side_rows: dict[str, list[Any]] = {}
        self._moment: int | Callable[[], int | None] | None = None

    @property
    def timestamp(self) -> int | None:
        """The event time of the record at hand, milliseconds; in `on_event_timer` the timer's. None where the stream
        has no event time, and for functions of batches."""
        return self._moment() if callable(self._moment) else self._moment

    @property
    def key(self) -> Any:
        """The key of the record (or timer) at hand, on a keyed stream."""
        return self._current.key

    @overload
    def state(self, descriptor: ValueState[T]) -> ValueHandle[T]: ...
    @overload
    def state(self, descriptor: ListState[T]) -> ListHandle[T]: ...
    @overload
    def state(self, descriptor: MapState[K, V]) -> MapHandle[K, V]: ...
    @overload
    def state(self, descriptor: ReducingState[T]) -> ReducingHandle[T]: ...
    @overload
    def state(self, descriptor: ColumnarState) -> ColumnarTable: ...
    def state(self, descriptor: Any) -> Any:
        """The handle of keyed state; to be called in `open`.

        Raises:
            TopologyError: two descriptors with one name, or the stream has no key.
            IncompatibleSnapshotError: the restored snapshot has another kind of state under the name.
        """
        self._need_key(f"state {descriptor.name!r}")
        return self._operator.store.declare(descriptor)

    def table_state(self, descriptor: TableState) -> None:
        """Registers keyed state of the function's own form; `restore` is called at once if there is a snapshot."""
        self._need_key(f"state {descriptor.name!r}")
        self._operator.store.declare_table(descriptor)

    def subtasks_for(self, keys: Array, parallelism: int) -> Array:
        """The subtask of an operator with `parallelism` subtasks that each key would go to; int32 (n,)."""
        return subtasks_of(hash_keys(keys), self.max_parallelism, parallelism)

    def emit(self, record: Out) -> None:
        """Sends a record to the main output."""
        self._rows.append(record)

    def emit_batch(self, batch: Columns) -> None:
        """Sends columns to the main output."""
        self._output.emit(batch)

    def side_output(self, tag: OutputTag[T], record: T) -> None:
        """Sends a record to a side output."""
        self._side_rows.setdefault(tag.name, []).append(record)

    def side_output_batch(self, tag: OutputTag[Any], batch: Columns) -> None:
        """Sends columns to a side output."""
        self._output.emit_side(tag.name, batch)

    def now_ms(self) -> int:
        """Processing time, milliseconds since the epoch."""
        return self._operator.clock.now_ms()

    def count_late(self, records: int = 1) -> None:
        """Counts records that came too late and were dropped or sent elsewhere: the metric `late_records`."""
        self._operator.counters.late_records += records

    def register_timer(self, time_ms: int) -> None:
        """Calls `on_timer` for the current key at a processing time, milliseconds since the epoch.

        At the end of input the timers that wait are called at once; those that they set are not called.
        """
        self._need_key("a timer")
        self._operator.store.timers.register(time_ms, self._current.key)

    def cancel_timer(self, time_ms: int) -> None:
        """Removes a timer of the current key."""
        self._operator.store.timers.cancel(time_ms, self._current.key)

    def register_event_timer(self, time_ms: int) -> None:
        """Calls `on_event_timer` for the current key when the watermark has come to an event time; with the next
        watermark, if it has already.

        At the end of input all timers that wait are called, in order, with those that they set meanwhile: `watermark`
        is `MAX_TIME` then, and a timer that always sets its successor has to stop. In a loop they don't keep the loop
        going: they wait for event time, which comes from outside alone, so they fire when the loop is over, and what
        they emit then must lead out of it. One that is set in `finish` comes too late, and never fires.
        """
        self._need_key("a timer")
        self._operator.store.event_timers.register(time_ms, self._current.key)

    def cancel_event_timer(self, time_ms: int) -> None:
        """Removes an event timer of the current key."""
        self._operator.store.event_timers.cancel(time_ms, self._current.key)

    def flush(self) -> None:
        """Hands gathered rows on; the runtime calls it after each batch."""
        if self._rows:
            rows, self._rows = self._rows, []
            self._output.emit(rows)
        if self._side_rows:
            side, self._side_rows = self._side_rows, {}
            for tag, batch in side.items():
                self._output.emit_side(tag, batch)

    def _need_key(self, what: str) -> None:
        if not self._keyed:  # without key it would belong to no key group, and be lost in a restore
            raise TopologyError(
                f"{what} on a stream without key", hint="use key_by before process; a constant key is one"
            )


class _Function(Generic[Out]):
    def open(self, ctx: Context[Out]) -> None:
        """Declares state; called once before any record."""

    def on_timer(self, time_ms: int, ctx: Context[Out]) -> None:
        """A timer of `ctx.key` is due."""

    def on_event_timer(self, time_ms: int, ctx: Context[Out]) -> None:
        """An event timer of `ctx.key` is due: called in order of time, before the watermark goes on."""

    def on_watermark(self, time_ms: int, ctx: Context[Out]) -> None:
        """Event time has come to `time_ms` on all inputs; at the end of input to `MAX_TIME`. Not about one key."""

    def finish(self, ctx: Context[Out]) -> None:
        """All input has ended; a last chance to emit."""

    def close(self) -> None:
        """Frees what `open` took; called after failures too."""


class ProcessFunction(_Function[Out], Generic[In, Out]):
    """A function of one record, with state, timers and side outputs (Flink's ProcessFunction)."""

    def process(self, record: In, ctx: Context[Out]) -> None:
        """Takes one record."""
        raise NotImplementedError


class CoProcessFunction(_Function[Out], Generic[In1, In2, Out]):
    """The same over two connected streams that share the state."""

    def process_first(self, record: In1, ctx: Context[Out]) -> None:
        """Takes one record of the first stream."""
        raise NotImplementedError

    def process_second(self, record: In2, ctx: Context[Out]) -> None:
        """Takes one record of the second stream."""
        raise NotImplementedError


class BatchFunction(_Function[Out]):
    """A function of a batch of columns, for compiled or vectorised logic. How the stream is cut into batches
    must not change its results."""

    def process(self, columns: Columns, ctx: Context[Out]) -> None:
        """Takes one batch."""
        raise NotImplementedError


class CoBatchFunction(_Function[Out]):
    """The same over two connected streams that share the state."""

    def process_first(self, columns: Columns, ctx: Context[Out]) -> None:
        """Takes one batch of the first stream."""
        raise NotImplementedError

    def process_second(self, columns: Columns, ctx: Context[Out]) -> None:
        """Takes one batch of the second stream."""
        raise NotImplementedError


def require_columns(batch: Batch, what: str) -> Columns:
    """The batch, which a batch function returned and which must be columns.

    Raises:
        TopologyError: it is something else.
    """
    if not isinstance(batch, Columns):
        raise TopologyError(
            f"{what} returned {type(batch).__name__}, not Columns", hint="return columns.with_columns(...) or the like"
        )
    return batch
