"""The reader of `MqttSource`: which messages are acknowledged, and when.

A message of QoS 1 has an id until it is acknowledged; no other has the same meanwhile. When a connection has broken,
the broker sends what wasn't acknowledged again, under the same id and marked as a duplicate: what has come already is
recognised by that, and acknowledged on the new connection when its time comes. If the broker has lost the session,
the ids begin anew, and nothing of the old ones can be acknowledged any more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from streamcore.batch import Batch
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.mqtt.connection import Away, Connection, Message
from streamcore.connectors.mqtt.limits import ShortConnections
from streamcore.connectors.mqtt.source import MqttMessage, MqttSource
from streamcore.connectors.outage import Outage
from streamcore.connectors.push_reader import Pushed, PushReader
from streamcore.errors import ConnectorError

logger = logging.getLogger("streamcore.connectors")

STALL_S = 60.0
"""Seconds without a checkpoint after which a user is told that messages wait for one."""


class MqttReader(PushReader):
    """Reads the messages of one session; see `MqttSource`."""

    def __init__(self, source: MqttSource, offset: int, context: ReaderContext) -> None:
        super().__init__(str(source.broker), source.format.decoder(), source.on_error, context, offset)
        self._source = source
        self._client_id = source.client_id or f"streamcore-{context.job}"
        self._waits_for_checkpoint = source.delivery == "at-least-once"
        self._connection: Connection | None = None
        self._unacknowledged: dict[int, int | None] = {}  # message id → the offset behind it, None: not handed out
        self._session = 0  # counts those that the broker has begun
        self._committed = offset
        self._waits_for_first = True
        self._stalls_at: float | None = None
        self._count = offset

    def poll(self, limit: int) -> Batch | None:
        """The next records; see `PushReader`."""
        batch = super().poll(limit)
        if self._connection is not None and not self.is_full:
            self._connection.resume()
        self._watch_for_stall()
        return batch

    def record(self, message: Pushed) -> Any:
        """The message's value, with its topic if the source says so."""
        value = super().record(message)
        return MqttMessage(message.mark.topic, value, message.mark.retained) if self._source.with_topic else value

    def handed_out(self, message: Pushed) -> None:
        """Acknowledges the message at most once, or remembers what offset it has to wait for."""
        self.offset += 1
        mark: _Mark = message.mark
        if mark.session == self._session and mark.message_id in self._unacknowledged:
            self._unacknowledged[mark.message_id] = self.offset
            if not self._waits_for_checkpoint:
                self._committed = self.offset
                self._acknowledge(mark.message_id)

    def committed(self, offset: Any) -> None:
        """Acknowledges what the checkpoint has the effect of."""
        self._stalls_at, self._waits_for_first = None, False
        if self._waits_for_checkpoint:
            self._committed = offset
            for message_id in [one for one, at in self._unacknowledged.items() if at is not None and at <= offset]:
                self._acknowledge(message_id)

    async def receive(self) -> None:
        """Keeps a connection.

        Raises:
            ConnectorError: the broker refuses us, or another client has taken the session.
        """
        source, failures, now = self._source, 0, asyncio.get_running_loop().time
        outage = Outage(self.context.waiting, self.name)
        short = ShortConnections()
        while True:
            begun_at, is_subscribed = None, False
            connection = Connection(
                source.broker,
                self._client_id,
                session_s=source.session_s,
                receive_maximum=source.max_unacknowledged,
                on_message=self._arrived,
            )
            self._connection = connection
            try:
                is_kept = await connection.open()
                begun_at = now()
                if not is_kept:
                    self._session += 1
                    self._unacknowledged.clear()
                await connection.subscribe(source.topics)
                outage.end()
                is_subscribed = True
                await connection.lost
            except Away as away:
                if begun_at is None:
                    short.reset()
                elif short.ended(now() - begun_at):
                    # two clients may take the session from each other: not every broker says so
                    raise self._thrown_out(short) from None
                if not is_subscribed:
                    outage.begin(str(away))
                elif short.count == 0:
                    failures = 0
            finally:
                self._connection = None
                await connection.close()
            failures += 1
            await asyncio.sleep(source.backoff.delay_s(failures))

    def _thrown_out(self, short: ShortConnections) -> ConnectorError:
        what = f"the {self.name} has ended {short.count} connections in a row within {short.LONG_S:g} s"
        hint = f"does another client have the id {self._client_id!r} too? every job needs one of its own: client_id="
        return ConnectorError(what, hint=hint)

    def _arrived(self, message: Message) -> None:
        mark = _Mark(message, self._session)
        if message.qos > 0:
            if message.dup and message.mid in self._unacknowledged:
                at = self._unacknowledged[message.mid]
                if at is not None and at <= self._committed:
                    self._acknowledge(message.mid)
                return
            self._unacknowledged[message.mid] = None
        self._count += 1
        self.push(Pushed(message.payload, f"message {self._count} ({message.topic})", mark))
        if self.is_full and self._connection is not None:
            self._connection.pause()

    def _acknowledge(self, message_id: int) -> None:
        # without a connection it is done when the broker sends the message again
        if self._connection is not None and not self._connection.lost.done():
            del self._unacknowledged[message_id]
            self._connection.acknowledge(message_id)

    def _watch_for_stall(self) -> None:
        self.wake_at = None
        if not (self._waits_for_checkpoint and self._waits_for_first and self._unacknowledged):
            return
        now = self.context.now()
        if self._stalls_at is None:
            self._stalls_at = now + STALL_S
        if now < self._stalls_at:
            self.wake_at = self._stalls_at
            return
        self._waits_for_first = False
        logger.warning(
            "%s: %d messages wait for a first checkpoint to be acknowledged, and the broker may send no more until "
            'then; a job without checkpoints needs delivery="at-most-once"',
            self.name,
            len(self._unacknowledged),
        )


class _Mark:
    """What is kept of a message beside its payload."""

    __slots__ = ("message_id", "retained", "session", "topic")

    def __init__(self, message: Message, session: int) -> None:
        self.topic = message.topic
        self.retained = bool(message.retain)
        self.message_id = message.mid if message.qos > 0 else -1
        self.session = session
