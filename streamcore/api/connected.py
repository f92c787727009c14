"""`ConnectedStreams`: two streams of different types that share an operator and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream, _fresh
from streamcore.batch import Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.runtime.broadcast import BroadcastBatchFunction, BroadcastFunction
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.functions import CoBatchFunction, CoProcessFunction, OutputTag
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.broadcast import ProcessBroadcast
from streamcore.runtime.operators.process import ProcessColumns, ProcessRows
from streamcore.runtime.record_times import times_or_none
from streamcore.runtime.spec import Form, Route

if TYPE_CHECKING:
    from streamcore.api.environment import StreamEnvironment

T1 = TypeVar("T1")
T2 = TypeVar("T2")
U = TypeVar("U")

Key = str | tuple[str, ...] | Callable[[Any], Any]


class ConnectedStreams(Generic[T1, T2]):
    """Two streams, to be read by one operator."""

    def __init__(self, env: StreamEnvironment, first: DataStream[T1], second: DataStream[T2]) -> None:
        self._env = env
        self._first = first
        self._second = second

    def key_by(self, first: Key, second: Key) -> ConnectedStreams[T1, T2]:
        """Partitions both streams by key; records of equal key meet in one subtask and share its state."""
        return ConnectedStreams(self._env, self._first.key_by(first), self._second.key_by(second))

    def process(
        self,
        function: CoProcessFunction[T1, T2, U]
        | CoBatchFunction[U]
        | BroadcastFunction[T1, T2, U]
        | BroadcastBatchFunction[T2, U],
        *,
        returns: type[U] | Schema | None = None,
        tags: Iterable[OutputTag[Any]] = (),
        time: str | None = None,
    ) -> DataStream[U]:
        """Runs a function over both streams; with keyed state and timers if both are keyed.

        A broadcast function needs a second stream that is broadcast: `stream.connect(rules.broadcast())`. It has keyed
        state and timers if the first is keyed.

        Args:
            returns: the type of the main output's records.
            tags: the side outputs that have a type of their own.
            time: the field of the results with their event time, if watermarks go by it: the function emits no
                result that the watermark has passed.
        """
        streams: list[DataStream[Any]] = [self._first, self._second]
        name = type(function).__name__
        if isinstance(function, BroadcastFunction | BroadcastBatchFunction):
            make, forms = self._broadcast(name, function)
        else:
            make, forms = self._side_by_side(name, function)
        schema = schema_of(returns)
        node = self._env.graph.add(name, user_line(), make=make, forms=forms, output=schema)
        node.schemas = tuple(stream.schema for stream in streams)
        node.sides = {tag.name: schema_of(tag.type) for tag in tags}
        node.inputs = [stream._read(port) for port, stream in enumerate(streams)]
        if time is not None:
            node.time = EventTime(time)
            node.time.check(schema, f"{name} ({user_line()})")
        return DataStream(self._env, node, schema)

    def _side_by_side(
        self, name: str, function: CoProcessFunction[T1, T2, U] | CoBatchFunction[U]
    ) -> tuple[Callable[[], Operator], tuple[Form, Form]]:
        streams = (self._first, self._second)
        keys = [stream._partitioning.key if stream._partitioning else None for stream in streams]
        if (keys[0] is None) != (keys[1] is None):
            raise TopologyError(
                f"{name} ({user_line()}): one of the connected streams is keyed and the other is not",
                hint="key both: first.connect(second).key_by(key_of_first, key_of_second); or let every subtask have "
                "all of the second: first.connect(second.broadcast()), with a BroadcastFunction",
            )
        if isinstance(function, CoBatchFunction):
            for stream in streams:
                stream._need_schema(name)
            return partial(_fresh, ProcessColumns, function, keys), (Form.COLUMNS, Form.COLUMNS)
        times = [times_or_none(stream._time, stream.schema) for stream in streams]
        return partial(_fresh, ProcessRows, function, keys, times), (Form.ROWS, Form.ROWS)

    def _broadcast(
        self, name: str, function: BroadcastFunction[T1, T2, U] | BroadcastBatchFunction[T2, U]
    ) -> tuple[Callable[[], Operator], tuple[Form, Form]]:
        routes = [
            stream._partitioning.route if stream._partitioning else None for stream in (self._first, self._second)
        ]
        if routes[1] is not Route.BROADCAST or routes[0] is Route.BROADCAST:
            raise TopologyError(
                f"{name} ({user_line()}): a broadcast function's second stream is broadcast, and its first is not",
                hint="stream.connect(rules.broadcast()).process(...)",
            )
        key = self._first._partitioning.key if self._first._partitioning else None
        form = Form.ROWS
        if isinstance(function, BroadcastBatchFunction):
            self._first._need_schema(name)
            form = Form.COLUMNS
        times = times_or_none(self._first._time, self._first.schema)
        return partial(_fresh, ProcessBroadcast, function, key, times), (form, Form.ROWS)
