"""The coordinator: runs one job to its end.

One task takes every event from one queue - messages of workers, lost workers, ticks of its own, requests to
stop - and acts on it, so nothing here needs a lock. A run is a sequence of attempts::

    take over (fence) -> [ deploy -> connect -> start -> events ... ] -> finished | stopped
                           ^                                  | failure
                           +------- restart policy: wait <----+
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from streamcore.errors import (
    BadRecordError,
    CheckpointError,
    DamagedCheckpointError,
    FencedError,
    IncompatibleSnapshotError,
    JobFailedError,
    StreamcoreError,
    UsageError,
)
from streamcore.job.checkpoints import Checkpoints
from streamcore.job.config import RunConfig, StopMode
from streamcore.job.drift import DriftWatch
from streamcore.job.links import WorkerLost, Workers
from streamcore.job.loops import LoopWatch
from streamcore.job.placement import place
from streamcore.job.pool import WorkerPool
from streamcore.job.status import JobResult, JobStatus
from streamcore.runtime.elements import Mode
from streamcore.runtime.messages import (
    Abort,
    Acknowledge,
    Cancel,
    Cancelled,
    Closed,
    Complete,
    Connect,
    Decline,
    Deploy,
    Deployed,
    Drain,
    Failed,
    Finished,
    LoopOver,
    Opened,
    OutsideEnded,
    Report,
    Restore,
    SlowestSplit,
    Start,
    Subtask,
    ToCoordinator,
    Trigger,
    WaveReply,
)
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

CANCEL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 60.0

_FINAL_ERRORS = (FencedError, IncompatibleSnapshotError, DamagedCheckpointError, UsageError, BadRecordError)
"""What no restart can mend."""

logger = logging.getLogger("streamcore.job")


TickKind = Literal["checkpoint", "overtake", "timeout", "heartbeat", "wave", "align", "close"]


@dataclass(frozen=True, slots=True)
class _Tick:
    """A moment that the coordinator has set itself."""

    kind: TickKind
    epoch: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class _StopRequest:
    mode: StopMode


_Event = ToCoordinator | WorkerLost | _Tick | _StopRequest


class _AttemptFailedError(Exception):
    """An attempt ended early; `error` says why."""

    def __init__(self, error: StreamcoreError) -> None:
        super().__init__(str(error))
        self.error = error


class Coordinator:
    """Runs one job on some workers."""

    def __init__(self, job: JobSpec, config: RunConfig, workers: Workers, services: Services) -> None:
        self.status = JobStatus(job)
        self._job = job
        self._config = config
        self._services = services
        self._clock = services.clock
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._pool = WorkerPool(workers, services.clock, self._events.put_nowait)
        self._checkpoints: Checkpoints | None = None
        self._epoch = 0
        self._started_s: float | None = None
        self._stop: StopMode | None = None
        self._stopping_id: int | None = None
        self._open: set[Subtask] = set()
        self._unfinished: set[Subtask] = set()
        self._loops = LoopWatch(job, 0)
        self._drift = DriftWatch(job, 0)

    def request_stop(self, mode: StopMode) -> None:
        """Asks for a graceful end: `snapshot` stops at a last checkpoint, `drain` ends the input."""
        self._events.put_nowait(_StopRequest(mode))

    async def run(self) -> JobResult:
        """Runs the job until its input ends, it is stopped, or it fails for good.

        Raises:
            JobFailedError: the restart policy gave up; the error of the last attempt.
            CheckpointError: the snapshot can't be restored, or another run has taken over.
        """
        begun_s = self._clock.monotonic()
        try:
            self._prepare()
            await self._attempts()
            closed_s = self._clock.monotonic()
        finally:
            self.status.state = "ended"
            await self._pool.dismiss_all()
        checkpoints, started_s = self._checkpoints, self._started_s
        assert started_s is not None, "a job has ended that never began"
        return JobResult(
            job=self._job.name,
            records_read=self.status.records_read,
            duration_s=self._clock.monotonic() - begun_s,
            start_s=started_s - begun_s,
            run_s=closed_s - started_s,
            restarts=self.status.restarts,
            checkpoints=self.status.checkpoints,
            stopped=self._stop is not None,
            last_checkpoint=checkpoints.path_of_newest() if checkpoints else None,
        )

    def _prepare(self) -> None:
        if self._config.checkpointing is not None:
            self._checkpoints = Checkpoints(self._job, self._config.checkpointing, self._services, self.status)
            self._checkpoints.find(self._config.restore)
        elif self._config.restore is not None:
            raise UsageError(
                f"there is no checkpointing to restore {self._config.restore!r} with",
                hint="say where checkpoints are kept: checkpoint=Checkpointing(directory), or --checkpoint-dir",
            )
        for vertex in self._job.vertices:
            for spec in vertex.operators:
                if spec.prepare is not None:
                    spec.prepare(self._restore() is not None)
        if self._checkpoints is not None:  # last: a start that was refused leaves the run before as it is
            self._epoch = self._checkpoints.take_over(self._config.restore) - 1

    def _restore(self) -> Restore | None:
        return self._checkpoints.newest if self._checkpoints else None

    async def _attempts(self) -> None:
        policy = self._config.restart_policy()
        while True:
            try:
                await self._attempt()
                return
            except _AttemptFailedError as failure:
                error = failure.error
            delay_s = None if isinstance(error, _FINAL_ERRORS) else policy.delay_s(self._clock.monotonic())
            if delay_s is None:
                raise error  # with the user's own exception as its cause, where it was raised in this process
            self.status.restarts += 1
            self.status.state = "restarting"
            where = self._checkpoints.path_of_newest() if self._checkpoints else None
            logger.warning(
                "attempt failed: %s; restarting in %.1f s from %s",
                error.message, delay_s, where or "the beginning",
                extra={"job": self._job.name, "epoch": self._epoch},
            )  # fmt: skip
            await self._cancel_attempt()
            await self._clock.sleep(delay_s)

    async def _attempt(self) -> None:
        self._epoch += 1
        self.status.epoch, self.status.state = self._epoch, "deploying"
        self.status.counters = {}
        members = self._job.subtasks()
        self._open, self._unfinished = set(members), set(members)
        self._stopping_id = None
        self._loops = LoopWatch(self._job, self._epoch)
        self._drift = DriftWatch(self._job, self._epoch)
        if self._checkpoints is not None:
            self._checkpoints.begin_attempt(self._epoch)
        await self._start_workers()
        self._tick_later("heartbeat", 1.0)
        await self._deploy()
        self.status.state = "running"
        if self._started_s is None:
            self._started_s = self._clock.monotonic()
        if self._checkpoints is not None:
            self._tick_later("checkpoint", self._checkpoints.config.interval)
        self._align_later()
        if self._stop is not None:
            await self._begin_stop()
        while self._open:
            await self._act(await self._events.get())

    async def _start_workers(self) -> None:
        try:
            await self._pool.start_missing()
        except StreamcoreError as error:
            raise _AttemptFailedError(error) from error

    async def _deploy(self) -> None:
        checkpointing, workers = self._config.checkpointing, self._pool.numbers
        placement, storage_url = place(self._job, len(workers)), checkpointing.url if checkpointing else None
        for number in workers:
            deploy = Deploy(self._epoch, self._job, placement, number, storage_url, self._restore())
            self._pool.send(number, deploy)
        await self._await_all(Deployed)
        self._pool.broadcast(Connect(self._epoch, self._pool.addresses))
        await self._await_all(Opened)
        self._pool.broadcast(Start(self._epoch))

    async def _await_all(self, kind: type[Deployed | Opened]) -> None:
        waiting = self._pool.numbers
        while waiting:
            event = await self._events.get()
            if isinstance(event, kind) and event.epoch == self._epoch:
                waiting.discard(event.worker)
            else:
                await self._act(event)

    async def _act(self, event: _Event) -> None:
        match event:
            case WorkerLost():
                self._pool.lose(event.worker)
                raise _AttemptFailedError(JobFailedError(f"worker {event.worker} {event.reason}"))
            case _StopRequest():
                self._stop = event.mode
                if self.status.state == "running":
                    await self._begin_stop()
            case _ if getattr(event, "epoch", self._epoch) != self._epoch:
                pass  # of an attempt that is over
            case Failed():
                raise _AttemptFailedError(event.error)
            case Report():
                self._pool.heard(event.worker)
                self.status.counters.update(event.counters)
            case _Tick():
                await self._on_tick(event)
            case Acknowledge() if self._checkpoints is not None:
                if self._checkpoints.acknowledge(event):
                    await self._complete_checkpoint()
            case Decline():
                self._abort_checkpoint(event.checkpoint_id, event.reason)
            case Finished():
                await self._on_finished(event)
            case OutsideEnded():
                wave = self._loops.outside_ended(event)
                if wave is not None:
                    self._pool.broadcast(wave)
            case WaveReply():
                self._on_wave_reply(event)
            case SlowestSplit():
                self._drift.report(event)
            case Closed():
                self._open.discard(event.subtask)
                self.status.counters[event.subtask] = event.counters

    async def _on_tick(self, tick: _Tick) -> None:
        checkpoints = self._checkpoints
        if tick.kind == "heartbeat":
            await self._check_heartbeats()
        elif tick.kind == "wave":
            self._pool.broadcast(self._loops.wave(tick.number))
        elif tick.kind == "align":
            for message in self._drift.moved():
                self._pool.broadcast(message)
            self._align_later()
        elif tick.kind == "close":
            self._refuse_unclosed()
        elif tick.kind == "timeout" and checkpoints is not None and checkpoints.pending == tick.number:
            waiting = ", ".join(self._name(subtask) for subtask in checkpoints.missing()[:5])
            self._abort_checkpoint(
                tick.number, f"not complete after {checkpoints.config.timeout:g} s; waiting for {waiting}"
            )
        elif tick.kind == "overtake" and checkpoints is not None and checkpoints.pending == tick.number:
            self._pool.broadcast(Trigger(self._epoch, tick.number, mode=Mode.UNALIGNED))
        elif tick.kind == "checkpoint" and checkpoints is not None:
            self._tick_later("checkpoint", checkpoints.config.interval)
            if checkpoints.pending is None and not checkpoints.all_finished and self._stopping_id is None:
                self._begin_checkpoint()

    def _begin_checkpoint(self, *, pause: bool = False) -> int:
        checkpoints = self._checkpoints
        assert checkpoints is not None, "no checkpointing"
        checkpoint_id, config = checkpoints.begin(), checkpoints.config
        mode = Mode.ALIGNED if pause else config.begins
        self._pool.broadcast(Trigger(self._epoch, checkpoint_id, pause, mode))
        self._tick_later("timeout", config.timeout, checkpoint_id)
        if mode is Mode.ALIGNED and config.aligned_timeout is not None and not pause:
            self._tick_later("overtake", config.aligned_timeout, checkpoint_id)
        return checkpoint_id

    async def _complete_checkpoint(self) -> None:
        checkpoints = self._checkpoints
        assert checkpoints is not None, "no checkpointing"
        try:
            checkpoint_id = await checkpoints.complete()
        except (CheckpointError, OSError) as error:
            raise _AttemptFailedError(_as_ours(error)) from error
        final = checkpoint_id == self._stopping_id
        self._pool.broadcast(Complete(self._epoch, checkpoint_id, final))
        if final:
            self._tick_later("close", CLOSE_TIMEOUT_S)
        try:
            await checkpoints.retain()
        except OSError as error:
            logger.warning("old checkpoints can't be deleted: %s", error, extra={"job": self._job.name})
        if self._stop == "snapshot":
            self._begin_last_checkpoint()

    def _abort_checkpoint(self, checkpoint_id: int, reason: str) -> None:
        checkpoints = self._checkpoints
        if checkpoints is None:
            return
        tolerated = checkpoints.abort(checkpoint_id, reason)
        self._pool.broadcast(Abort(self._epoch, checkpoint_id))
        if not tolerated or checkpoint_id == self._stopping_id:
            raise _AttemptFailedError(CheckpointError(f"checkpoint {checkpoint_id} failed: {reason}"))
        if self._stop == "snapshot":
            self._begin_last_checkpoint()

    async def _on_finished(self, finished: Finished) -> None:
        self._unfinished.discard(finished.subtask)
        self._drift.ended(finished.subtask)
        checkpoints = self._checkpoints
        if checkpoints is None:
            if not self._unfinished:
                self._pool.broadcast(Complete(self._epoch, 1 << 62, final=True))
            return
        if checkpoints.finish(finished):
            await self._complete_checkpoint()
        if checkpoints.all_finished:
            if checkpoints.pending is not None:
                self._abort_checkpoint(checkpoints.pending, "all subtasks have finished, and a part of it is missing")
            # what the sinks prepared at their end becomes visible with one last checkpoint
            self._stopping_id = checkpoints.begin()
            await self._complete_checkpoint()

    def _on_wave_reply(self, reply: WaveReply) -> None:
        match self._loops.reply(reply):
            case LoopOver() as over:
                self._pool.broadcast(over)
            case float(pause_s):
                self._tick_later("wave", pause_s, reply.loop)

    async def _begin_stop(self) -> None:
        checkpoints = self._checkpoints
        if self._stop == "drain" or checkpoints is None:
            logger.info("stopping: the input ends here", extra={"job": self._job.name})
            self._pool.broadcast(Drain(self._epoch))
        else:
            logger.info("stopping with a last checkpoint", extra={"job": self._job.name})
            self._begin_last_checkpoint()

    def _begin_last_checkpoint(self) -> None:
        """Unless one is pending: then when that is over."""
        checkpoints = self._checkpoints
        assert checkpoints is not None, "no checkpointing"
        if checkpoints.pending is None and self._stopping_id is None and not checkpoints.all_finished:
            self._stopping_id = self._begin_checkpoint(pause=True)

    def _refuse_unclosed(self) -> None:
        """A subtask that doesn't commit may be stuck in a user's function; its output is not visible."""
        names = ", ".join(self._name(subtask) for subtask in sorted(self._open)[:5])
        raise _AttemptFailedError(
            JobFailedError(
                f"{names} did not commit within {CLOSE_TIMEOUT_S:.0f} s of the last checkpoint",
                hint="the output is prepared: it becomes visible when the job is restored from its last checkpoint",
            )
        )

    async def _check_heartbeats(self) -> None:
        self._tick_later("heartbeat", 1.0)
        silent = self._pool.silent(self._config.heartbeat_timeout)
        if silent is not None:
            await self._pool.dismiss(silent)
            raise _AttemptFailedError(
                JobFailedError(f"worker {silent} has not been heard of for {self._config.heartbeat_timeout:g} s")
            )

    async def _cancel_attempt(self) -> None:
        """Stops the attempt on every worker; one that doesn't answer is replaced."""
        self._pool.broadcast(Cancel(self._epoch))
        waiting = self._pool.numbers
        deadline = self._clock.monotonic() + CANCEL_TIMEOUT_S
        while waiting:
            try:
                async with asyncio.timeout(deadline - self._clock.monotonic()):
                    event = await self._events.get()
            except TimeoutError:
                for number in waiting:
                    await self._pool.dismiss(number)
                return
            if isinstance(event, Cancelled) and event.epoch == self._epoch:
                waiting.discard(event.worker)
            elif isinstance(event, WorkerLost):
                self._pool.lose(event.worker)
                waiting.discard(event.worker)
            elif isinstance(event, _StopRequest):
                self._stop = event.mode

    def _align_later(self) -> None:
        if self._drift.every_s is not None:
            self._tick_later("align", self._drift.every_s)

    def _tick_later(self, kind: TickKind, delay_s: float, number: int = 0) -> None:
        tick = _Tick(kind, self._epoch, number)
        asyncio.get_running_loop().call_later(delay_s, self._events.put_nowait, tick)

    def _name(self, subtask: Subtask) -> str:
        names = {vertex.id: vertex.name for vertex in self._job.vertices}
        return f"{names[subtask[0]]}[{subtask[1]}]"


def _as_ours(error: Exception) -> StreamcoreError:
    return error if isinstance(error, StreamcoreError) else CheckpointError(f"a checkpoint can't be written: {error}")
