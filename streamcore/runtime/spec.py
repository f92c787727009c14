"""What will run: the plan as plain data, made by `streamcore.plan` and sent to every worker."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamcore.batch import Schema
from streamcore.batch.wire import Compression
from streamcore.connectors.base import JobStart, Source, Split
from streamcore.state.backends import RocksDB

if TYPE_CHECKING:
    from streamcore.runtime.keys import KeySelector
    from streamcore.runtime.operator import Operator
    from streamcore.runtime.watermark_strategy import Alignment


class Form(enum.Enum):
    """The form of batch that an operator's input takes."""

    ROWS = "rows"
    COLUMNS = "columns"
    ANY = "any"


class Route(enum.Enum):
    """How an edge chooses the target subtask of a record."""

    FORWARD = "forward"
    REBALANCE = "rebalance"
    BROADCAST = "broadcast"
    HASH = "hash"
    CUSTOM = "custom"


@dataclass(frozen=True)
class Partitioning:
    """A route and what it needs: the key of HASH, the function (record, targets) -> target of CUSTOM. `location`
    is the user's line."""

    route: Route
    key: KeySelector | None = None
    choose: Callable[[Any, int], int] | None = None
    location: str = ""

    def __str__(self) -> str:
        return f"{self.route.value} by {self.key}" if self.key else self.route.value


@dataclass(frozen=True)
class OperatorSpec:
    """One operator in a chain. `parent` is the index of the operator in the chain that feeds it from its
    output `tag` (None: the main output); -1 for the head, which reads the vertex' inputs. `prepare` is called
    once by the coordinator before the first attempt. A `stateless`
    operator keeps nothing over a barrier: snapshots don't know it, so a topology may have it or not. `place` is its
    number in the topology, which a uid that the user did not give has in it."""

    uid: str
    name: str
    location: str
    make: Callable[[], Operator]
    forms: tuple[Form, ...]
    schemas: tuple[Schema | None, ...]
    parent: int = -1
    tag: str | None = None
    prepare: Callable[[JobStart], None] | None = None
    stateless: bool = False
    place: int = -1
    has_made_up_uid: bool = False


@dataclass(frozen=True)
class VertexSpec:
    """A chain that runs as `parallelism` subtasks; `loop` is the cycle it lies on, if any, `alignment` the group
    that a source's splits are in."""

    id: int
    name: str
    operators: tuple[OperatorSpec, ...]
    parallelism: int
    max_parallelism: int
    loop: int | None = None
    alignment: Alignment | None = None
    splits: tuple[Split, ...] | None = None
    source: Source[Any] | None = None

    @property
    def is_source(self) -> bool:
        return self.splits is not None

    @property
    def saved_operators(self) -> list[OperatorSpec]:
        """The operators that snapshots know."""
        return [spec for spec in self.operators if not spec.stateless]


@dataclass(frozen=True)
class EdgeSpec:
    """A connection from an operator's output to a vertex' input port; `feedback` marks a back edge,
    `loop` the cycle that both ends lie on."""

    id: int
    source: int
    operator: int
    tag: str | None
    target: int
    port: int
    partitioning: Partitioning
    feedback: bool
    loop: int | None
    schema: Schema | None


@dataclass(frozen=True)
class Settings:
    """The dials of the data plane.

    Attributes:
        batch_size: records that an output gathers before it sends them.
        buffer_timeout_s: the longest that a record waits for company; 0 sends every batch at once.
        channel_credits: batches that may be on their way in one forward channel.
        feedback_memory_records: records that a feedback channel holds in memory before it spills to disk.
        feedback_limit_records: depth of feedback above which a loop head takes no new input.
        latency_interval_s: how often a source sends a latency marker; 0: never.
        two_stage: whether aggregates are computed in part before the exchange where that is possible.
        compression: of batches between processes.
        state_backend: where state of Python objects is; None: in memory.
    """

    batch_size: int = 16_384
    buffer_timeout_s: float = 0.005
    channel_credits: int = 4
    feedback_memory_records: int = 262_144
    feedback_limit_records: int = 65_536
    allow_pickle: bool = False
    latency_interval_s: float = 1.0
    two_stage: bool = True
    compression: Compression = "none"
    state_backend: RocksDB | None = None


@dataclass(frozen=True)
class JobSpec:
    """A whole job as it will run."""

    name: str
    vertices: tuple[VertexSpec, ...]
    edges: tuple[EdgeSpec, ...]
    settings: Settings = field(default_factory=Settings)

    def subtasks(self) -> list[tuple[int, int]]:
        """All (vertex, index) pairs."""
        return [(vertex.id, index) for vertex in self.vertices for index in range(vertex.parallelism)]

    def name_of(self, subtask: tuple[int, int]) -> str:
        """A subtask as messages name it: its vertex' name and its index."""
        names = {vertex.id: vertex.name for vertex in self.vertices}
        return f"{names[subtask[0]]}[{subtask[1]}]"
