"""The small interfaces behind which every source and sink stands.

A source has **splits** (a file, a partition); a subtask reads some of them, each through a `SplitReader`
whose `offset` is exact to the record and part of the snapshot. A sink writes batches; a **two-phase** sink
prepares what it wrote when a barrier comes, and makes it visible when that checkpoint is complete::

    class Numbers(Source[int]):
        def splits(self) -> list[Split]:
            return [Split("all")]

        def reader(self, split, offset, context):
            return NumbersReader(start=offset or 0)

    class NumbersReader(SplitReader):
        def poll(self, limit):          # at most `limit` records, [] or None when there is nothing now
            rows = list(range(self.offset, min(self.offset + limit, 100)))
            self.offset += len(rows)
            self.exhausted = self.offset == 100
            return rows
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from streamcore.batch import Batch, Columns, Schema


def _ignore(*_: Any) -> None:
    """Where nobody listens."""


T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """A part of a source that is read in order by one subtask. `id` is stable over runs; `info` is plain data."""

    id: str
    info: Any = None


@dataclasses.dataclass(slots=True)
class BadRecord:
    """A malformed record, or one with a bad event time, that was sent to a side output instead of failing the job."""

    text: str
    reason: str
    split: str
    position: str


@dataclasses.dataclass(slots=True)
class ReaderContext:
    """What the runtime gives a reader."""

    wake: Callable[[], None]
    """Call it when records have come after `poll` returned nothing; safe from the event loop's thread only."""
    now: Callable[[], float]
    """Seconds of the runtime's monotonic clock."""
    report_bad: Callable[[BadRecord], None]
    """Counts a malformed record and sends it to the source's side output, if there is one."""
    found: Callable[[Sequence[Split]], None] = _ignore
    """Call it with the splits that the source has now, when there may be new ones: those that belong to this subtask
    and aren't read yet will be."""
    waiting: Callable[[str | None], None] = _ignore
    """Call it with the name of a service (`Kafka at localhost:9092`) that can't be reached, and with None when it can
    again: the outage is told once in the log, and shown in the metrics."""
    subtask: int = 0
    parallelism: int = 1
    job: str = "job"
    client: SourceClient | None = None
    """What `Source.client` gave."""


class SourceClient(ABC):
    """What the readers of one subtask have in common: a connection, and the search for new splits. Made before the
    readers, in the subtask's event loop, closed after them."""

    @abstractmethod
    async def close(self) -> None:
        """Frees everything; called once, also after a failure."""


class SplitReader(ABC):
    """Reads one split in order.

    Attributes:
        offset: where reading goes on after the records handed out so far; plain data (see
            `streamcore.batch.plain`), saved in snapshots and given back to `Source.reader`.
        exhausted: true when the split has ended and all its records were handed out.
        wake_at: when `poll` returned nothing: the monotonic time at which to poll again, or None when
            the reader will call `context.wake`.
    """

    offset: Any = None
    exhausted: bool = False
    wake_at: float | None = None

    @abstractmethod
    def poll(self, limit: int) -> Batch | None:
        """The next records, at most `limit` (≥ 1); an empty batch or None when there are none now.

        Raises:
            DataError: the input is malformed or can't be read.
        """

    def committed(self, offset: Any) -> None:  # noqa: B027 - optional
        """A checkpoint is complete in which the split's offset was `offset`: what is before it will
        not be read again. For those who tell the outside how far a job has come (a consumer group's offsets, say). Not
        every completion is told of, and none after a crash: the offset that counts is the one in the snapshot. For a
        split that has ended it is called once more, after `close`."""

    def close(self) -> None:  # noqa: B027 - optional
        """Frees what the reader holds; called once, also after a failure."""


class Source(ABC, Generic[T_co]):
    """Where a stream comes from. Instances are sent to the workers: keep open files in the readers.

    Attributes:
        schema: the columns of a typed source; None for rows.
        bounded: whether the source ends by itself.
    """

    schema: Schema | None = None
    bounded: bool = True
    discovers: bool = False
    """Whether splits may appear while the job runs; then the source doesn't end with the splits it has."""
    offset_of_new: Any = None
    """The offset of a split that the restored snapshot doesn't know, or that was found while the job ran."""

    @abstractmethod
    def splits(self) -> Sequence[Split]:
        """All splits, found once by the coordinator when the job starts.

        Raises:
            ConnectorError: the source isn't there.
        """

    @abstractmethod
    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of the split from `offset` (None: its start)."""

    def client(self, context: ReaderContext) -> SourceClient | None:
        """What the readers of one subtask share, if they do."""
        return None

    def subtask_of(self, split: Split, parallelism: int) -> int | None:
        """The subtask that reads the split; None: splits are dealt out in the order of their ids. A source that
        discovers splits must say, and always the same."""
        return None

    def split(self, split_id: str) -> Split | None:
        """The split of a snapshot that isn't in `splits`, because it was found while the job ran; None: it is gone."""
        return None

    def resumes(self, split: Split, offset: Any) -> bool:
        """Whether a split that had been read to its end in the restored snapshot, at `offset`, is read on from there:
        because the source is to end later now, say. Not asked where the whole source had ended: that stays so."""
        return False

    def hint_for_lost(self, split_id: str, splits: Sequence[Split]) -> str | None:
        """Why a split of a snapshot must not be missing from `splits`, even if it had been read to its end:
        what the user can do about it. None when nothing but its own unread records would be lost."""
        return None


