"""What source subtasks and operator subtasks share: the mailbox, the snapshot's way out, the end.

The mailbox rule: everything that touches a subtask's state runs in its one asyncio task. Messages of the
coordinator wait in the mailbox until the task looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from streamcore.checkpoint.storage import Storage
from streamcore.errors import StreamcoreError, UsageError
from streamcore.runtime.attention import Attention
from streamcore.runtime.barriers import Barriers
from streamcore.runtime.chain import Chain, RestoredOperator
from streamcore.runtime.counters import Counters
from streamcore.runtime.elements import END_OF_INPUT, Mode
from streamcore.runtime.gate import Gate
from streamcore.runtime.messages import (
    Abort,
    Align,
    Answer,
    Complete,
    Drain,
    Finished,
    LoopOver,
    Query,
    Subtask,
    ToCoordinator,
    Trigger,
    Wave,
)
from streamcore.runtime.output import Outputs
from streamcore.runtime.restore_in_flight import RestoredInFlight
from streamcore.runtime.services import Services
from streamcore.runtime.snapshot_writer import SnapshotWriter
from streamcore.runtime.spec import JobSpec, VertexSpec
from streamcore.runtime.wakeup import Wakeup

Mail = Trigger | Complete | Abort | Wave | LoopOver | Drain | Align | Query


@dataclass(slots=True)
class RestoredSubtask:
    """What a subtask starts from."""

    operators: dict[str, RestoredOperator]
    in_flight: RestoredInFlight
    finished: bool


@dataclass(slots=True)
class SubtaskWiring:
    """A subtask's connections, made by the worker."""

    vertex: VertexSpec
    index: int
    epoch: int
    job: JobSpec
    chain: Chain
    gate: Gate
    outputs: Outputs
    wakeup: Wakeup
    counters: Counters
    attention: Attention
    services: Services
    storage: Storage | None
    send: Callable[[ToCoordinator], None]


