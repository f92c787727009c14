"""`DataStream`: a stream of records, and what can be done with it."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from streamcore.api.asynchronous import add_async_map
from streamcore.api.callsite import user_line
from streamcore.api.compiled import compiled_or_none, need
from streamcore.api.schemas import annotated_result, carried_time, checked, common_schema, kept_time
from streamcore.api.stream_base import StreamBase
from streamcore.batch import Array, Columns, Schema, schema_of
from streamcore.batch.expressions import Expression, as_expression, col
from streamcore.batch.projection import Predicate, Projection
from streamcore.connectors.base import Sink
from streamcore.connectors.print_sink import PrintSink
from streamcore.errors import TopologyError
from streamcore.kernels.functions.build import compile_filter, compile_map
from streamcore.runtime.async_function import AsyncFunction, Retry
from streamcore.runtime.event_time import TimeOf
from streamcore.runtime.functions import BatchFunction, OutputTag, ProcessFunction
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.async_sink import AsyncSink
from streamcore.runtime.operators.compiled import FilterColumns, MapColumns
from streamcore.runtime.operators.process import ProcessColumns, ProcessRows
from streamcore.runtime.operators.sink import SinkOperator
from streamcore.runtime.operators.source import BAD_RECORDS
from streamcore.runtime.operators.stateless import Filter, FilterBatch, FlatMap, Forward, Map, MapBatch
from streamcore.runtime.operators.watermarks import AssignWatermarks
from streamcore.runtime.record_times import times_or_none
from streamcore.runtime.spec import Form, Partitioning, Route
from streamcore.runtime.watermark_strategy import WatermarkStrategy

if TYPE_CHECKING:
    from streamcore.api.connected import ConnectedStreams
    from streamcore.api.keyed import KeyedStream
    from streamcore.api.windowed import AnyWindows, WindowedStream

T = TypeVar("T")
T2 = TypeVar("T2")
U = TypeVar("U")
K = TypeVar("K")

FORMS = {"rows": Form.ROWS, "columns": Form.COLUMNS, "any": Form.ANY}


class DataStream(StreamBase[T]):
    """A stream of records of type `T`. Immutable: every method gives a new stream.

    A stream whose type has a schema (a dataclass, NamedTuple, Struct or `Schema`) can be used by columnar
    operators and travels between processes as columns.
    """

    # --- one record at a time ------------------------------------------------------------------------------

    def map(
        self,
        function: Callable[[T], U],
        *,
        returns: type[U] | Schema | None = None,
        compiled: bool | None = None,
    ) -> DataStream[U]:
        """One record out for each record in.

        On a typed stream whose results have a type too, the function is compiled when it can be, and else runs
        interpreted, with the same results and one notice that says why. What it reads from outside - globals, outer
        variables, defaults - is read when the topology is built. Results have the types of their fields: an interpreted
        function's get them on the way to the next subtask or columnar operator.

        Args:
            returns: the type of the results; taken from the function's annotation when that has a schema.
            compiled: True makes it an error when the function can't be compiled; False: it is interpreted.

        Raises:
            TopologyError: `compiled` is true and the function can't be compiled.
        """
        out, columns = schema_of(returns or annotated_result(function)), self.schema
        program = compiled_or_none(
            "map", function, compiled, columns, lambda: compile_map(function, need(columns), need(out)), result=out
        )
        if program is not None:
            return self._then("map", partial(MapColumns, program), Form.COLUMNS, out)
        return self._then("map", partial(Map, function), Form.ROWS, out)

    def filter(self, predicate: Callable[[T], object] | Expression, *, compiled: bool | None = None) -> DataStream[T]:
        """The records for which `predicate` is true: a function of the record, on a typed stream compiled as in `map`,
        or an expression, as in `filter_batch`."""
        if isinstance(predicate, Expression):
            return self._filter_columns("filter", predicate)
        columns = self.schema
        program = compiled_or_none(
            "filter", predicate, compiled, columns, lambda: compile_filter(predicate, need(columns)), result=columns
        )
        if program is not None:
            return self._kept("filter", partial(FilterColumns, program), Form.COLUMNS)
        return self._kept("filter", partial(Filter, predicate), Form.ROWS)

    def flat_map(
        self, function: Callable[[T], Iterable[U]], *, returns: type[U] | Schema | None = None
    ) -> DataStream[U]:
        """Any number of records out for each record in."""
        return self._then("flat_map", partial(FlatMap, function), Form.ROWS, returns)

    def async_map(
        self,
        function: AsyncFunction[T, U] | Callable[[T], Awaitable[U]],
        *,
        returns: type[U] | Schema | None = None,
        ordered: bool = True,
        timeout: float = 60.0,
        capacity: int = 100,
        retry: Retry | None = None,
    ) -> DataStream[U]:
        """One record out for each record in, by a coroutine that may wait: a look-up in a service, many at a time.

        Watermarks pass no record. Records in flight are part of the snapshot, and are asked for again after a restore.

        Args:
            function: an `async def` of the record, or an `AsyncFunction`.
            ordered: results leave in the order of their records; False: as the answers come.
            timeout: seconds for a record with all its attempts; then `AsyncFunction.timed_out` gives the result, or the
                job fails.
            capacity: calls at a time in each subtask; while so many records wait, no more are read.
            retry: makes failed calls again; without it the first failure fails the job.

        Raises:
            TopologyError: the timeout is not above 0, or the capacity is below 1.
        """
        return add_async_map(self, function, returns, ordered, timeout, capacity, retry)

    # --- columns -------------------------------------------------------------------------------------------

    def map_batch(
        self, function: Callable[[Columns], Columns], *, returns: type[U] | Schema | None = None
    ) -> DataStream[U]:
        """Columns out for columns in, a batch at a time. How the stream is cut into batches must not matter.

        Args:
            returns: the type of the results when it differs from the stream's.
        """
        self._need_schema("map_batch")
        schema = schema_of(returns) if returns is not None else self.schema
        if schema is None:
            raise TopologyError(
                f"map_batch ({user_line()}): {returns!r} has no schema", hint="give a dataclass or a Schema"
            )
        return self._then("map_batch", partial(MapBatch, function, schema), Form.COLUMNS, schema)

    def filter_batch(self, mask: Callable[[Columns], Array] | Expression) -> DataStream[T]:
        """The records where `mask` is true: an expression, or a function of columns that gives a boolean array (n,).

        Example:
            >>> from streamcore import Schema, StreamEnvironment, col
            >>> words = StreamEnvironment().from_values([("a", 1), ("b", 2)], Schema.of(word=str, count=int))
            >>> words.filter_batch(col("count") > 1).execute_and_collect()
            [Record(word='b', count=2)]

        Raises:
            TopologyError: the expression names no column of the stream, or can't take its type.
        """
        return self._filter_columns("filter_batch", mask)

    def select(self, *names: str, **made: Any) -> DataStream[Any]:
        """Only the named columns, followed by those that expressions make.

        Example:
            >>> from streamcore import Schema, StreamEnvironment, col
            >>> pairs = StreamEnvironment().from_values([(1, 2), (3, 4)], Schema.of(x=int, y=int))
            >>> pairs.select("y", total=col("x") + col("y")).execute_and_collect()
            [Record(y=2, total=3), Record(y=4, total=7)]

        Raises:
            TopologyError: there is no such column, or an expression can't take its type.
        """
        return self._project("select", {**{name: col(name) for name in names}, **made}, keep=False)

    def with_columns(self, **made: Any) -> DataStream[Any]:
        """The same columns with some added or replaced by what expressions make.

        Example:
            >>> from streamcore import Schema, StreamEnvironment, col
            >>> readings = StreamEnvironment().from_values([(20.0,), (100.0,)], Schema.of(celsius=float))
            >>> readings.with_columns(fahrenheit=col("celsius") * 1.8 + 32).execute_and_collect()
            [Record(celsius=20.0, fahrenheit=68.0), Record(celsius=100.0, fahrenheit=212.0)]

        Raises:
            TopologyError: there is no such column, or an expression can't take its type.
        """
        return self._project("with_columns", made, keep=True)

    # --- functions with state, timers and side outputs -----------------------------------------------------

    @overload
    def process(
        self,
        function: ProcessFunction[T, U],
        *,
        returns: type[U] | Schema | None = None,
        tags: Iterable[OutputTag[Any]] = (),
    ) -> DataStream[U]: ...
    @overload
    def process(
        self,
        function: BatchFunction[U],
        *,
        returns: type[U] | Schema | None = None,
        tags: Iterable[OutputTag[Any]] = (),
    ) -> DataStream[U]: ...
    def process(
        self,
        function: ProcessFunction[T, U] | BatchFunction[U],
        *,
        returns: type[U] | Schema | None = None,
        tags: Iterable[OutputTag[Any]] = (),
    ) -> DataStream[U]:
        """Runs a function with side outputs; on a keyed stream also with state and timers.

        Args:
            returns: the type of the main output's records.
            tags: the side outputs that have a type of their own; untyped ones need not be named.
        """
        selector = self._partitioning.key if self._partitioning else None
        name = type(function).__name__
        if isinstance(function, BatchFunction):
            self._need_schema(name)
            make, form = partial(_fresh, ProcessColumns, function, (selector,)), Form.COLUMNS
        else:
            times = (times_or_none(self._time, self.schema),)
            make, form = partial(_fresh, ProcessRows, function, (selector,), times), Form.ROWS
        stream: DataStream[U] = self._then(name, make, form, returns)
        stream._node.sides = {tag.name: schema_of(tag.type) for tag in tags}
        return stream

    def side_output(self, tag: OutputTag[U]) -> DataStream[U]:
        """The records that the operator sent to `tag`."""
        schema = schema_of(tag.type)
        if schema is not None:
            self._node.sides.setdefault(tag.name, schema)
        return DataStream(self._env, self._node, schema, tag.name)

    def bad_records(self) -> DataStream[Any]:
        """The malformed records of a source that was made with `on_error="side_output"`, and the records with a bad
        event time of a source or `assign_watermarks` with `with_bad_times("side_output")`, as `BadRecord`."""
        if self._node.source is None and not self._node.assigns_time:
            raise TopologyError(
                f"{self._node} is no source; only sources and assign_watermarks have bad records ({user_line()})"
            )
        return DataStream(self._env, self._node, None, BAD_RECORDS)

    # --- event time ----------------------------------------------------------------------------------------

    def assign_watermarks(self, strategy: WatermarkStrategy) -> DataStream[T]:
        """Gives the stream event time; what it had before no longer counts.

        Raises:
            TopologyError: the strategy's field isn't there or has no time in it; the strategy aligns splits.
        """
        where = f"assign_watermarks ({user_line()})"
        strategy.time.check(self.schema, where)
        if strategy.alignment is not None:
            raise TopologyError(
                f"{where}: only a source can wait for others",
                hint="env.source(..., watermarks=strategy.with_alignment(...))",
            )
        form = Form.COLUMNS if strategy.time.in_columns else Form.ANY
        stream: DataStream[T] = self._then("watermarks", partial(AssignWatermarks, strategy), form, self.schema)
        stream._node.time, stream._node.assigns_time = strategy.time, True
        return stream

    def window_all(self, windows: AnyWindows, *, time: TimeOf | None = None) -> WindowedStream[None, T]:
        """Cuts the whole stream into windows, as `KeyedStream.window` does that of each key; runs in one subtask.
        Results have no fields of a key.

        Args:
            time: the field with the event time, or a function of the record, when it isn't what the watermarks go by.

        Raises:
            TopologyError: the windows are of event time, and the stream has none.
        """
        from streamcore.api.windowed import windowed

        whole = DataStream[T](self._env, self._node, self.schema, self._tag)
        return windowed(whole, windows, time, f"window_all ({user_line()})")

    # --- partitioning --------------------------------------------------------------------------------------

    @overload
    def key_by(self, key: Callable[[T], K]) -> KeyedStream[K, T]: ...
    @overload
    def key_by(self, key: str | tuple[str, ...]) -> KeyedStream[Any, T]: ...
    def key_by(self, key: str | tuple[str, ...] | Callable[[T], Any]) -> KeyedStream[Any, T]:
        """Partitions by key: a field's name, a tuple of names (the key is a tuple), or a function of the record.

        Raises:
            TopologyError: the stream's type has no such field, or it is no key.
        """
        from streamcore.api.keyed import KeyedStream

        selector = self._selector(key)
        return KeyedStream(
            self._env, self._node, self.schema, self._tag, Partitioning(Route.HASH, key=selector, location=user_line())
        )

    def rebalance(self) -> DataStream[T]:
        """Deals the records out evenly over the next operator's subtasks."""
        return self._routed(Partitioning(Route.REBALANCE))

    def broadcast(self) -> DataStream[T]:
        """Every subtask of the next operator gets every record."""
        return self._routed(Partitioning(Route.BROADCAST))

    def forward(self) -> DataStream[T]:
        """Records stay on the subtask of equal number; needs equal parallelism."""
        return self._routed(Partitioning(Route.FORWARD))

    def partition(self, choose: Callable[[T, int], int]) -> DataStream[T]:
        """Sends each record to subtask `choose(record, number_of_subtasks)`."""
        return self._routed(Partitioning(Route.CUSTOM, choose=choose, location=user_line()))

    # --- several streams -----------------------------------------------------------------------------------

    def union(self, *others: DataStream[T]) -> DataStream[T]:
        """All records of all streams; those of one stream stay in order."""
        streams = [self, *others]
        schema = common_schema([stream.schema for stream in streams])
        forms = (Form.ANY,) * len(streams)
        node = self._env.graph.add("union", user_line(), make=Forward, forms=forms, output=schema)
        node.schemas = tuple(stream.schema for stream in streams)
        node.inputs = [stream._read(port) for port, stream in enumerate(streams)]
        times = {stream._time for stream in streams}
        node.time = kept_time(times.pop(), node.output) if len(times) == 1 else None
        return DataStream(self._env, node, node.output)

    def connect(self, other: DataStream[T2]) -> ConnectedStreams[T, T2]:
        """Two streams of different types into one operator that keeps them apart."""
        from streamcore.api.connected import ConnectedStreams

        return ConnectedStreams(self._env, self, other)

    # --- the end -------------------------------------------------------------------------------------------

    def sink(self, sink: Sink[T]) -> DataStream[T]:
        """Writes the stream; the result can only be given a name, uid or parallelism."""
        make = partial(AsyncSink if sink.asynchronous else SinkOperator, sink)
        stream: DataStream[T] = self._then(type(sink).__name__, make, FORMS[sink.accepts], None)
        stream._node.schemas = (self.schema,)
        stream._node.prepare = sink.prepare_job
        stream._node.parallelism = sink.parallelism
        if sink.accepts == "columns":
            self._need_schema(type(sink).__name__)
        return stream

    def print(self, prefix: str = "") -> DataStream[T]:
        """Prints each record on stdout."""
        return self.sink(PrintSink(prefix))

    def execute_and_collect(self) -> list[T]:
        """Runs the topology and returns this stream's records, each exactly once, in no promised order."""
        return self._env.execute_and_collect(self)

    # --- inside --------------------------------------------------------------------------------------------

    def _routed(self, partitioning: Partitioning) -> DataStream[T]:
        return DataStream(self._env, self._node, self.schema, self._tag, partitioning)

    def _then(self, name: str, make: Callable[[], Operator], form: Form, returns: Any) -> DataStream[Any]:
        schema = schema_of(returns)
        node = self._env.graph.add(
            name, user_line(), make=make, forms=(form,), schemas=(self.schema,), output=schema, inputs=[self._read(0)]
        )
        node.time = carried_time(self._time, schema)
        return DataStream(self._env, node, schema)

    def _kept(self, name: str, make: Callable[[], Operator], form: Form) -> DataStream[T]:
        """As `_then`, of an operator whose results are records of this stream, unchanged."""
        stream: DataStream[T] = self._then(name, make, form, self.schema)
        stream._node.time = kept_time(self._time, self.schema)
        return stream

    def _filter_columns(self, what: str, mask: Callable[[Columns], Array] | Expression) -> DataStream[T]:
        schema = self._need_schema(what)
        if isinstance(mask, Expression):
            mask = checked(what, Predicate, mask, schema)
        return self._kept(what, partial(FilterBatch, mask), Form.COLUMNS)

    def _project(self, what: str, made: dict[str, Any], *, keep: bool) -> DataStream[Any]:
        schema = self._need_schema(what)
        if not made:
            raise TopologyError(f"{what} ({user_line()}) got no columns", hint="name some, or give expressions")
        expressions = checked(what, lambda: {name: as_expression(value) for name, value in made.items()})
        projection = checked(what, partial(Projection, keep=keep), expressions, schema)
        return self._then(what, partial(MapBatch, projection, projection.schema), Form.COLUMNS, projection.schema)


def _fresh(cls: Callable[..., Operator], function: Any, *arguments: Any) -> Operator:
    """An operator with a copy of the user's function object: every subtask has its own."""
    return cls(copy.deepcopy(function), *arguments)
