"""What a subtask does beside its stream for a checkpoint: copies captured state, writes it, acknowledges it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from streamcore.checkpoint.in_flight import InFlight
from streamcore.checkpoint.log import SubtaskEntry, finished_path, state_path
from streamcore.checkpoint.parts import Increments, write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import FileRef, Storage
from streamcore.errors import CheckpointError
from streamcore.runtime.messages import Acknowledge, Decline, Subtask, ToCoordinator
from streamcore.runtime.services import Services
from streamcore.runtime.spec import VertexSpec

T = TypeVar("T")

InFlightSoon = Callable[[], Awaitable[InFlight | None]]
"""Gives what was in flight when all of it has been saved; None: the checkpoint was given up."""

Captured = dict[str, OperatorSnapshot]
"""Uid → what its operator captured."""


class SnapshotWriter:
    """The snapshots of one subtask on their way to storage. `begin` when the barrier has gone out, then `write` when
    the records in flight are known too."""

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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._increments = Increments()
        self._copying: tuple[int | None, asyncio.Task[float]] | None = None

    @property
    def base(self) -> int | None:
        """The checkpoint that the next capture may build on; None: none."""
        return self._increments.base

    def begin(self, captured: Captured, base: int | None) -> None:
        """Begins to copy what was captured `base` on, between the batches of the stream."""
        self._copying = base, self._beside(self._copy(captured))

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
        assert self._copying is not None, "a snapshot is written that was not captured"
        base, copying = self._copying
        self._beside(
            self._write_and_acknowledge(
                checkpoint_id, captured, in_flight, alignment_s, pause_s, base, copying, finished=finished
            )
        )

    async def write_last(self, captured: Captured) -> SubtaskEntry | None:
        """Writes the last state, which stands for the subtask in every later checkpoint; None without storage.

        Raises:
            CheckpointError: it can't be written.
        """
        if self._tasks:
            await asyncio.wait(self._tasks)  # an acknowledgement after `Finished` would come too late to count
        await self._copy(captured)
        if self._storage is None:
            return None
        path = finished_path(*self._id, self._epoch)
        try:
            file, tables = await self._services.in_background(lambda: self._store(path, captured, InFlight(), []))
        except OSError as error:
            place = f"{self._storage.url}/{path}"
            raise CheckpointError(f"the last state can't be written to {place}: {error.strerror}") from error
        return self._entry(file, tables, finished=True)

    def complete(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        self._increments.complete(checkpoint_id)

    def abort(self, checkpoint_id: int) -> None:
        """A checkpoint won't be complete."""
        self._increments.forget(checkpoint_id)

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
        """Copies the columnar state that was captured, a little at a time between batches, for which this task runs
        on the same loop as the subtask's; returns the longest stop in seconds."""
        longest_s = 0.0
        for operator in captured.values():
            for table in operator.tables.values():
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
        checkpoint_id: int,
        captured: Captured,
        in_flight: InFlightSoon,
        alignment_s: float,
        pause_s: float,
        base: int | None,
        copying: asyncio.Task[float],
        *,
        finished: bool,
    ) -> None:
        path = state_path(checkpoint_id, *self._id, self._epoch)
        files = self._increments.files(base)
        try:
            saved = await in_flight()
            pause_s = max(pause_s, await copying)
            if saved is None:
                return
            file, tables = await self._services.in_background(lambda: self._store(path, captured, saved, files))
        except Exception as error:  # noqa: BLE001 - whatever it was, this part can't be written
            self._send(Decline(self._epoch, checkpoint_id, self._id, str(error) or type(error).__name__))
            return
        self._increments.wrote(checkpoint_id, tables)
        for operator in captured.values():
            for table in operator.tables.values():
                table.release()
        entry = self._entry(file, tables, finished=finished)
        in_flight_bytes = saved.size_bytes
        self._send(Acknowledge(self._epoch, checkpoint_id, self._id, entry, alignment_s, pause_s, in_flight_bytes))

    def _store(
        self, path: str, captured: Captured, in_flight: InFlight, base: list[FileRef]
    ) -> tuple[FileRef, list[FileRef]]:
        assert self._storage is not None, "a checkpoint was triggered without storage"
        return write_part(
            self._storage, path, SubtaskSnapshot(captured, in_flight), base, allow_pickle=self._allow_pickle
        )

    def _entry(self, file: FileRef, tables: list[FileRef], *, finished: bool) -> SubtaskEntry:
        vertex, (_, index) = self._vertex, self._id
        uids = [spec.uid for spec in vertex.saved_operators]
        return SubtaskEntry(vertex.id, index, vertex.parallelism, uids, finished, file, tables)
