"""The logical graph: what the user's calls have said so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamcore.batch import Schema
from streamcore.connectors.base import JobStart, Source
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import Operator
from streamcore.runtime.spec import Form, Partitioning
from streamcore.runtime.watermark_strategy import WatermarkStrategy


@dataclass(frozen=True)
class TwoStage:
    """An aggregate's other form: `first` before the exchange, whose output has the type `between`, `second` after."""

    first: Callable[[], Operator]
    between: Schema
    second: Callable[[], Operator]


@dataclass(eq=False)
class Node:
    """One operator of the topology, or the placeholder of a loop's feedback.

    `location` is the user's own line. `make` builds the operator of one subtask (a source's is built from
    `source`, once its splits are known). `schemas` are those of the inputs, `output` and `sides` those of the outputs.
    `time` is where the main output's records have their event time, if watermarks come with them; a node that
    `assigns_time` has given them. A `stateless` node has no part in snapshots. One that `is_single` needs all
    records in one subtask.
    """

    id: int
    name: str
    location: str
    make: Callable[[], Operator] | None = None
    source: Source[Any] | None = None
    forms: tuple[Form, ...] = (Form.ANY,)
    schemas: tuple[Schema | None, ...] = (None,)
    output: Schema | None = None
    sides: dict[str, Schema | None] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)
    uid: str | None = None
    parallelism: int | None = None
    prepare: Callable[[JobStart], None] | None = None
    time: EventTime | None = None
    assigns_time: bool = False
    watermarks: WatermarkStrategy | None = None
    two_stage: TwoStage | None = None
    is_feedback: bool = False
    is_single: bool = False
    stateless: bool = False
    chainable: bool = True

    def __str__(self) -> str:
        return f"{self.name!r} ({self.location})"


@dataclass(eq=False)
class Input:
    """Where a node's input port reads: a node's output (`tag` None: the main one) and how it is partitioned
    (None: the plan chooses forward, or rebalance where the parallelism differs)."""

    node: Node
    tag: str | None
    port: int
    partitioning: Partitioning | None


@dataclass(frozen=True, slots=True)
class Link:
    """A read of one node's output by another, with loops' placeholders resolved."""

    source: Node
    tag: str | None
    target: Node
    port: int
    partitioning: Partitioning | None
    feedback: bool


@dataclass(eq=False)
class Loop:
    """A declared loop: its placeholder, and the streams that close it."""

    placeholder: Node
    closed_by: list[tuple[Node, str | None]] = field(default_factory=list)


class Graph:
    """All nodes, in the order in which they were made."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.loops: list[Loop] = []

    def add(self, name: str, location: str, **attributes: Any) -> Node:
        """Makes a node."""
        node = Node(len(self.nodes), name, location, **attributes)
        self.nodes.append(node)
        return node

    def uid_of(self, node: Node) -> str:
        """The node's uid: the user's, or one from its name and place in the topology."""
        return node.uid or f"{node.name}-{node.id}"

    def check(self) -> None:
        """Refuses a graph that can't run.

        Raises:
            TopologyError: names the operators and the user's lines.
        """
        if not any(node.source for node in self.nodes):
            raise TopologyError("the topology has no source", hint="begin with env.source(...) or env.from_values(...)")
        self._check_uids()
        self._check_loops()

    def _check_uids(self) -> None:
        seen: dict[str, Node] = {}
        for node in self.nodes:
            uid = self.uid_of(node)
            if uid in seen:
                raise TopologyError(
                    f"two operators have the uid {uid!r}: {seen[uid]} and {node}", hint="give each its own"
                )
            seen[uid] = node

    def _check_loops(self) -> None:
        for loop in self.loops:
            place = loop.placeholder
            if not loop.closed_by:
                raise TopologyError(f"loop {place} is never closed", hint="call loop.close(stream) with what goes back")
            if not any(read.node is place for node in self.nodes for read in node.inputs):
                raise TopologyError(
                    f"nothing reads the feedback of loop {place}", hint="connect or union loop.feedback"
                )
        for node in self.nodes:
            if node.inputs and all(read.node.is_feedback for read in node.inputs):
                raise TopologyError(
                    f"operator {node} can be reached only through the back edge of a loop: no barrier would get to it "
                    "but through the loop itself",
                    hint="transform records before loop.close(...), and connect or union loop.feedback with a stream "
                    "that comes from outside",
                )
