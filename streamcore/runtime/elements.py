"""What travels on a channel, in order: batches and control elements."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streamcore.batch import Batch, Columns


class Mode(enum.IntEnum):
    """How a subtask with several inputs comes to its part of a checkpoint; see `runtime.alignment`."""

    ALIGNED = 0
    """It waits for the barriers of all, and reads nothing behind those that have come."""
    UNALIGNED = 1
    """It captures its state at the first sign, and the records that its barrier overtakes are part of the snapshot."""
    AT_LEAST_ONCE = 2
    """It waits for the barriers of all, and reads on meanwhile."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Event time has come to `time_ms`: no record with that time or an earlier one follows, but for late ones. `idle`:
    until the next of these, the sender doesn't hold back its readers' time."""

    time_ms: int
    idle: bool = False


@dataclass(frozen=True, slots=True)
class LatencyMarker:
    """Left a source at `sent_s`, seconds of the wall clock; waits in the queues like a record (as in Apache Flink)."""

    sent_s: float


@dataclass(frozen=True, slots=True)
class Savepoint:
    """Where the parts of a savepoint go: into a storage of its own; `is_last`: it ends the job, and where the job keeps
    checkpoints the same parts go there as well."""

    url: str
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Barrier:
    """Separates the records that belong to checkpoint `checkpoint_id` from those that don't. It says what the snapshot
    is for, since it may be at a subtask before the coordinator's `Trigger` is."""

    checkpoint_id: int
    mode: Mode = Mode.ALIGNED
    savepoint: Savepoint | None = None


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Nothing comes after it on this channel."""


END_OF_INPUT = EndOfInput()

BATCHES = (list, Columns)
"""What a batch is an instance of. Python takes three times as long for `list | Columns`: it makes one at each call."""

Element = Batch | Watermark | LatencyMarker | Barrier | EndOfInput
