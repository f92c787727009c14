"""`StreamBase`: where a stream comes from, the attributes of that operator, and what operations ask of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from streamcore.api.callsite import user_line
from streamcore.batch import Schema
from streamcore.errors import TopologyError
from streamcore.plan.graph import Input, Node
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.spec import Partitioning

if TYPE_CHECKING:
    from streamcore.api.environment import StreamEnvironment

T = TypeVar("T")


class StreamBase(Generic[T]):
    """One of the outputs of an operator, and how it is to be partitioned.

    Attributes:
        schema: the type of the records; None: untyped rows.
    """

    def __init__(
        self,
        env: StreamEnvironment,
        node: Node,
        schema: Schema | None,
        tag: str | None = None,
        partitioning: Partitioning | None = None,
    ) -> None:
        self._env = env
        self._node = node
        self._tag = tag
        self._partitioning = partitioning
        self.schema = schema

    def uid(self, uid: str) -> Self:
        """Names the operator in snapshots, so that its state is found again when the topology has changed."""
        self._node.uid = uid
        return self

    def name(self, name: str) -> Self:
        """Names the operator in messages, metrics and `describe()`."""
        self._node.name = name
        return self

    def parallelism(self, parallelism: int) -> Self:
        """The operator's number of subtasks."""
        if parallelism < 1:
            raise TopologyError(f"parallelism {parallelism} of {self._node}: it must be at least 1")
        if self._node.is_single and parallelism > 1:
            raise TopologyError(
                f"parallelism {parallelism} of {self._node}, which takes the stream as a whole",
                hint="it runs in one subtask; with a key (key_by) it can run in several",
            )
        self._node.parallelism = parallelism
        return self

    def start_new_chain(self) -> Self:
        """Runs the operator in a subtask of its own instead of its producer's."""
        self._node.chainable = False
        return self

    def _read(self, port: int) -> Input:
        return Input(self._node, self._tag, port, self._partitioning)

    @property
    def _time(self) -> EventTime | None:
        return self._node.time if self._tag is None else None

    def _need_schema(self, what: str) -> Schema:
        if self.schema is None:
            raise TopologyError(
                f"{what} ({user_line()}) works on columns, but the stream from {self._node} has no type",
                hint="give the source or the map before it a type: map(function, returns=MyDataclass)",
            )
        return self.schema

    def _selector(self, key: Any) -> KeySelector:
        names = (key,) if isinstance(key, str) else key
        is_named = isinstance(names, tuple) and bool(names) and all(isinstance(name, str) for name in names)
        if not is_named and not callable(key):
            raise TopologyError(
                f"key_by({key!r}) ({user_line()}): that is no key",
                hint="a field's name, a tuple of names as in key_by(('shop', 'item')), or a function of the record",
            )
        selector = KeySelector(key, self.schema.names if self.schema is not None else ())
        if self.schema is not None:
            for name in selector.fields:
                if name not in self.schema.by_name:
                    raise TopologyError(
                        f"key_by({selector}) ({user_line()}): the stream from {self._node} has no field {name!r}",
                        hint=f"its fields are {self.schema}",
                    )
        return selector
