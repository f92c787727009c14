"""`ConnectedStreams`: two streams of different types that share an operator and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream, _fresh
from streamcore.batch import Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.functions import CoBatchFunction, CoProcessFunction, OutputTag
from streamcore.runtime.operators.process import ProcessColumns, ProcessRows
from streamcore.runtime.spec import Form

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
        function: CoProcessFunction[T1, T2, U] | CoBatchFunction[U],
        *,
        returns: type[U] | Schema | None = None,
        tags: Iterable[OutputTag[Any]] = (),
        time: str | None = None,
    ) -> DataStream[U]:
        """Runs a function over both streams; with keyed state and timers if both are keyed.

        Args:
            returns: the type of the main output's records.
            tags: the side outputs that have a type of their own.
            time: the field of the results with their event time, if watermarks go by it: the function emits no
                result that the watermark has passed.
        """
        streams: list[DataStream[Any]] = [self._first, self._second]
        keys = [stream._partitioning.key if stream._partitioning else None for stream in streams]
        name = type(function).__name__
        if (keys[0] is None) != (keys[1] is None):
            raise TopologyError(
                f"{name} ({user_line()}): one of the connected streams is keyed and the other is not",
                hint="key both: first.connect(second).key_by(key_of_first, key_of_second)",
            )
        if isinstance(function, CoBatchFunction):
            for stream in streams:
                stream._need_schema(name)
            make, form = partial(_fresh, ProcessColumns, function, keys), Form.COLUMNS
        else:
            make, form = partial(_fresh, ProcessRows, function, keys), Form.ROWS
        schema = schema_of(returns)
        node = self._env.graph.add(name, user_line(), make=make, forms=(form, form), output=schema)
        node.schemas = tuple(stream.schema for stream in streams)
        node.sides = {tag.name: schema_of(tag.type) for tag in tags}
        node.inputs = [stream._read(port) for port, stream in enumerate(streams)]
        if time is not None:
            node.time = EventTime(time)
            node.time.check(schema, f"{name} ({user_line()})")
        return DataStream(self._env, node, schema)
