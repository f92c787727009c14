"""Runs an `AsyncFunction`: many calls at a time on the subtask's own event loop, their results in order or not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from streamcore.batch import Batch, Columns, Schema, to_columns, to_rows
from streamcore.batch.codec import decode_saved, encode_saved
from streamcore.batch.widening import as_of_now
from streamcore.runtime.async_function import AsyncFunction, Retry
from streamcore.runtime.async_results import Request, Results
from streamcore.runtime.operator import Operator

_CANCEL_AGAIN_S = 1.0


@dataclass(frozen=True)
class AsyncOptions:
    """As in `DataStream.async_map`."""

    ordered: bool
    timeout_s: float
    capacity: int
    retry: Retry


class AsyncMap(Operator):
    """One result for each record, which may take its time. Always the head of its subtask, which stops reading while
    `capacity` records wait, sends on what `collect` finds, and goes on when a call's end wakes it.

    The records that wait are in the snapshot; restored at another parallelism they are dealt out, so that then even
    ordered results of a key may change places with records that come later.
    """

    def __init__(self, function: AsyncFunction[Any, Any], schema: Schema | None, options: AsyncOptions) -> None:
        self._function = function
        self._schema = schema
        self._options = options
        self._results = Results(ordered=options.ordered)
        self._waiting: deque[Request] = deque()  # not yet called
        self._calls: dict[Request, asyncio.Task[None]] = {}
        self._opening: asyncio.Task[None] | None = None
        self._idle = self._told_idle = False
        self.has_answers = False
        """Whether a call has ended since the last `collect`."""

    def open(self) -> None:
        for kind, body in self.context.own_share():
            records = decode_saved(kind, body, allow_pickle=self.context.store.allow_pickle)
            if isinstance(records, Columns) and self._schema is not None:
                records = as_of_now(records, self._schema, "records that waited for their results")
            rows = to_rows(records, self._schema)
            self._waiting.extend(self._results.add(record) for record in rows)

    @property
    def is_full(self) -> bool:
        """Whether the subtask should read no more for now."""
        return len(self._results) >= self._options.capacity

    @property
    def is_waiting(self) -> bool:
        """Whether any record waits for its result."""
        return len(self._results) > 0

    def process(self, batch: Batch, port: int) -> None:
        self._waiting.extend(self._results.add(record) for record in to_rows(batch))
        self._call_next()

    def advance(self, time_ms: int) -> None:
        self._results.add_watermark(time_ms)
        self.collect()

    def set_idle(self, idle: bool) -> None:
        self._idle = idle
        self._tell_idle()

    def collect(self) -> None:
        """Emits the results that may leave now.

        Raises:
            Exception: what a call raised at last.
        """
        self.has_answers = False
        self._call_next()
        rows: list[Any] = []
        for leaving in self._results.take():
            if isinstance(leaving, int):
                self.output.emit(rows)
                self.output.emit_watermark(leaving)
                rows = []
                continue
            if leaving.error is not None:
                record = leaving.record  # noqa: F841 - the message names it (runtime.failures)
                raise leaving.error
            rows.append(leaving.result)
        self.output.emit(rows)
        self._tell_idle()

    def capture(self, checkpoint_id: int) -> Any:
        records: Batch = self._results.records
        if self._schema is not None:
            records = to_columns(records, self._schema)
        kind, body = encode_saved(records, allow_pickle=self.context.store.allow_pickle)
        return int(kind), body

    async def shut_down(self) -> None:
        """Gives up what is still being asked for, and closes the function.

        Raises:
            Exception: what closing raised.
        """
        if self._opening is None:
            return
        unfinished = {*self._calls.values(), self._opening}
        while unfinished:
            for task in unfinished:
                task.cancel()
            # more than once: a call that catches whatever comes takes it for a failure, and tries again
            _, unfinished = await asyncio.wait(unfinished, timeout=_CANCEL_AGAIN_S)
        await self._function.close()

    def _tell_idle(self) -> None:
        """The stream isn't idle as long as a result may come."""
        idle = self._idle and not self.is_waiting
        if idle != self._told_idle:
            self._told_idle = idle
            self.output.emit_idle(idle)

    def _call_next(self) -> None:
        while self._waiting and len(self._calls) < self._options.capacity:
            if self._opening is None:
                self._opening = asyncio.create_task(self._function.open())
            request = self._waiting.popleft()
            self._calls[request] = asyncio.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            assert self._opening is not None, "a call before the function was opened"
            await _not_cancelled(asyncio.shield(self._opening))
            request.result = await self._call_in_time(request.record)
        except Exception as error:  # noqa: BLE001 - raised where the result would have left
            request.error = error
        del self._calls[request]  # before the wake-up: there is room for the next call
        self._results.answered(request)
        self.has_answers = True
        self.context.wakeup.notify()

    async def _call_in_time(self, record: Any) -> Any:
        try:
            async with asyncio.timeout(self._options.timeout_s) as limit:
                return await self._call(record)
        except TimeoutError:
            if not limit.expired():
                raise
            return self._function.timed_out(record)

    async def _call(self, record: Any) -> Any:
        retry = self._options.retry
        delay_s = float(retry.delay)
        for _ in range(retry.attempts - 1):
            try:
                return await _not_cancelled(self._function.call(record))
            except retry.on:
                await asyncio.sleep(delay_s)
                delay_s *= retry.backoff
        return await _not_cancelled(self._function.call(record))


async def _not_cancelled(work: Awaitable[Any]) -> Any:
    """What the user's coroutine gives. That something in it was cancelled is a failure like others: taken for our own
    cancellation it would end the call without an answer."""
    try:
        return await work
    except asyncio.CancelledError as error:
        call = asyncio.current_task()
        if call is None or call.cancelling():
            raise
        raise RuntimeError("what the function waited for was cancelled") from error
