"""The rounds of snapshots: when one is begun, what becomes of it, and the last one that ends a job.

One snapshot is taken at a time, the others wait for their turn: what is decided is what to begin and what to tell the
workers. Checkpoints and savepoints share one sequence of numbers::

    interval          --> Trigger --> every part written --> manifest --> Complete: sinks commit --> retention
                              \\---> declined, timed out --> Abort
    stop              --> Trigger(pause) --> ... --> manifest --> Complete(final): commit and close
    savepoint         --> Trigger(savepoint) --> every part written, to a place of its own
                          --> a checkpoint, as above --> the savepoint's manifest
    savepoint to stop --> Trigger(savepoint, pause) --> every part written, there and in the checkpoint directory
                          --> manifest --> the savepoint's manifest --> Complete(final)

A savepoint commits nothing, for the job may be restored from an older checkpoint (as in Apache Flink, FLIP-203): what
the sinks prepared for it is committed with the next checkpoint. Until there is one, a restart would throw that output
away, which whoever restores the savepoint counts on; so one is begun at once, and the savepoint isn't complete before
it is. One that ends the job does commit; so it is a checkpoint as well, and `--restore latest` can't fall behind it.
Where no checkpoints are taken, what is prepared is committed at the end, and a savepoint is complete by itself.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamcore.checkpoint.ledger import Ledger
from streamcore.checkpoint.log import Entry
from streamcore.checkpoint.pacing import earliest_start
from streamcore.errors import CheckpointError, JobFailedError, StreamcoreError
from streamcore.job.checkpoints import Checkpoints, make_manifest
from streamcore.job.events import AttemptFailedError, Tick, TickKind
from streamcore.job.savepoints import SavepointRequest, Savepoints
from streamcore.job.status import CheckpointStats, JobStatus
from streamcore.runtime.elements import Mode
from streamcore.runtime.messages import (
    Abort,
    Acknowledge,
    Complete,
    Decline,
    Finished,
    Restore,
    ToWorker,
    Trigger,
)
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger("streamcore.job")


class TickLater(Protocol):
    """Sets a moment for the attempt that runs."""

    def __call__(self, kind: TickKind, delay_s: float, number: int = 0) -> None: ...


@dataclass(slots=True)
class _Round:
    """The snapshot that is being taken. `is_last`: the job ends with it."""

    checkpoint_id: int
    begun_s: float
    is_last: bool
    request: SavepointRequest | None
    alignment_s: float = 0.0
    pause_s: float = 0.0
    in_flight_bytes: int = 0


class SnapshotRounds:
    """The snapshots of one attempt after the other, each begun, completed or given up here."""

    def __init__(
        self,
        status: JobStatus,
        checkpoints: Checkpoints | None,
        services: Services,
        broadcast: Callable[[ToWorker], None],
        tick_later: TickLater,
    ) -> None:
        self._job: JobSpec = status.job
        self._status = status
        self._checkpoints = checkpoints
        self._services = services
        self._clock = services.clock
        self._broadcast = broadcast
        self._tick_later = tick_later
        self._ids = itertools.count(1)
        self._ledger = Ledger([], 0)
        self._round: _Round | None = None
        self._savepoints = Savepoints(status, services, checkpoints.storage if checkpoints is not None else None)
        self._running = self._stopping = self._ending = self._is_due = False
        self._rest_until_s = 0.0
        self.stopped_at: Restore | None = None
        """The snapshot that a stop has ended the job with. All that is left is to commit, which opening it does too."""
        self._closing: tuple[SavepointRequest, Entry] | None = None

    @property
    def savepoint(self) -> str | None:
        """The savepoint that the job was stopped with."""
        return self._closing[0].url if self._closing is not None else None

    @property
    def _epoch(self) -> int:
        return self._ledger.epoch

    def begin_attempt(self, epoch: int) -> None:
        """A new attempt is deployed; nothing is pending."""
        self._ledger = Ledger(self._job.subtasks(), epoch)
        self._running = self._stopping = self._ending = self._is_due = False
        self._rest_until_s = 0.0
        if self._checkpoints is not None:
            self._checkpoints.begin_attempt()

    async def start(self) -> None:
        """The attempt runs."""
        self._running = True
        if self._checkpoints is not None:
            self._tick_later("checkpoint", self._checkpoints.config.interval)
        await self._begin_next()

    def end_attempt(self, error: StreamcoreError) -> None:
        """The attempt has failed; a savepoint that was being taken with it."""
        self._running = False
        round_, self._round = self._round, None
        if round_ is not None and round_.request is not None:
            self._savepoints.refuse(round_.request, f"the job failed meanwhile: {error.message}")
        self._savepoints.drop_held(f"the job failed before a checkpoint had followed it: {error.message}")

    def end(self, error: BaseException | None) -> None:
        """The job is over, by `error` if there is one; who still waits for a savepoint waits in vain."""
        if self._closing is not None:
            request, manifest = self._closing
            request.end(manifest, error)
        self.end_attempt(JobFailedError("it has ended"))
        self._savepoints.refuse_all("the job has ended")

    async def on_interval(self) -> None:
        """It is time for a checkpoint; it waits while a savepoint is taken, and after a checkpoint for as long as the
        configuration says, and is left out while a checkpoint is."""
        checkpoints = self._checkpoints
        assert checkpoints is not None, "an interval without checkpointing"
        rest_s = self._rest_until_s - self._clock.monotonic()
        if rest_s > 0:
            self._tick_later("checkpoint", rest_s)
            return
        self._tick_later("checkpoint", checkpoints.config.interval)
        self._is_due = self._round is None or self._round.request is not None
        await self._begin_next()

    async def on_timeout(self, tick: Tick) -> None:
        """A checkpoint has had all its time."""
        checkpoints = self._checkpoints
        if checkpoints is not None and self._ledger.pending == tick.number:
            await self._abort_checkpoint(tick.number, self._overdue(checkpoints.config.timeout))

    def overtake(self, tick: Tick) -> None:
        """A checkpoint has waited for aligned barriers long enough."""
        if self._ledger.pending == tick.number:
            self._broadcast(Trigger(self._epoch, tick.number, mode=Mode.UNALIGNED))

    async def begin_last(self) -> bool:
        """Stops the job at a last checkpoint: now, or when what is pending is over. False: it takes no checkpoints."""
        self._stopping = True
        await self._begin_next()
        return self._checkpoints is not None

    async def request(self, request: SavepointRequest) -> None:
        """Somebody asks for a savepoint; it is begun now, or when its turn comes."""
        self._savepoints.add(request)
        await self._begin_next()

    async def expire(self, request: SavepointRequest) -> None:
        """A savepoint has had all its time."""
        if self._round is not None and self._round.request is request:
            await self._fail_savepoint(self._overdue(request.timeout_s))
        else:
            self._savepoints.expire(request)

    async def acknowledge(self, ack: Acknowledge) -> None:
        """A subtask has written its part."""
        round_ = self._round
        is_complete = self._ledger.acknowledge(ack.epoch, ack.checkpoint_id, ack.subtask, ack.entry)
        if round_ is not None and ack.checkpoint_id == round_.checkpoint_id:
            round_.alignment_s = max(round_.alignment_s, ack.alignment_s)
            round_.pause_s = max(round_.pause_s, ack.pause_s)
            round_.in_flight_bytes += ack.in_flight_bytes
            self._show_progress(round_)
        if is_complete:
            await self._complete()

    async def decline(self, decline: Decline) -> None:
        """A subtask couldn't write its part."""
        if self._round is not None and self._round.request is not None:
            if decline.checkpoint_id == self._round.checkpoint_id:
                await self._fail_savepoint(decline.reason)
        else:
            await self._abort_checkpoint(decline.checkpoint_id, decline.reason)

    async def finish(self, finished: Finished) -> None:
        """A subtask has finished; after the last one, what the sinks prepared at their end becomes visible."""
        is_complete = self._ledger.finish(finished.epoch, finished.subtask, finished.entry, finished.captured)
        if self._round is not None:
            self._show_progress(self._round)
        if is_complete:
            await self._complete()
        elif self._round is not None and self._ledger.all_finished:
            await self._give_up("all subtasks have finished, and a part of it is missing")
        await self._begin_next()

    async def _give_up(self, reason: str) -> None:
        """What is pending can't become complete."""
        assert self._round is not None, "no snapshot is pending"
        if self._round.request is not None:
            await self._fail_savepoint(reason)
        else:
            await self._abort_checkpoint(self._round.checkpoint_id, reason)

    def _rest(self, round_: _Round) -> None:
        """A checkpoint is over."""
        if round_.request is None and self._checkpoints is not None:
            config, now = self._checkpoints.config, self._clock.monotonic()
            self._rest_until_s = earliest_start(round_.begun_s, now, config.interval, config.min_pause)

    async def _begin_next(self) -> None:
        """Begins what has to be done next, unless something is pending or the job is ending."""
        if not self._running or self._round is not None or self._ending:
            return
        if self._ledger.all_finished:
            if self._checkpoints is not None:
                self._begin(is_last=True)
                await self._complete()
            else:
                self._ending = True
                self._broadcast(Complete(self._epoch, 1 << 62, final=True))
        elif self._stopping and self._checkpoints is not None:
            self._take(is_last=True)
        elif self._is_due:
            self._take()
        elif (request := self._savepoints.next()) is not None:
            self._take(request)

    def _take(self, request: SavepointRequest | None = None, *, is_last: bool = False) -> None:
        """Begins a round and tells the workers."""
        is_last = is_last or (request is not None and request.stop)
        config = self._checkpoints.config if self._checkpoints is not None else None
        mode = config.begins if config is not None and request is None and not is_last else Mode.ALIGNED
        round_ = self._begin(request, is_last=is_last)
        target = request.target if request is not None else None
        self._broadcast(Trigger(self._epoch, round_.checkpoint_id, is_last, mode, target))
        if request is not None:
            request.state = "running"
            self._show_progress(round_)
            logger.info(
                "savepoint begun: %s", request.url, extra={"job": self._job.name, "checkpoint": round_.checkpoint_id}
            )
        elif config is not None:
            self._tick_later("timeout", config.timeout, round_.checkpoint_id)
            if mode is Mode.ALIGNED and config.aligned_timeout is not None and not is_last:
                self._tick_later("overtake", config.aligned_timeout, round_.checkpoint_id)

    def _begin(self, request: SavepointRequest | None = None, *, is_last: bool = False) -> _Round:
        checkpoint_id = self._checkpoints.next_id() if self._checkpoints is not None else next(self._ids)
        self._ledger.begin(checkpoint_id)
        self._round = _Round(checkpoint_id, self._clock.monotonic(), is_last, request)
        self._ending = is_last
        if request is None:
            self._is_due = False
        return self._round

    async def _complete(self) -> None:
        """Every part of the pending snapshot has been written: writes its manifest, and tells who has to know."""
        round_, checkpoints = self._round, self._checkpoints
        assert round_ is not None, "no snapshot is pending"
        parts = self._ledger.complete()
        manifest = make_manifest(
            self._job,
            run=checkpoints.run if checkpoints is not None else 1,
            epoch=self._epoch,
            checkpoint_id=round_.checkpoint_id,
            created_ms=self._clock.now_ms(),
            parts=parts,
        )
        request, is_last = round_.request, round_.is_last
        lost = self._ledger.lost() if request is not None else []
        if lost:
            names = ", ".join(self._job.name_of(subtask) for subtask in lost[:5])
            await self._fail_savepoint(f"{names} ended before it, and without checkpoints nothing was kept of them")
            return
        if checkpoints is not None and (request is None or is_last):
            await self._complete_checkpoint(checkpoints, round_, manifest)
        if request is not None and (checkpoints is None or is_last):
            reason = await self._savepoints.complete(request, manifest)
            if reason is not None:
                if is_last and checkpoints is not None:  # for the checkpoint that it was as well
                    self._broadcast(Complete(self._epoch, round_.checkpoint_id))
                await self._fail_savepoint(reason)
                return
        elif request is not None:
            self._savepoints.hold(request, manifest)
            self._is_due = True
        self._round = None
        self._rest(round_)
        if request is None or is_last:
            self._broadcast(Complete(self._epoch, round_.checkpoint_id, final=is_last))
        if is_last:
            self._end_with(request, manifest)
        elif request is not None and checkpoints is None:
            request.succeed(manifest)
        if checkpoints is not None and (request is None or is_last):
            await self._savepoints.release()
            await self._retain(checkpoints)
        await self._begin_next()

    def _end_with(self, request: SavepointRequest | None, manifest: Entry) -> None:
        """The job ends with this snapshot, once everybody has committed."""
        self._tick_later("close", CLOSE_TIMEOUT_S)
        if request is not None:
            self.stopped_at, self._closing = Restore(request.url, manifest), (request, manifest)
        elif self._stopping and self._checkpoints is not None:
            self.stopped_at = self._checkpoints.newest

    async def _complete_checkpoint(self, checkpoints: Checkpoints, round_: _Round, manifest: Entry) -> None:
        try:
            await checkpoints.write(manifest)
        except (CheckpointError, OSError) as error:
            raise AttemptFailedError(_as_ours(error)) from error
        duration_s = self._clock.monotonic() - round_.begun_s
        stats = CheckpointStats(
            round_.checkpoint_id,
            duration_s,
            manifest.size_bytes,
            round_.alignment_s,
            round_.pause_s,
            round_.in_flight_bytes,
        )
        self._status.checkpoints += 1
        self._status.last_checkpoint = stats
        logger.info(
            "checkpoint complete: %.0f ms, %d bytes, %d of them in flight, alignment %.0f ms, pause %.1f ms",
            stats.duration_s * 1e3, stats.size_bytes, stats.in_flight_bytes, stats.alignment_s * 1e3,
            stats.pause_s * 1e3,
            extra={"job": self._job.name, "checkpoint": round_.checkpoint_id},
        )  # fmt: skip

    async def _retain(self, checkpoints: Checkpoints) -> None:
        try:
            await checkpoints.retain(self._epoch)
        except OSError as error:
            logger.warning("old checkpoints can't be deleted: %s", error, extra={"job": self._job.name})

    async def _abort_checkpoint(self, checkpoint_id: int, reason: str) -> None:
        checkpoints = self._checkpoints
        if checkpoints is None or not self._ledger.abort(checkpoint_id):
            return
        round_, self._round = self._round, None
        assert round_ is not None, "a checkpoint was pending in no round"
        self._rest(round_)
        self._status.checkpoint_failures += 1
        logger.warning("checkpoint failed: %s", reason, extra={"job": self._job.name, "checkpoint": checkpoint_id})
        self._broadcast(Abort(self._epoch, checkpoint_id))
        # what can't be complete because a service is away, to which a sink has to write, is no reason to start again
        tolerated = self._status.is_waiting or checkpoints.count_failure()
        if not tolerated or round_.is_last:
            raise AttemptFailedError(CheckpointError(f"checkpoint {checkpoint_id} failed: {reason}"))
        await self._begin_next()

    async def _fail_savepoint(self, reason: str) -> None:
        """Gives the pending savepoint up; the job goes on as if it had not been asked for."""
        round_, self._round = self._round, None
        assert round_ is not None, "no savepoint is pending"
        assert round_.request is not None, "it is a checkpoint that is pending"
        self._ledger.abort(round_.checkpoint_id)
        self._ending = False
        self._broadcast(Abort(self._epoch, round_.checkpoint_id))
        self._savepoints.refuse(round_.request, reason)
        await self._begin_next()

    def _show_progress(self, round_: _Round) -> None:
        if round_.request is not None and not round_.request.is_over:
            parts = len(self._job.subtasks())
            round_.request.parts, round_.request.written = parts, parts - len(self._ledger.missing())

    def _overdue(self, seconds: float) -> str:
        waiting = ", ".join(self._job.name_of(subtask) for subtask in self._ledger.missing()[:5])
        return f"not complete after {seconds:g} s; waiting for {waiting}"


def _as_ours(error: Exception) -> StreamcoreError:
    return error if isinstance(error, StreamcoreError) else CheckpointError(f"a checkpoint can't be written: {error}")
