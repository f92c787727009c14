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

from streamcore.errors import (
    BadRecordError,
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
from streamcore.job.events import AttemptFailedError, Event, Request, StopRequest, Tick, TickKind, refuse_left
from streamcore.job.links import WorkerLost, Workers
from streamcore.job.loops import LoopWatch
from streamcore.job.outages import Outages
from streamcore.job.placement import place
from streamcore.job.pool import WorkerPool
from streamcore.job.queries import Queries, QueryExpired, QueryRequest
from streamcore.job.rounds import CLOSE_TIMEOUT_S, SnapshotRounds
from streamcore.job.savepoints import SavepointExpired, SavepointRequest
from streamcore.job.status import JobResult, JobStatus
from streamcore.runtime.messages import (
    Acknowledge,
    Answer,
    Cancel,
    Cancelled,
    Closed,
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
    WaveReply,
)
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

CANCEL_TIMEOUT_S = 10.0

_FINAL_ERRORS = (FencedError, IncompatibleSnapshotError, UsageError, BadRecordError)
"""What no restart can mend."""

logger = logging.getLogger("streamcore.job")


class Coordinator:
    """Runs one job on some workers."""

    def __init__(self, job: JobSpec, config: RunConfig, workers: Workers, services: Services) -> None:
        self.status = JobStatus(job)
        self._job = job
        self._config = config
        self._services = services
        self._clock = services.clock
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._pool = WorkerPool(workers, services.clock, self._events.put_nowait)
        self._checkpoints: Checkpoints | None = None
        self._epoch = 0
        self._started_s: float | None = None
        self._stop: StopMode | None = None
        self._open: set[Subtask] = set()
        self._rounds = self._make_rounds()
        self._queries = Queries()
        self._outages = Outages(services.clock, job.name)
        self._placement: dict[Subtask, int] = {}
        self._is_over = False
        self._loops = LoopWatch(job, 0)
        self._drift = DriftWatch(job, 0)

    def request_stop(self, mode: StopMode) -> None:
        """Asks for a graceful end: `snapshot` stops at a last checkpoint, `drain` ends the input."""
        self.request(StopRequest(mode))

    def request(self, request: StopRequest | SavepointRequest | QueryRequest) -> None:
        """Takes a request, at any time, in the thread of the event loop. What becomes of it: its `outcome`."""
        self._events.put_nowait(request)
        if isinstance(request, SavepointRequest):
            self._expire_later(request.timeout_s, SavepointExpired(request))
        elif isinstance(request, QueryRequest):
            self._expire_later(request.timeout_s, QueryExpired(request))
        if self._is_over:
            refuse_left(self._events, self._queries)

    @property
    def newest(self) -> Restore | None:
        """The last complete checkpoint; may be asked for in any thread."""
        return self._checkpoints.newest if self._checkpoints else None

    @property
    def path_of_newest(self) -> str | None:
        """Where that is, as `--restore` takes it."""
        return self._checkpoints.path_of_newest() if self._checkpoints else None

    @property
    def checkpoint_url(self) -> str | None:
        """Where the job keeps its checkpoints."""
        return self._config.checkpointing.url if self._config.checkpointing is not None else None

    async def run(self) -> JobResult:
        """Runs the job until its input ends, it is stopped, or it fails for good.

        Raises:
            JobFailedError: the restart policy gave up; the error of the last attempt.
            CheckpointError: the snapshot can't be restored, or another run has taken over.
        """
        begun_s = self._clock.monotonic()
        error: BaseException | None = None
        try:
            self._prepare()
            await self._attempts()
            closed_s = self._clock.monotonic()
        except BaseException as reason:
            error = reason
            raise
        finally:
            self.status.state = "ended"
            await self._pool.dismiss_all()
            self._is_over = True
            refuse_left(self._events, self._queries)
            self._rounds.end(error)
        started_s = self._started_s
        assert started_s is not None, "a job has ended that never began"
        return JobResult(
            job=self._job.name,
            records_read=self.status.records_read,
            duration_s=self._clock.monotonic() - begun_s,
            start_s=started_s - begun_s,
            run_s=closed_s - started_s,
            restarts=self.status.restarts,
            checkpoints=self.status.checkpoints,
            stopped=self._stop is not None or self._rounds.stopped_at is not None,
            last_checkpoint=self.path_of_newest,
            savepoint=self._rounds.savepoint,
        )

    def _prepare(self) -> None:
        if self._config.checkpointing is not None:
            self._checkpoints = Checkpoints(
                self._job,
                self._config.checkpointing,
                self._services,
                allow_dropped=self._config.allow_dropped_state,
            )
            self._checkpoints.find(self._config.restore)
        elif self._config.restore is not None:
            raise UsageError(
                f"there is no checkpointing to restore {self._config.restore!r} with",
                hint="say where checkpoints are kept: checkpoint=Checkpointing(directory), or --checkpoint-dir",
            )
        start = self._config.job_start(self._job.name, restored=self._restore() is not None)
        for vertex in self._job.vertices:
            for spec in vertex.operators:
                if spec.prepare is not None:
                    spec.prepare(start)
        self._rounds = self._make_rounds()
        if self._checkpoints is not None:  # last: a start that was refused leaves the run before as it is
            self._epoch = self._checkpoints.take_over(self._config.restore) - 1

    def _restore(self) -> Restore | None:
        return self._rounds.stopped_at or self.newest

    def _make_rounds(self) -> SnapshotRounds:
        return SnapshotRounds(self.status, self._checkpoints, self._services, self._pool.broadcast, self._tick_later)

    async def _attempts(self) -> None:
        policy = self._config.restart_policy()
        while True:
            try:
                await self._attempt()
                return
            except AttemptFailedError as failure:
                error = failure.error
            self._queries.end_attempt()
            self._rounds.end_attempt(error)
            if isinstance(error, DamagedCheckpointError) and self._checkpoints is not None:
                await self._checkpoints.fall_back(error)
            elif isinstance(error, _FINAL_ERRORS):
                raise error
            delay_s = policy.delay_s(self._clock.monotonic())
            if delay_s is None:
                raise error  # with the user's own exception as its cause, where it was raised in this process
            self.status.restarts += 1
            self.status.state = "restarting"
            logger.warning(
                "attempt failed: %s; restarting in %.1f s from %s",
                error.message, delay_s, self.path_of_newest or "the beginning",
                extra={"job": self._job.name, "epoch": self._epoch},
            )  # fmt: skip
            await self._cancel_attempt()
            await self._clock.sleep(delay_s)

    async def _attempt(self) -> None:
        self._epoch += 1
        self.status.epoch, self.status.state = self._epoch, "deploying"
        self.status.counters = {}
        self._open = set(self._job.subtasks())
        self._loops = LoopWatch(self._job, self._epoch)
        self._drift = DriftWatch(self._job, self._epoch)
        self._rounds.begin_attempt(self._epoch)
        await self._start_workers()
        self._tick_later("heartbeat", 1.0)
        await self._deploy()
        if self._rounds.stopped_at is not None:
            return  # the sinks have committed what was prepared when they were opened, and the job was to end there
        self._pool.broadcast(Start(self._epoch))
        self.status.state = "running"
        if self._started_s is None:
            self._started_s = self._clock.monotonic()
        self._queries.start(self._epoch, lambda subtask, query: self._pool.send(self._placement[subtask], query))
        await self._rounds.start()
        self._align_later()
        if self._stop is not None:
            await self._begin_stop()
        while self._open:
            await self._act(await self._events.get())

    async def _start_workers(self) -> None:
        try:
            await self._pool.start_missing()
        except StreamcoreError as error:
            raise AttemptFailedError(error) from error

    async def _deploy(self) -> None:
        workers = self._pool.numbers
        self._placement = place(self._job, len(workers))
        for number in workers:
            deploy = Deploy(self._epoch, self._job, self._placement, number, self.checkpoint_url, self._restore())
            self._pool.send(number, deploy)
        await self._await_all(Deployed)
        self._pool.broadcast(Connect(self._epoch, self._pool.addresses))
        await self._await_all(Opened)

    async def _await_all(self, kind: type[Deployed | Opened]) -> None:
        waiting = self._pool.numbers
        while waiting:
            event = await self._events.get()
            if isinstance(event, kind) and event.epoch == self._epoch:
                waiting.discard(event.worker)
            else:
                await self._act(event)

    async def _act(self, event: Event) -> None:
        match event:
            case WorkerLost():
                self._pool.lose(event.worker)
                raise AttemptFailedError(JobFailedError(f"worker {event.worker} {event.reason}"))
            case StopRequest() | SavepointRequest() | SavepointExpired() | QueryRequest() | QueryExpired():
                await self._on_request(event)
            case _ if getattr(event, "epoch", self._epoch) != self._epoch:
                pass  # of an attempt that is over
            case Failed():
                raise AttemptFailedError(event.error)
            case Report():
                self._pool.heard(event.worker)
                self.status.counters.update(event.counters)
                self._outages.look(self.status.counters.values())
            case Tick():
                await self._on_tick(event)
            case Acknowledge():
                await self._rounds.acknowledge(event)
            case Decline():
                await self._rounds.decline(event)
            case Finished():
                self._drift.ended(event.subtask)
                await self._rounds.finish(event)
            case OutsideEnded():
                wave = self._loops.outside_ended(event)
                if wave is not None:
                    self._pool.broadcast(wave)
            case WaveReply():
                self._on_wave_reply(event)
            case SlowestSplit():
                self._drift.report(event)
            case Answer():
                self._queries.answer(event)
            case Closed():
                self._open.discard(event.subtask)
                self.status.counters[event.subtask] = event.counters

    async def _on_tick(self, tick: Tick) -> None:
        match tick.kind:
            case "heartbeat":
                await self._check_heartbeats()
            case "wave":
                self._pool.broadcast(self._loops.wave(tick.number))
            case "align":
                for message in self._drift.moved():
                    self._pool.broadcast(message)
                self._align_later()
            case "close":
                self._refuse_unclosed()
            case "overtake":
                self._rounds.overtake(tick)
            case "timeout":
                await self._rounds.on_timeout(tick)
            case "checkpoint":
                await self._rounds.on_interval()

    async def _on_request(self, request: Request) -> None:
        match request:
            case StopRequest():
                self._stop = request.mode
                if self.status.state == "running":
                    await self._begin_stop()
            case SavepointRequest():
                await self._rounds.request(request)
            case SavepointExpired():
                await self._rounds.expire(request.request)
            case QueryRequest():
                self._queries.request(request)
            case QueryExpired():
                self._queries.expire(request.request, self.status.state)

    def _on_wave_reply(self, reply: WaveReply) -> None:
        match self._loops.reply(reply):
            case LoopOver() as over:
                self._pool.broadcast(over)
            case float(pause_s):
                self._tick_later("wave", pause_s, reply.loop)

    async def _begin_stop(self) -> None:
        if self._stop == "drain" or not await self._rounds.begin_last():
            logger.info("stopping: the input ends here", extra={"job": self._job.name})
            self._pool.broadcast(Drain(self._epoch))
        else:
            logger.info("stopping with a last checkpoint", extra={"job": self._job.name})

    def _refuse_unclosed(self) -> None:
        """A subtask that doesn't commit may be stuck in a user's function; its output is not visible."""
        names = ", ".join(self._job.name_of(subtask) for subtask in sorted(self._open)[:5])
        raise AttemptFailedError(
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
            raise AttemptFailedError(
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
            elif isinstance(event, Request):
                await self._on_request(event)

    def _align_later(self) -> None:
        if self._drift.every_s is not None:
            self._tick_later("align", self._drift.every_s)

    def _tick_later(self, kind: TickKind, delay_s: float, number: int = 0) -> None:
        tick = Tick(kind, self._epoch, number)
        asyncio.get_running_loop().call_later(delay_s, self._events.put_nowait, tick)

    def _expire_later(self, delay_s: float, event: SavepointExpired | QueryExpired) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._events.put_nowait, event)