class SubtaskTask(ABC):
    """One subtask of one attempt."""

    def __init__(self, wiring: SubtaskWiring) -> None:
        self.wiring = wiring
        self.id: Subtask = (wiring.vertex.id, wiring.index)
        self.epoch = wiring.epoch
        self.chain = wiring.chain
        self.outputs = wiring.outputs
        self.counters = wiring.counters
        self._attention = wiring.attention
        self._is_attentive = wiring.chain.watches_idleness
        self._wakeup = wiring.wakeup
        self._services = wiring.services
        self._clock = wiring.services.clock
        self._send = wiring.send
        self._mail: deque[Mail] = deque()
        self._snapshots = SnapshotWriter(
            wiring.vertex,
            wiring.index,
            wiring.epoch,
            wiring.storage,
            wiring.services,
            wiring.send,
            allow_pickle=wiring.job.settings.allow_pickle,
        )
        self._gate = wiring.gate
        self._alignment = wiring.gate.alignment
        self._barriers = Barriers(
            wiring.job,
            wiring.vertex,
            wiring.index,
            wiring.chain,
            wiring.gate,
            wiring.outputs,
            self._snapshots,
            wiring.services,
        )
        self._done_work = 0
        self._turn_work = wiring.services.work_per_turn
        self._is_slow = False
        self._turn_began = self._turn_waited_s = 0.0
        self._started = 0.0
        self._idle_since: float | None = None
        self._ended = False
        self._closed = False
        wiring.outputs.on_wake = self._act_while_blocked
        if wiring.chain.async_sinks:
            wiring.outputs.is_full = lambda: wiring.chain.is_full

    def post(self, mail: Mail) -> None:
        """Puts a message of the coordinator into the mailbox. A checkpoint that is given up before the subtask has
        looked is not begun: one that can't keep up would else do nothing but capture states that nobody wants."""
        if isinstance(mail, Abort):
            given_up = mail.checkpoint_id
            self._mail = deque(m for m in self._mail if not (isinstance(m, Trigger) and m.checkpoint_id == given_up))
        self._mail.append(mail)
        self._wakeup.notify()

    async def run(self, restored: RestoredSubtask, opened: Callable[[], None], start: asyncio.Event) -> None:
        """The whole life of the subtask. Calls `opened` when its operators are open, and then waits for `start`.

        Raises:
            StreamcoreError: it failed.
        """
        try:
            self.chain.open(restored.operators)
            await self.chain.connect()
            self._snapshots.ended = self.chain.ended
            self._restore(restored.in_flight)
            opened()
            await start.wait()
            self._started = self._turn_began = self._clock.monotonic()
            if restored.finished:
                await self._end(run_finish=False)
            else:
                await self._work()
                if not self._closed:
                    await self._end(run_finish=True)
            while not self._closed:
                await self._read_mail()
                self._check_after_end()
                if not self._closed:
                    await self._idle(None)
            await self.chain.finish_commits()
        except BaseException:
            await self._close()  # what else goes wrong now is not what the user must hear of
            raise
        else:
            errors = await self._close()
            if errors:
                raise errors[0]
        finally:
            self._snapshots.cancel()

    async def _close(self) -> list[Exception]:
        """Closes the operators, whatever the others do; what they raised. To the end, also when it is cancelled: who
        cancels waits for that, and what is left open would go on writing."""
        errors = self.chain.close()
        if not self.chain.works_beside:
            return errors
        closing = asyncio.create_task(self.chain.shut_down())
        while not closing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({closing})
        return [*errors, *closing.result()]

    def measure(self) -> Counters:
        """A copy of the counters, with times up to now: a wait that still lasts counts as far as it has gone."""
        now, watermark_ms = self._clock.monotonic(), self.counters.watermark_ms
        return replace(
            self.counters,
            running_s=now - self._started if self._started else 0.0,
            idle_s=self.counters.idle_s + (now - self._idle_since if self._idle_since is not None else 0.0),
            backpressured_s=self.outputs.waited_until(now),
            latency=self.counters.latency.copy(),
            watermark_lag_s=None if watermark_ms is None else (self._clock.now_ms() - watermark_ms) / 1000,
        )

    @abstractmethod
    async def _work(self) -> None:
        """Runs until all input has ended and been processed."""

    @abstractmethod
    async def _handle(self, mail: Mail) -> None:
        """Acts on mail that isn't about checkpoints."""

    def _restore(self, in_flight: RestoredInFlight) -> None:
        for number, elements in in_flight.inputs:
            self._gate.restore(number, elements)
        for edge, target, elements in in_flight.outputs:
            self.outputs.edges[edge].restore(target, elements)
        for place, batch in in_flight.inside:
            self.chain.receive_inside(batch, place)
        self.outputs.flush()

    async def _read_mail(self) -> None:
        """Acts on the mail, and on barriers that have arrived."""
        self.chain.check_sinks()
        while self._mail:
            mail = self._mail.popleft()
            if isinstance(mail, Complete):
                self._commit(mail)
            elif isinstance(mail, Query):
                self._answer(mail)
            elif self._ended:
                if isinstance(mail, Wave):
                    await self._handle(mail)
            elif isinstance(mail, Abort):
                self._abort(mail)
            elif isinstance(mail, Trigger):
                self._barriers.trigger(mail.checkpoint_id, mail.mode, mail.savepoint)
                await self._perform()
                self._triggered(mail)
            else:
                await self._handle(mail)
        if self._gate.marks and not self._ended:
            self._barriers.heed()
            await self._perform()

    def _triggered(self, trigger: Trigger) -> None:  # noqa: B027 - optional
        """The coordinator has asked for a checkpoint, and what was to be done at once has been."""

    async def _perform(self) -> None:
        """Does what is due about barriers."""
        captured_before = self._barriers.last_captured
        await self._barriers.perform()
        if self._is_slow and self._barriers.last_captured != captured_before:
            await self._services.give_way()  # what was captured is written during the next batch, not after it

    def _commit(self, complete: Complete) -> None:
        self.chain.notify_complete(complete.checkpoint_id)
        self._snapshots.complete(complete.checkpoint_id)
        if complete.final:
            self._closed = True

    def _abort(self, abort: Abort) -> None:
        self._barriers.abort(abort.checkpoint_id)

    def _answer(self, query: Query) -> None:
        value: bytes | None = None
        error: StreamcoreError | None = None
        try:
            value = self.chain.query(query.uid, query.name, query.key)
        except StreamcoreError as reason:
            error = reason
        except Exception as reason:  # noqa: BLE001 - whatever a value's class does: a question never ends a job
            error = UsageError(f"the value can't be shown: {type(reason).__name__}: {reason}")
        self._send(Answer(self.epoch, query.number, value, error))

    def _act_while_blocked(self) -> bool:
        """What must not wait for credit; between two batches the operators are at rest, so this is as good a moment as
        any. Commits: a job that is stopped gives no credit any more. Unaligned checkpoints: that they don't wait
        is their point. Questions: who asks waits."""
        self.chain.check_sinks()
        if not self._mail and not self._gate.marks:
            return not self._closed
        mails, self._mail = self._mail, deque()
        for mail in mails:
            if isinstance(mail, Complete):
                self._commit(mail)
            elif isinstance(mail, Query):
                self._answer(mail)
            elif isinstance(mail, Abort):
                self._abort(mail)
            elif isinstance(mail, Trigger) and mail.mode is Mode.UNALIGNED:
                self._barriers.trigger(mail.checkpoint_id, mail.mode)
            else:
                self._mail.append(mail)
        self._barriers.perform_at_rest()
        return not (self._closed or self._barriers.drains_in_vain)

    def _check_after_end(self) -> None:  # noqa: B027 - only a subtask with inputs has something to look at
        """Looks, each time that something has come after the end, whether it may come."""

    async def _idle(self, deadline: float | None, *, attentive: bool = False) -> None:
        """Sleeps until something has come, or `deadline`; `attentive`: a record would be seen if it came."""
        self._idle_since = started = self._clock.monotonic()
        await self._wakeup.wait(deadline)
        self._idle_since = None
        rested_s = self._clock.monotonic() - started
        self.counters.idle_s += rested_s
        if attentive:
            self._attention.rested(rested_s)

    def _idle_check_at(self) -> float | None:
        """Looks for idle inputs; when to look again, in seconds of the monotonic clock."""
        if not self._is_attentive:
            return None
        left_s = self.chain.check_idle()
        self.outputs.settle()
        return None if left_s is None else self._clock.monotonic() + left_s

    async def _take_turns(self, work: int) -> None:
        """Lets the other subtasks and the connections run after a fair share of work: less if the last took long."""
        self._done_work += 1 + (work >> 10)
        if self._done_work >= self._turn_work:
            services, waited_s = self._services, self._waited_s
            spent_s = self._clock.monotonic() - self._turn_began - (waited_s - self._turn_waited_s)
            fitting = self._done_work * services.turn_s / max(spent_s, 1e-9)
            self._turn_work = max(1, min(round(fitting), 2 * self._turn_work, services.work_per_turn))
            self._done_work = 0
            self._is_slow = spent_s >= services.turn_s
            await (services.give_way() if self._is_slow else asyncio.sleep(0))
            self._turn_began, self._turn_waited_s = self._clock.monotonic(), self._waited_s

    @property
    def _waited_s(self) -> float:
        """Seconds in which this subtask had nothing to do or no credit."""
        return self.counters.idle_s + self.outputs.waited_s

    async def _end(self, *, run_finish: bool) -> None:
        """Emits what is left, captures the last state, ends the outputs and reports."""
        if run_finish:
            self.chain.finish()
            self.outputs.flush()
        self._barriers.is_finished = True
        await self.outputs.drain()
        # a part of every checkpoint that this subtask has not captured before: those with a higher id
        last = self.chain.capture(self._barriers.last_captured + 1, with_state=self.wiring.storage is not None)
        await self.outputs.send_all(END_OF_INPUT)
        entry = await self._snapshots.write_last(last)
        self._ended = True
        self._send(Finished(self.epoch, self.id, entry, self._barriers.last_captured))
