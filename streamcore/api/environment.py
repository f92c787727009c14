"""`StreamEnvironment`: where a topology begins and where it is run."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from streamcore.api.callsite import user_line
from streamcore.api.loop import Loop
from streamcore.api.stream import DataStream
from streamcore.batch import Schema
from streamcore.batch.wire import COMPRESSIONS, Compression
from streamcore.connectors.base import Source
from streamcore.connectors.collect_sink import CollectSink, read_collected
from streamcore.connectors.iterable_source import IterableSource
from streamcore.errors import UsageError
from streamcore.job.config import Checkpointing, RunConfig
from streamcore.job.restart import RestartPolicy
from streamcore.job.run import Observer, run_job
from streamcore.job.status import JobResult
from streamcore.plan.compile import compile_graph
from streamcore.plan.describe import describe
from streamcore.plan.graph import Graph
from streamcore.runtime.spec import JobSpec, Settings
from streamcore.runtime.watermark_strategy import WatermarkStrategy
from streamcore.state.backends import BackendChoice, chosen_backend

T = TypeVar("T")


class StreamEnvironment:
    """Collects a topology and runs it.

    Args:
        name: the job's name; snapshots of one job can't be restored by another.
        checkpoint: where and how often to take snapshots; None: no fault tolerance.
        workers: processes to run on; 1 runs everything in this process.
        parallelism: subtasks per operator; None: one a worker.
        max_parallelism: number of key groups, fixed for the life of the state.
        batch_size, buffer_timeout: the dial between latency and throughput: an output waits for so many
            records, or so many seconds (0: not at all).
        latency_interval: seconds between two latency markers of a source, 0 for none; see `Counters.latency`.
        two_stage: adds up before the exchange what an aggregate can merge after it.
        compression: of batches between processes: `"none"`, `"lz4"` or `"zstd"`; worth it where the network
            between them is slower than the codec (for lz4 about 1 GB/s a core).
        state_backend: where the state of Python objects is: `"heap"`, in memory; or `"rocksdb"`, on a local disk, as
            `RocksDB(directory=..., memory_bytes=...)` says. Columnar state is in memory with both.
        restart: what to do after a failure.
        restore: `"latest"` or a checkpoint's directory.
        allow_dropped_state: drops what the snapshot has for operators, states and back edges that the topology no
            longer has, with a warning for each; without it such a snapshot is refused.
        control: lets `streamcore.connect` and the command line ask the job while it runs: for values of its state, for
            a savepoint.

    Example:
        >>> env = StreamEnvironment()
        >>> sorted(env.from_values([1, 2, 3]).map(lambda x: x * 2).execute_and_collect())
        [2, 4, 6]
    """

    def __init__(
        self,
        name: str = "job",
        *,
        checkpoint: Checkpointing | None = None,
        workers: int = 1,
        parallelism: int | None = None,
        max_parallelism: int | None = None,
        batch_size: int = 16_384,
        buffer_timeout: float = 0.005,
        latency_interval: float = 1.0,
        two_stage: bool = True,
        compression: Compression = "none",
        state_backend: BackendChoice = "heap",
        restart: RestartPolicy | None = None,
        restore: str | None = None,
        allow_dropped_state: bool = False,
        control: bool = False,
    ) -> None:
        self.name = name
        self.graph = Graph()
        if compression not in COMPRESSIONS:
            raise UsageError(f"there is no compression {compression!r}", hint=f"use one of {', '.join(COMPRESSIONS)}")
        self.settings = Settings(
            batch_size=batch_size,
            buffer_timeout_s=buffer_timeout,
            compression=compression,
            latency_interval_s=latency_interval,
            two_stage=two_stage,
            state_backend=chosen_backend(state_backend),
        )
        self.max_parallelism = max_parallelism
        self._parallelism = parallelism
        self.config = RunConfig(
            workers=workers,
            checkpointing=checkpoint,
            restart=restart,
            restore=restore,
            allow_dropped_state=allow_dropped_state,
            control="required" if control else "off",
        )

    @property
    def parallelism(self) -> int:
        """Subtasks per operator where the operator doesn't say."""
        return self._parallelism or self.config.workers

    @parallelism.setter
    def parallelism(self, value: int | None) -> None:
        self._parallelism = value

    def source(
        self, source: Source[T], *, name: str | None = None, watermarks: WatermarkStrategy | None = None
    ) -> DataStream[T]:
        """The stream of a source's records.

        Args:
            watermarks: where the records' event time is and how far out of order it may be, kept per split; which
                splits not to wait for (`with_idleness`), how far they may drift apart (`with_alignment`), and what
                becomes of records whose time can't be (`with_bad_times`).

        Raises:
            TopologyError: the field with the event time isn't there or has no time in it.
        """
        node = self.graph.add(name or type(source).__name__, user_line(), source=source, output=source.schema)
        if watermarks is not None:
            watermarks.time.check(source.schema, f"source ({user_line()})")
            node.watermarks, node.time = watermarks, watermarks.time
        return DataStream(self, node, source.schema)

    def from_values(
        self, values: Iterable[T] | Callable[[], Iterable[T]], schema: type[T] | Schema | None = None
    ) -> DataStream[T]:
        """A stream of Python values; pass a function for values that are made on the fly."""
        return self.source(IterableSource(values, schema), name="values")

    def loop(self, declared: type[T] | Schema | None = None) -> Loop[T]:
        """Declares a loop of records of a type; use it in a `with` block and close it there."""
        return Loop(self, declared)

    def compile(self) -> JobSpec:
        """The plan.

        Raises:
            TopologyError: the topology can't run.
            ConnectorError: a source isn't there.
        """
        checkpointing = self.config.checkpointing
        settings = dataclasses.replace(self.settings, allow_pickle=bool(checkpointing and checkpointing.allow_pickle))
        return compile_graph(self.graph, self.name, settings, self.parallelism, self.max_parallelism)

    def describe(self) -> str:
        """The plan as text."""
        return describe(self.compile())

    def execute(self, observers: tuple[Observer, ...] = ()) -> JobResult:
        """Runs the topology to its end.

        Raises:
            StreamcoreError: the topology can't run, or the job failed for good.
        """
        return run_job(self.compile(), self.config, observers)

    def execute_and_collect(self, stream: DataStream[T]) -> list[T]:
        """Runs the topology and returns the records of `stream`, each exactly once, in no promised order.

        Raises:
            UsageError: the environment restores a snapshot, whose earlier records are nowhere any more.
        """
        if self.config.restore is not None:
            raise UsageError(
                "execute_and_collect can't go on from a snapshot: what was collected before it is gone",
                hint="write to a FileSink instead",
            )
        without_sink = len(self.graph.nodes)
        try:
            with tempfile.TemporaryDirectory(prefix="streamcore-collect-") as directory:
                stream.sink(CollectSink(directory))
                self.execute()
                records: list[Any] = read_collected(directory)
        finally:
            del self.graph.nodes[without_sink:]  # its directory is gone, and the topology may be run again
        return records
