"""Loops: a stream that is declared before it exists and closed later."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from streamcore.api.callsite import user_line
from streamcore.api.stream import DataStream
from streamcore.batch import Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.plan.graph import Loop as LoopNode

if TYPE_CHECKING:
    from streamcore.api.environment import StreamEnvironment

T = TypeVar("T")


class Loop(Generic[T]):
    """A back edge. `feedback` is the stream that comes round; `close` says what goes into it.

    The loop ends by itself on bounded input: when nothing is in flight in it any more, which is counted, not
    guessed by a time-out.
    """

    def __init__(self, env: StreamEnvironment, declared: type[T] | Schema | None) -> None:
        self._env = env
        self._node = env.graph.add("loop", user_line(), is_feedback=True)
        self._schema = schema_of(declared)
        self._closing: list[Schema | None] = []
        self._loop = LoopNode(self._node)
        env.graph.loops.append(self._loop)

    @property
    def feedback(self) -> DataStream[T]:
        """The stream of records that come back. Connect or union it with a stream from outside of the loop."""
        return DataStream(self._env, self._node, self._schema)

    def close(self, *streams: DataStream[T]) -> None:
        """Sends these streams back to `feedback`.

        Raises:
            TopologyError: a stream isn't of the loop's type.
        """
        for stream in streams:
            if stream._partitioning is not None:
                raise TopologyError(
                    f"loop.close ({user_line()}): a partitioned stream can't be closed into a loop",
                    hint="partition where the feedback is read: connect(loop.feedback).key_by(...)",
                )
            if self._schema is not None and stream.schema is not None and stream.schema != self._schema:
                raise TopologyError(
                    f"loop.close ({user_line()}): the loop's records are {self._schema}, "
                    f"the stream's are {stream.schema}"
                )
            self._closing.append(stream.schema)
            if self._closing[0] != stream.schema:
                raise TopologyError(
                    f"loop.close ({user_line()}): streams of different types, {self._closing[0]} and {stream.schema}",
                    hint="map them to one type first",
                )
            self._loop.closed_by.append((stream._node, stream._tag))

    def __enter__(self) -> Loop[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and not self._loop.closed_by:
            raise TopologyError(f"the loop at {self._node.location} is not closed", hint="call loop.close(stream)")
