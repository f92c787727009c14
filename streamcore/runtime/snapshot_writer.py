"""What a subtask does beside its stream for a checkpoint: copies captured state, writes it, acknowledges it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from streamcore.checkpoint.images import KnownTables, Tables, make_portable, write_images
from streamcore.checkpoint.in_flight import InFlight
from streamcore.checkpoint.log import SubtaskEntry, finished_path, state_path
from streamcore.checkpoint.parts import Increments, write_part
from streamcore.checkpoint.savepoint import check_wanted, copy_files
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import FileRef, Storage
from streamcore.errors import CheckpointError
from streamcore.runtime.elements import Savepoint
from streamcore.runtime.messages import Acknowledge, Decline, Subtask, ToCoordinator
from streamcore.runtime.operator import Pending
from streamcore.runtime.services import Services
from streamcore.runtime.spec import VertexSpec
from streamcore.state.capture import Capture

T = TypeVar("T")

InFlightSoon = Callable[[], Awaitable[InFlight | None]]
"""Gives what was in flight when all of it has been saved; None: the checkpoint was given up."""

Captured = dict[str, OperatorSnapshot]
"""Uid → what its operator captured."""


@dataclass(frozen=True, slots=True)
class _Copying:
    """What was captured for a checkpoint, `base` on, and the task that copies it; it returns the longest stop."""

    checkpoint_id: int
    captured: Captured
    base: int | None
    task: asyncio.Task[float]

    @property
    def captures(self) -> list[Capture]:
        return [capture for operator in self.captured.values() for capture in operator.captures]


@dataclass(frozen=True, slots=True)
class _Written:
    """The files of a part: its state file, its chain of table files, those of state in RocksDB."""

    file: FileRef
    tables: list[FileRef]
    shared: Tables

    @property
    def files(self) -> list[FileRef]:
        return [self.file, *self.tables, *self.shared.values()]


class SnapshotWriter:
    """The snapshots of one subtask on their way to storage. `begin` when the barrier has gone out, then `write` when
    the records in flight are known too.

    One is written at a time: where storage is slow, the next one waits. One that is given up is dropped as soon as it
    isn't being written any more, so there are never more than two in memory, however many have been given up.
    """

    def __init__(
        self,
        vertex: VertexSpec,
        index: int,
        epoch: int,
        storage: Storage | None,
        services: Services,
        send: Callable[[ToCoordinator], None],
        *,
        allow_pickle: bool,
    ) -> None:
        self._vertex = vertex
        self._id: Subtask = (vertex.id, index)
        self._epoch = epoch
        self._storage = storage
        self._services = services
        self._clock = services.clock
        self._send = send
        self._allow_pickle = allow_pickle
        self.ended: list[str] = []
        """The operators that had emitted their last in the snapshot which the subtask was restored from."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._increments = Increments()
        self._known = KnownTables()
        self._savepoint: tuple[int, Savepoint] | None = None
        self._copying: _Copying | None = None
        self._writing = asyncio.Lock()
        self._given_up = 0  # snapshots up to this number that aren't complete
        self._resolving: dict[int, asyncio.Task[Captured]] = {}

    def announce(self, checkpoint_id: int, savepoint: Savepoint | None) -> None:
        """Tells, before the state is captured, what the snapshot is for."""
        if savepoint is not None:
            self._savepoint = checkpoint_id, savepoint

    def savepoint(self, checkpoint_id: int) -> Savepoint | None:
        """The savepoint that has this number; None: it is a checkpoint."""
        known = self._savepoint
        return known[1] if known is not None and known[0] == checkpoint_id else None

    def base(self, checkpoint_id: int) -> int | None:
        """The checkpoint that the capture for `checkpoint_id` may build on; None: none, as for every savepoint."""
        return self._increments.base if self.savepoint(checkpoint_id) is None else None

    def begin(self, checkpoint_id: int, captured: Captured, base: int | None) -> None:
        """Begins to copy what was captured `base` on, between the batches of the stream."""
        self._copying = _Copying(checkpoint_id, captured, base, self._beside(self._copy(captured)))

    def write(
        self,
        checkpoint_id: int,
        captured: Captured,
        in_flight: InFlightSoon,
        alignment_s: float,
        pause_s: float,
        *,
        finished: bool,
    ) -> None:
        """Writes the subtask's part of a checkpoint, then acknowledges it, or tells why it can't. `finished`: its
        operators have finished, and only what is in flight is left to do."""
        copying = self._copying
        assert copying is not None, "a snapshot is written that was not captured"
        assert copying.checkpoint_id == checkpoint_id, "a snapshot is written that was not captured last"
        self._beside(self._write_and_acknowledge(copying, in_flight, alignment_s, pause_s, finished=finished))

    async def write_last(self, captured: Captured) -> SubtaskEntry | None:
        """Writes the last state, which stands for the subtask in every later checkpoint; None without storage.

        Raises:
            CheckpointError: it can't be written.
        """
        if self._tasks:
            await asyncio.wait(self._tasks)  # an acknowledgement after `Finished` would come too late to count
        await self._copy(captured)
        captured = await _resolved(captured)
        if self._storage is None:
            return None
        path = finished_path(*self._id, self._epoch)
        try:
            written = await self._services.in_background(lambda: self._store(path, captured, InFlight(), [], {}))
        except OSError as error:
            place = f"{self._storage.url}/{path}"
            raise CheckpointError(f"the last state can't be written to {place}: {error.strerror}") from error
        return self._entry(written, finished=True)

    def complete(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        self._increments.complete(checkpoint_id)
        self._known.complete(checkpoint_id)

    def abort(self, checkpoint_id: int) -> None:
        """A checkpoint won't be complete: what was captured for it is not encoded any further, nor written."""
        self._increments.forget(checkpoint_id)
        self._known.forget(checkpoint_id)
        self._given_up = max(self._given_up, checkpoint_id)
        copying = self._copying
        if copying is not None and copying.checkpoint_id == checkpoint_id and not copying.task.done():
            for capture in copying.captures:
                capture.abandon()
        for number, resolving in self._resolving.items():
            if number <= checkpoint_id:
                resolving.cancel()

    def cancel(self) -> None:
        """Stops what is under way."""
        for task in self._tasks:
            task.cancel()

    def _beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _copy(self, captured: Captured) -> float:
        """Copies the state that was captured, a little at a time between batches, for which this task runs
        on the same loop as the subtask's; returns the longest stop in seconds."""
        longest_s = 0.0
        for operator in captured.values():
            for table in operator.captures:
                started = self._clock.monotonic()
                while not table.done:
                    table.step()
                    spent_s = self._clock.monotonic() - started
                    longest_s = max(longest_s, spent_s)
                    if spent_s >= self._services.copying_turn_s:
                        await asyncio.sleep(0)
                        started = self._clock.monotonic()
        return longest_s

    async def _write_and_acknowledge(
        self,
        copying: _Copying,
        in_flight: InFlightSoon,
        alignment_s: float,
        pause_s: float,
        *,
        finished: bool,
    ) -> None:
        checkpoint_id, captured = copying.checkpoint_id, copying.captured
        path = state_path(checkpoint_id, *self._id, self._epoch)
        savepoint, files = self.savepoint(checkpoint_id), self._increments.files(copying.base)
        try:
            saved = await in_flight()
            pause_s = max(pause_s, await copying.task)
            if saved is None:
                return
            resolved = await self._resolve(checkpoint_id, captured)
            if resolved is None:
                return
            captured = resolved
            async with self._writing:
                if checkpoint_id <= self._given_up:
                    return
                known = self._known.now()
                written = await self._services.in_background(
                    lambda: self._store(path, captured, saved, files, known, savepoint)
                )
                if checkpoint_id <= self._given_up:  # meanwhile: what others left has been deleted by now
                    await self._services.in_background(lambda: self._discard(written, savepoint))
                    return
        except Exception as error:  # noqa: BLE001 - whatever it was, this part can't be written
            self._send(Decline(self._epoch, checkpoint_id, self._id, str(error) or type(error).__name__))
            return
        finally:
            for capture in copying.captures:
                capture.release()
        if savepoint is None:
            self._increments.wrote(checkpoint_id, written.tables)
            self._known.wrote(checkpoint_id, written.shared)
        entry = self._entry(written, finished=finished)
        in_flight_bytes = saved.size_bytes
        self._send(Acknowledge(self._epoch, checkpoint_id, self._id, entry, alignment_s, pause_s, in_flight_bytes))

    async def _resolve(self, checkpoint_id: int, captured: Captured) -> Captured | None:
        """What operators know only some time after their capture; None: the checkpoint was given up before. A service
        may be away for long, and what nobody wants any more must not stay in memory."""
        if not any(isinstance(part.own, Pending) for part in captured.values()):
            return captured
        self._resolving[checkpoint_id] = resolving = self._beside(_resolved(captured))
        try:
            await asyncio.wait({resolving})
            return None if resolving.cancelled() else resolving.result()
        finally:
            del self._resolving[checkpoint_id]

    def _store(
        self,
        path: str,
        captured: Captured,
        in_flight: InFlight,
        base: list[FileRef],
        known: Tables,
        savepoint: Savepoint | None = None,
    ) -> _Written:
        storage = self._storage if savepoint is None else self._services.open_storage(savepoint.url)
        assert storage is not None, "a checkpoint was triggered without storage"
        snapshot = SubtaskSnapshot(captured, in_flight)
        if savepoint is not None:
            make_portable(snapshot)
        try:
            shared = write_images(storage, path, snapshot, known)
            written = _Written(*write_part(storage, path, snapshot, base, allow_pickle=self._allow_pickle), shared)
        except OSError:
            if savepoint is not None:
                check_wanted(storage)  # whoever gave it up may have deleted the directory under this part
            raise
        if savepoint is not None:
            check_wanted(storage)
            if savepoint.is_last and self._storage is not None:
                copy_files(storage, self._storage, written.files)
        return written

    def _discard(self, part: _Written, savepoint: Savepoint | None) -> None:
        """Deletes a part that no manifest will name, but what it shares with others."""
        storage = self._storage if savepoint is None else self._services.open_storage(savepoint.url)
        assert storage is not None, "something was written without storage"
        directory = part.file.path.rpartition("/")[0]
        for written in part.files:
            if written.path.startswith(f"{directory}/"):
                storage.delete(written.path)

    def _entry(self, part: _Written, *, finished: bool) -> SubtaskEntry:
        vertex, (_, index) = self._vertex, self._id
        uids = [spec.uid for spec in vertex.saved_operators]
        return SubtaskEntry(
            vertex.id,
            index,
            vertex.parallelism,
            uids,
            finished,
            part.file,
            part.tables,
            list(part.shared.values()),
            self.ended,
        )


async def _resolved(captured: Captured) -> Captured:
    """The same, with what operators know only after their capture."""
    return {
        uid: replace(part, own=await part.own.resolve()) if isinstance(part.own, Pending) else part
        for uid, part in captured.items()
    }
