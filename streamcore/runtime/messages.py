"""What the coordinator and the workers tell each other.

Every message of an attempt carries its epoch; one from another epoch is ignored by whoever gets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamcore.checkpoint.log import Entry, SubtaskEntry
from streamcore.errors import StreamcoreError
from streamcore.runtime.counters import Counters
from streamcore.runtime.elements import Mode, Savepoint
from streamcore.runtime.spec import JobSpec

Subtask = tuple[int, int]
"""(vertex id, index)."""


@dataclass(frozen=True, slots=True)
class Restore:
    """What an attempt starts from: a manifest and where its files are. `allow_dropped`: state that the topology has
    no place for is dropped."""

    storage_url: str
    manifest: Entry
    allow_dropped: bool = False


# --- coordinator to worker ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deploy:
    """Make the subtasks that are placed on you; open nothing, send nothing yet."""

    epoch: int
    job: JobSpec
    placement: dict[Subtask, int]
    worker: int
    storage_url: str | None
    restore: Restore | None


@dataclass(frozen=True, slots=True)
class Connect:
    """All workers are deployed: connect your outputs, restore and open your operators. `addresses`: the data socket
    of each worker."""

    epoch: int
    addresses: dict[int, str]


@dataclass(frozen=True, slots=True)
class Start:
    """Everything is open on all workers: run."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """Start a checkpoint, or a savepoint; with `pause`, sources emit nothing after its barrier. Sent again with
    `Mode.UNALIGNED`: the checkpoint has become too old to go on waiting for aligned barriers."""

    epoch: int
    checkpoint_id: int
    pause: bool = False
    mode: Mode = Mode.ALIGNED
    savepoint: Savepoint | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """The checkpoint is complete, and so are all before it: commit. `final`: then close, the job is over."""

    epoch: int
    checkpoint_id: int
    final: bool = False


@dataclass(frozen=True, slots=True)
class Abort:
    """The checkpoint won't be complete."""

    epoch: int
    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class Wave:
    """Report what you have sent and received inside the loop."""

    epoch: int
    loop: int
    number: int


@dataclass(frozen=True, slots=True)
class LoopOver:
    """Nothing is in flight in the loop and nothing will be: its feedback has ended."""

    epoch: int
    loop: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Sources: end now, as if your input had ended."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Align:
    """An alignment group has come to `group_ms` of event time: splits that are too far ahead of it wait. None: nobody
    in the group has to be waited for."""

    epoch: int
    group: str
    group_ms: int | None


@dataclass(frozen=True, slots=True)
class Query:
    """Tell what state `name` of operator `uid` has for `key`; without a name: what states there are. The answer has
    the same number."""

    epoch: int
    number: int
    subtask: Subtask
    uid: str
    name: str | None
    key: Any


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop all subtasks of the attempt at once."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Leave; there is nothing more to do."""


# --- worker to coordinator ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a worker process."""

    worker: int
    pid: int
    data_address: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """The subtasks are made."""

    epoch: int
    worker: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The outputs are connected, and all operators are restored and open."""

    epoch: int
    worker: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A subtask has written its part of a checkpoint; times in seconds, `in_flight_bytes`: of records in flight."""

    epoch: int
    checkpoint_id: int
    subtask: Subtask
    entry: SubtaskEntry
    alignment_s: float
    pause_s: float
    in_flight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Decline:
    """A subtask couldn't write its part."""

    epoch: int
    checkpoint_id: int
    subtask: Subtask
    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A subtask has had its last record and emitted its last; `entry`: its last snapshot, if there is storage;
    `captured`: the last checkpoint that it has sent a barrier for, 0: none."""

    epoch: int
    subtask: Subtask
    entry: SubtaskEntry | None
    captured: int


@dataclass(frozen=True, slots=True)
class OutsideEnded:
    """A subtask on a loop has seen the end of all its inputs from outside of the loop."""

    epoch: int
    loop: int
    subtask: Subtask


@dataclass(frozen=True, slots=True)
class WaveReply:
    """Batches sent and received inside the loop so far; `passive`: the subtask holds nothing that could send more."""

    epoch: int
    loop: int
    number: int
    subtask: Subtask
    sent: int
    received: int
    passive: bool


@dataclass(frozen=True, slots=True)
class SlowestSplit:
    """The event time of the split that an alignment group has to wait for in this subtask; None: none."""

    epoch: int
    subtask: Subtask
    slowest_ms: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subtask has found. `value`: JSON, None if there is nothing for the key; `error`: why it can't tell."""

    epoch: int
    number: int
    value: bytes | None
    error: StreamcoreError | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A subtask has committed everything and is closed; `counters` are its last."""

    epoch: int
    subtask: Subtask
    counters: Counters


@dataclass(frozen=True, slots=True)
class Failed:
    """A subtask failed; the attempt can't go on."""

    epoch: int
    subtask: Subtask | None
    error: StreamcoreError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """All subtasks of the attempt have stopped."""

    epoch: int
    worker: int


@dataclass(frozen=True, slots=True)
class Report:
    """A sign of life, with what the subtasks have counted."""

    epoch: int
    worker: int
    counters: dict[Subtask, Counters] = field(default_factory=dict)


ToWorker = (
    Deploy | Connect | Start | Trigger | Complete | Abort | Wave | LoopOver | Drain | Align | Query | Cancel | Shutdown
)
ToCoordinator = (
    Hello
    | Deployed
    | Opened
    | Acknowledge
    | Decline
    | Finished
    | OutsideEnded
    | WaveReply
    | SlowestSplit
    | Answer
    | Closed
    | Failed
    | Cancelled
    | Report
)
