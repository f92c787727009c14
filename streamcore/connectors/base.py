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
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from streamcore.batch import Batch, Columns, Schema

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
        every completion is told of, and none after a crash: the offset that counts is the one in the snapshot."""

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

    @abstractmethod
    def splits(self) -> Sequence[Split]:
        """All splits, found once by the coordinator when the job starts.

        Raises:
            ConnectorError: the source isn't there.
        """

    @abstractmethod
    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of the split from `offset` (None: its start)."""

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


class Sink(ABC, Generic[T_contra]):
    """Where a stream goes. Instances are sent to the workers: keep open files in the writers.

    Attributes:
        accepts: `"rows"`, `"columns"` or `"any"`.
        parallelism: a fixed number of subtasks, or None for the stream's own.
    """

    accepts: str = "rows"
    parallelism: int | None = None

    @abstractmethod
    def writer(self, context: SinkContext) -> SinkWriter:
        """The writer of one subtask."""

    def prepare_job(self, restored: bool) -> None:
        """Called once by the coordinator before the job's first attempt; `restored`: the job goes on from a
        snapshot. Creates or clears the output, or refuses one that is in the way.

        Raises:
            ConnectorError: the output can't be used.
        """


__all__ = [
    "BadRecord",
    "Batch",
    "Columns",
    "ReaderContext",
    "Sink",
    "SinkContext",
    "SinkWriter",
    "Source",
    "Split",
    "SplitReader",
    "TwoPhaseWriter",
]
