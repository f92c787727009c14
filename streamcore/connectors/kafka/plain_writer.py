"""Writers without transactions: at least once, and without a guarantee."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence
from typing import Any

from streamcore.connectors.base import SinkContext
from streamcore.connectors.kafka.connection import explain
from streamcore.connectors.kafka.outbox import Outgoing
from streamcore.connectors.kafka.session import Session
from streamcore.connectors.kafka.settings import WriterSettings
from streamcore.connectors.kafka.writer import Interval, KafkaWriter
from streamcore.errors import StreamcoreError

_log = logging.getLogger(__name__)

_LAST_BATCHES_S = 10.0


class PlainWriter(KafkaWriter):
    """One producer for all records.

    Args:
        is_safe: at least once: a barrier waits until all before it is acknowledged, and what can't be written fails
            the job. Otherwise what can't be written is left out, and the log says how much.
    """

    def __init__(self, settings: WriterSettings, context: SinkContext, *, is_safe: bool) -> None:
        super().__init__(settings, context)
        self._is_safe = is_safe
        self._session: Session | None = None
        self._interval = Interval(self._progressed, self._batch_failed)
        self._lost = 0
        self._told_at = 1

    def prepare(self) -> Awaitable[Sequence[Any]]:
        self._interval.flush()
        return self._done()

    async def _done(self) -> Sequence[Any]:
        if self._is_safe:
            await self._acknowledged(self._interval)
        return ()

    async def _begin(self, prepared: Sequence[Any]) -> None:
        self._session = await Session.begin(self._settings.brokers, self._settings.producer, None)
        self._create_batch = self._session.create_batch
        self._interval.outbox.attach(self._session)

    async def _end(self) -> None:
        if self._session is None:
            return
        if not self._is_safe:
            self._interval.flush()  # no barrier has waited for them
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_BATCHES_S):
                    await self._interval.outbox.acknowledged()
        await self._interval.outbox.close()
        await self._session.close()

    def _waiting_bytes(self) -> int:
        return self._interval.outbox.waiting_bytes

    def _batch_failed(self, interval: Interval, error: Exception, outgoing: Outgoing) -> bool:
        if self._is_safe:
            return super()._batch_failed(interval, error, outgoing)
        self._lost += outgoing.records
        if self._lost >= self._told_at:  # told of again when it has doubled: an outage may cost thousands of batches
            self._told_at = 2 * self._lost
            _log.warning("%d records were not written to %s so far: %s", self._lost, outgoing.topic, error)
        return True

    async def _explain(self, interval: Interval, error: Exception, outgoing: Outgoing) -> StreamcoreError:
        return explain(error, self._settings.brokers, f"can't write to the topic {outgoing.topic!r}")
