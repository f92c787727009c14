"""The writer of `MqttSink`: publishes in order, and again what a broken connection left unacknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamcore.batch import Batch, to_rows
from streamcore.connectors.base import AsyncSinkWriter, SinkContext
from streamcore.connectors.json_source import encode_json_lines
from streamcore.connectors.mqtt.connection import Away, Connection
from streamcore.connectors.mqtt.limits import ShortConnections, publish_bytes
from streamcore.connectors.mqtt.sink import MqttSink, why_no_topic
from streamcore.connectors.outage import Outage
from streamcore.connectors.progress import Progress
from streamcore.errors import BadRecordError, ConnectorError

MAX_MESSAGE_BYTES = (256 << 20) - (1 << 17)
"""What MQTT allows, less the longest topic and the header."""


@dataclass(frozen=True, slots=True)
class _Unacknowledged:
    topic: str
    payload: bytes
    number: int


class MqttWriter(AsyncSinkWriter):
    """Publishes the records of one subtask; see `MqttSink`."""

    def __init__(self, sink: MqttSink, context: SinkContext) -> None:
        self._sink = sink
        self._context = context
        self._progress = Progress()
        self._queue: deque[_Unacknowledged] = deque()
        self._sent: dict[int, _Unacknowledged] = {}  # by message id, in the order sent
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_full = False
        self._short = ShortConnections()
        self._has_acknowledged = False  # on this connection

    async def open(self, prepared: Sequence[Any]) -> None:
        """Begins to connect."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name=str(self._sink.broker))
        self._task.add_done_callback(self._ended)

    def write(self, batch: Batch) -> None:
        """Publishes the records, or queues them.

        Raises:
            BadRecordError: a record has no form or no topic.
        """
        rows = to_rows(batch)
        for row, payload in zip(rows, self._payloads(rows), strict=True):
            topic = self._sink.topic if isinstance(self._sink.topic, str) else self._sink.topic(row)
            if why := why_no_topic(topic):
                raise BadRecordError(f"{topic!r:.200} can't be published to: {why}; the record: {row!r:.200}")
            if len(payload) > MAX_MESSAGE_BYTES:
                raise BadRecordError(f"a message of {len(payload)} bytes is too long for MQTT", hint="256 MiB at most")
            self._queue.append(_Unacknowledged(topic, payload, self._progress.begin()))
        self._publish()

    @property
    def is_full(self) -> bool:
        """Whether enough is queued."""
        self._was_full = self._progress.pending >= 2 * self._sink.max_unacknowledged
        return self._was_full

    def prepare(self) -> asyncio.Future[Sequence[Any]]:
        """Done when the broker has acknowledged all that was written; there is nothing to commit."""
        return asyncio.ensure_future(self._answered(self._progress.cut()))

    async def close(self) -> None:
        """Ends the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @staticmethod
    async def _answered(cut: asyncio.Future[None]) -> Sequence[Any]:
        await cut
        return []

    def _payloads(self, rows: Sequence[Any]) -> list[bytes]:
        if self._sink.value == "json":
            return encode_json_lines(list(rows)).split(b"\n")[: len(rows)]
        kind = str if self._sink.value == "text" else bytes
        for row in rows:
            if not isinstance(row, kind):
                hint = 'value="json" takes every record'
                raise BadRecordError(f"a record isn't {self._sink.value}: {row!r:.200}", hint=hint)
        return [row.encode("utf-8", "surrogatepass") if isinstance(row, str) else row for row in rows]

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._progress.fail(error)
        self._context.fail(error)

    async def _keep_connected(self) -> None:
        sink, failures, now = self._sink, 0, asyncio.get_running_loop().time
        outage = Outage(self._context.waiting, str(sink.broker))
        while True:
            begun_at = None
            # the broker gives us an id: the session ends with the connection
            connection = Connection(sink.broker, "", on_acknowledged=self._acknowledged)
            try:
                await connection.open()
                begun_at = now()
                connection.limits.check(sink.broker, retain=sink.retain)
                outage.end()
                self._connection = connection
                self._has_acknowledged = False
                self._publish()
                await connection.lost
            except Away as away:
                if begun_at is None:
                    outage.begin(str(away))
                    self._short.reset()
                elif self._has_acknowledged or not self._sent:
                    failures = 0
                    self._short.reset()
                elif self._short.ended(now() - begun_at):
                    raise self._hung_up_on(away) from None
            finally:
                self._connection = None
                await connection.close()
            self._queue.extendleft(reversed(self._sent.values()))
            self._sent.clear()
            failures += 1
            await asyncio.sleep(sink.backoff.delay_s(failures))

    def _hung_up_on(self, away: Away) -> ConnectorError:
        """Says what a broker does that drops connections instead of refusing messages."""
        what = (
            f"the {self._sink.broker} has ended {self._short.count} connections in a row without acknowledging anything"
        )
        longest = max(len(message.payload) for message in self._sent.values())
        hint = f"does it allow what is sent? the longest of {len(self._sent)} messages has {longest} bytes"
        return ConnectorError(f"{what}: {away}", hint=hint)

    def _publish(self) -> None:
        connection = self._connection
        if connection is None or connection.lost.done():
            return
        window = min(self._sink.max_unacknowledged, connection.limits.window)
        while self._queue and len(self._sent) < window:
            message = self._queue.popleft()
            length, most = publish_bytes(message.topic, message.payload), connection.limits.packet_bytes
            if length > most:
                what = f"a message to {message.topic!r:.200} is too long for the {self._sink.broker}"
                self._fail(BadRecordError(f"{what}: {length} bytes with its header", hint=f"it takes {most}"))
                return
            self._sent[connection.publish(message.topic, message.payload, retain=self._sink.retain)] = message

    def _acknowledged(self, message_id: int, failure: str | None) -> None:
        message = self._sent.pop(message_id, None)
        if message is None:
            return
        if failure is not None:
            what = f"the {self._sink.broker} refuses a message to {message.topic!r}: {failure}"
            self._fail(ConnectorError(what, hint="check the rights of this user"))
            return
        self._has_acknowledged = True
        self._progress.answered(message.number)
        self._publish()
        if self._was_full and not self.is_full:
            self._context.wake()
