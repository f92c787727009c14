"""The operator interface, what an operator is given, and where it puts its results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from streamcore.batch import Batch
from streamcore.runtime.attention import Attention
from streamcore.runtime.counters import Counters
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.store import KeyedStore
from streamcore.time import Clock

Receiver = Callable[[Batch], None]

Advance = Callable[[int], None]
"""Takes a watermark, milliseconds of event time."""

SetIdle = Callable[[bool], None]
"""Takes whether the stream is idle."""


@dataclass(frozen=True, slots=True)
class SavedOperator:
    """What one old subtask of an operator had in the snapshot outside of keyed state; `finished`: when it had emitted
    its last."""

    subtask: int
    parallelism: int
    state: Any
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """State of an operator that is known only some time after its capture: resolved beside the stream, before the
    snapshot is written. May be resolved more than once, or never."""

    resolve: Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class OperatorContext:
    """The surroundings of one operator in one subtask."""

    name: str
    subtask: int
    parallelism: int
    max_parallelism: int
    epoch: int
    store: KeyedStore
    saved: list[SavedOperator]
    clock: Clock
    wakeup: Wakeup
    counters: Counters
    attention: Attention = field(default_factory=Attention)
    allow_dropped: bool = False
    job: str = "job"
    waiting: Callable[[str | None], None] = lambda _: None
    """Takes the name of a service that can't be reached, None when it can again."""

    # --- state outside of keyed state, at another parallelism: an operator takes it in one of three ways -----------

    def own_share(self) -> list[Any]:
        """Split: the old subtasks' states are dealt out, each to one new subtask. For what must be done once: output
        to commit, calls to make again."""
        return [saved.state for saved in self.saved if saved.subtask % self.parallelism == self.subtask]

    def all_states(self) -> list[Any]:
        """Union: every new subtask gets the states of all old subtasks and takes its part by itself. For what is known
        by a name, such as the offsets of a source's splits, and for what all must agree on: event time is the earliest
        of the old subtasks', whose records may come here now."""
        return [saved.state for saved in self.saved]

    def unfinished_states(self) -> list[Any]:
        """The same without the old subtasks that had finished: for them time had come to its end."""
        return [saved.state for saved in self.saved if not saved.finished]

    def own_copy(self) -> list[Any]:
        """Broadcast: every new subtask gets the state of one old subtask, where all of them had the same; empty, or
        the one."""
        return [saved.state for saved in self.saved if saved.subtask == self.subtask % saved.parallelism]


@dataclass(slots=True)
class Output:
    """The receivers of an operator's main output and of its side outputs, by tag."""

    main: list[Receiver] = field(default_factory=list)
    side: dict[str, list[Receiver]] = field(default_factory=dict)
    watermarks: list[Advance] = field(default_factory=list)
    """All readers of any of the outputs, main or side."""
    idles: list[SetIdle] = field(default_factory=list)
    """The same readers."""

    def emit(self, batch: Batch) -> None:
        """Sends a batch down the chain; an empty one goes nowhere."""
        if len(batch):
            for receive in self.main:
                receive(batch)

    def emit_side(self, tag: str, batch: Batch) -> None:
        """Sends a batch to a side output; without a reader it is dropped, as the user chose not to read it."""
        if len(batch):
            for receive in self.side.get(tag, ()):
                receive(batch)

    def emit_watermark(self, time_ms: int) -> None:
        """Tells every reader how far event time has come."""
        for advance in self.watermarks:
            advance(time_ms)

    def emit_idle(self, idle: bool) -> None:
        """Tells every reader that this stream doesn't hold back time until further notice, or that it does again."""
        for set_idle in self.idles:
            set_idle(idle)


class Operator(ABC):
    """A synchronous, stateful function of batches. Runs in the one task of its subtask: no locks, no awaits.

    Calls come in this order: `open`; then `process`, `advance`, `fire_timers`, `capture`, `notify_complete` in any;
    then `finish` when all input has ended (not after a failure, and not again in a subtask restored as finished);
    `close`.
    """

    context: OperatorContext
    output: Output
    watches_idleness: bool = False
    """Whether the subtask must keep count of its `Attention`, and call `check_idle`."""

    def setup(self, context: OperatorContext, output: Output) -> None:
        """Hands over the surroundings; called before `open`."""
        self.context = context
        self.output = output

    def open(self) -> None:  # noqa: B027 - optional
        """Declares state, restores, opens connections."""

    @abstractmethod
    def process(self, batch: Batch, port: int) -> None:
        """Takes a batch that came in on input `port`, in the form that the operator's spec asks for."""

    def advance(self, time_ms: int) -> None:
        """Event time has come to `time_ms` on all inputs: emits what that completes, then hands the watermark on."""
        self.output.emit_watermark(time_ms)

    def set_idle(self, idle: bool) -> None:
        """All inputs have become idle, after the watermark that came with it, or one has become active, ahead of its
        records: hands it on. An operator that keeps records back keeps this behind them, like a watermark."""
        self.output.emit_idle(idle)

    def check_idle(self) -> float | None:
        """Looks whether records have failed to come for too long; returns in how many seconds of `Attention` it should
        look again, None: not before the next record. Called between two batches."""
        return None

    def before_barrier(self) -> None:  # noqa: B027 - optional
        """Emits what would otherwise have to be state: a barrier is about to go out, `capture` follows."""

    def fire_timers(self, now_ms: int) -> None:  # noqa: B027 - optional
        """Runs the timers that are due."""

    def finish(self) -> None:  # noqa: B027 - optional
        """Emits what is left; all input has ended."""

    def capture(self, checkpoint_id: int) -> Any:
        """Plain data outside of keyed state that belongs to the snapshot; must not change afterwards."""
        return None

    def notify_complete(self, checkpoint_id: int) -> None:  # noqa: B027 - optional
        """The checkpoint, and so every earlier one, is complete."""

    def close(self) -> None:  # noqa: B027 - optional
        """Frees what `open` took; called after failures too."""