@dataclasses.dataclass(slots=True)
class SinkContext:
    """What the runtime gives a sink writer."""

    subtask: int
    parallelism: int
    epoch: int
    """The attempt; grows with every restart. Names of unfinished output should have it in them."""
    wake: Callable[[], None] = _ignore
    """Call it when an `AsyncSinkWriter` that was full has room again; from the event loop's thread only."""
    fail: Callable[[Exception], None] = _ignore
    """Call it with what went wrong beside the stream: the subtask fails with it."""
    waiting: Callable[[str | None], None] = _ignore
    """As `ReaderContext.waiting`."""
    job: str = "job"


@dataclasses.dataclass(frozen=True, slots=True)
class JobStart:
    """What a sink may want to know before a job's first attempt."""

    restored: bool
    """The job goes on from a snapshot."""
    job: str = "job"
    checkpoint_interval_s: float | None = None
    """Seconds between two checkpoints; None: there are none."""
    checkpoint_timeout_s: float | None = None


class SinkWriter(ABC):
    """Writes the records of one subtask. At least once unless it is a `TwoPhaseWriter`."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Writes the batch, in the form (rows or columns) that the sink's `accepts` asked for."""

    def flush(self) -> None:  # noqa: B027 - optional
        """Makes everything written so far durable; called before a snapshot and at the end."""

    def close(self) -> None:  # noqa: B027 - optional
        """Frees what the writer holds; called once, also after a failure."""


class TwoPhaseWriter(SinkWriter):
    """Exactly once by two-phase commit (`semantics`: Flink's TwoPhaseCommitSink)."""

    @abstractmethod
    def prepare(self) -> list[Any]:
        """Pre-commits all that was written since the last call; returns plain handles to commit it by."""

    @abstractmethod
    def commit(self, handles: Sequence[Any]) -> None:
        """Makes pre-committed output visible. Idempotent: it may be called again for the same handles."""

    @abstractmethod
    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Before anything is written: discards unfinished output of earlier attempts of *this subtask's share*
        but not `prepared`, the handles of the restored snapshot."""


class AsyncSinkWriter(ABC):
    """Writes the records of one subtask to a service, on the subtask's event loop: nothing here may block.

    The methods without `async` are called by the stream and return at once. What they began goes on beside it; what
    fails there is given to `context.fail`. A service that can't be reached is waited for (`context.waiting`), not
    failed on.
    """

    @abstractmethod
    async def open(self, prepared: Sequence[Any]) -> None:
        """Connects. Before anything is written: commits `prepared`, the handles of the restored snapshot, and discards
        what else is unfinished of earlier attempts in this subtask's share."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Takes the batch, in the form that the sink's `accepts` asked for."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether the stream has to wait until some of what was written has gone out: backpressure. When it has
        room again, the writer calls `context.wake`."""

    @abstractmethod
    def prepare(self) -> Awaitable[Sequence[Any]]:
        """A barrier has come: what was written since the last one belongs to its checkpoint. The cut is made before
        this returns; the awaitable, which is awaited beside the stream, is done when all that was written before the
        cut is durable, and gives plain handles to commit it by, none if there is nothing to commit."""

    async def commit(self, handles: Sequence[Any]) -> None:  # noqa: B027 - optional
        """Makes pre-committed output visible, beside the stream and in the order of the checkpoints. Idempotent.

        Raises:
            StreamcoreError: it never can be: the job fails.
        """

    @abstractmethod
    async def close(self) -> None:
        """Frees what the writer holds, and stops what it does beside the stream; called once, also after a failure,
        and whether or not `open` had ended."""


class Sink(ABC, Generic[T_contra]):
    """Where a stream goes. Instances are sent to the workers: keep open files in the writers.

    Attributes:
        accepts: `"rows"`, `"columns"` or `"any"`.
        parallelism: a fixed number of subtasks, or None for the stream's own.
        asynchronous: whether its writers are `AsyncSinkWriter`s.
    """

    accepts: str = "rows"
    parallelism: int | None = None
    asynchronous: bool = False

    @abstractmethod
    def writer(self, context: SinkContext) -> SinkWriter | AsyncSinkWriter:
        """The writer of one subtask."""

    def prepare_job(self, start: JobStart) -> None:
        """Called once by the coordinator before the job's first attempt. Creates or clears the output, or refuses one
        that is in the way.

        Raises:
            ConnectorError: the output can't be used.
        """


__all__ = [
    "AsyncSinkWriter",
    "BadRecord",
    "Batch",
    "Columns",
    "JobStart",
    "ReaderContext",
    "Sink",
    "SinkContext",
    "SinkWriter",
    "Source",
    "SourceClient",
    "Split",
    "SplitReader",
    "TwoPhaseWriter",
]
