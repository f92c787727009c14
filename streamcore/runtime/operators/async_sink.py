"""Runs a sink whose writers work beside the stream: for services, where every answer takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from streamcore.batch import Batch
from streamcore.connectors.base import AsyncSinkWriter, Sink, SinkContext
from streamcore.runtime.operator import Operator, Pending

T = TypeVar("T")

Handles = asyncio.Future[Sequence[Any]]


class AsyncSink(Operator):
    """The end of a stream. The barrier only cuts what is written: what comes before the cut becomes durable beside the
    stream, and the snapshot is acknowledged when it is. Commits are made beside the stream too, one checkpoint after
    the other; until one is done, its handles are part of every later snapshot.
    """

    def __init__(self, sink: Sink[Any]) -> None:
        self._sink = sink
        self._writer: AsyncSinkWriter | None = None
        self._uncommitted: dict[int, Handles] = {}  # checkpoint → the handles of what was prepared for it
        self._complete = 0
        self._opening: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._failure: asyncio.Future[None] | None = None  # done when there is an error

    def open(self) -> None:
        context = self.context
        writer = self._sink.writer(
            SinkContext(
                context.subtask,
                context.parallelism,
                context.epoch,
                wake=context.wakeup.notify,
                fail=self._fail,
                waiting=context.waiting,
                job=context.job,
            )
        )
        assert isinstance(writer, AsyncSinkWriter), "a sink that says its writers are asynchronous"
        self._writer = writer
        self._failure = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Connects and commits what the snapshot had prepared; awaited before the subtask counts as open."""
        handles = [handle for state in self.context.own_share() for handle in state["prepared"]]
        self._opening = asyncio.create_task(self._open_writer.open(handles))
        await self._unless_failed(self._opening)
        self.check()

    @property
    def is_full(self) -> bool:
        """Whether the stream has to wait."""
        return self._writer is not None and self._error is None and self._writer.is_full

    def check(self) -> None:
        """Looks whether something has gone wrong beside the stream.

        Raises:
            Exception: that.
        """
        if self._error is not None:
            raise self._error

    def process(self, batch: Batch, port: int) -> None:
        self._open_writer.write(batch)

    def capture(self, checkpoint_id: int) -> Any:
        prepared = asyncio.ensure_future(self._open_writer.prepare())
        prepared.add_done_callback(self._look_at)
        self._uncommitted[checkpoint_id] = prepared
        # what an earlier, not yet committed checkpoint prepared must be committed by whoever restores this one
        waiting = list(self._uncommitted.values())

        async def state() -> Any:
            return {"prepared": [handle for prepared in waiting for handle in await self._unless_failed(prepared)]}

        return Pending(state)

    def notify_complete(self, checkpoint_id: int) -> None:
        self._complete = max(self._complete, checkpoint_id)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit())

    async def finish_commits(self) -> None:
        """Waits until all that is to be committed has been.

        Raises:
            Exception: it could not be.
        """
        if self._committing is not None:
            await self._unless_failed(self._committing)
        self.check()

    async def shut_down(self) -> None:
        """Closes the writer, whatever it is doing.

        Raises:
            Exception: what closing raised.
        """
        if self._writer is None:
            return
        tasks = (self._opening, self._committing, *self._uncommitted.values())
        unfinished = [task for task in tasks if task is not None]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._writer.close()

    @property
    def _open_writer(self) -> AsyncSinkWriter:
        assert self._writer is not None, "a sink was used before it was open"
        return self._writer

    async def _unless_failed(self, work: asyncio.Future[T]) -> T:
        """What the work gives, which goes on if nobody waits for it any more. A writer that has failed may never end
        what it had begun."""
        assert self._failure is not None, "a sink was used before it was open"
        either: set[asyncio.Future[Any]] = {work, self._failure}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self.check()
        return work.result()

    async def _commit(self) -> None:
        try:
            while (first := min(self._uncommitted, default=self._complete + 1)) <= self._complete:
                handles = await self._unless_failed(self._uncommitted[first])
                if handles:
                    await self._open_writer.commit(handles)
                del self._uncommitted[first]
        except Exception as error:  # noqa: BLE001 - the subtask fails with it
            self._fail(error)

    def _look_at(self, prepared: Handles) -> None:
        error = None if prepared.cancelled() else prepared.exception()
        if isinstance(error, Exception):
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(None)
        self.context.wakeup.notify()
