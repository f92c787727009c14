"""What a topology of the fleet is: a small job, and an independent account of what it must put out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from streamcore import StreamEnvironment
from streamcore.connectors.base import Sink
from streamcore.runtime.spec import JobSpec

MAX_PARALLELISM = 8

Row = tuple[Any, ...]

Sinks = Callable[[str], Sink[Any]]
"""Gives the sink of a name: the same one whenever the job is built again."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a topology is laid out in one run; a restore may lay it out in another way."""

    parallelism: int
    batch_size: int
    credits: int
    two_stage: bool
    rate: float | None
    """Records per second of each source; None: as fast as they are taken."""


@dataclass(frozen=True, slots=True)
class Topology:
    """A job and its oracle.

    Attributes:
        build: adds the topology to an environment; which sink a row goes to makes no difference.
        expected: the rows of a run without failure, computed without the engine.
        essence: what of a row comes out at least once however often a record is processed. Counts and sums grow when
            records are processed twice, so they aren't part of it.
        clocked: whether it goes on only when the wall clock does, so that one which jumps back an hour holds it up.
        repeated: the kind of row (its first field) that comes once from every subtask, however many there are.
        ordered: whether rows show the order of a key's records. Where barriers overtake records, that is kept only as
            long as the subtasks that send them are as many as before (docs/checkpoints.md).
    """

    name: str
    build: Callable[[StreamEnvironment, Sinks, Shape], None]
    expected: Callable[[], Counter[Row]]
    essence: Callable[[Row], Iterable[Hashable]]
    repeated: str | None = None
    clocked: bool = False
    ordered: bool = False

    def compile(self, sinks: Sinks, shape: Shape) -> JobSpec:
        """The plan of the topology in one shape."""
        env = StreamEnvironment(
            self.name,
            parallelism=shape.parallelism,
            max_parallelism=MAX_PARALLELISM,
            batch_size=shape.batch_size,
            buffer_timeout=0.0005,
            latency_interval=0.01,
            two_stage=shape.two_stage,
        )
        env.settings = dataclasses.replace(
            env.settings, channel_credits=shape.credits, feedback_memory_records=20, feedback_limit_records=12
        )
        self.build(env, sinks, shape)
        return env.compile()
