"""What the readers of services that push messages have in common.

A task beside the stream receives messages and puts them into a buffer; `poll` decodes and hands them out. When the
buffer is full the task waits, so that nothing more is read and the service has to wait too.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamcore.batch import Batch
from streamcore.connectors.base import BadRecord, ReaderContext, SourceClient, SplitReader
from streamcore.connectors.blocks import shorten
from streamcore.connectors.json_source import why_malformed
from streamcore.connectors.paths import OnError
from streamcore.errors import BadRecordError

BUFFER_MESSAGES = 65_536
BUFFER_BYTES = 16 << 20


class Connections(SourceClient):
    """Those of a subtask's readers. A reader's `close` only begins to end its connection; this waits until that is
    done, so that what was acknowledged last is known to the service."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Waits until the readers' connections are closed."""
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message as it came. `place`: which one it is, for messages; `mark`: what the reader has to know of it."""

    data: bytes
    place: str
    mark: Any = None


class PushReader(SplitReader):
    """Reads what a service pushes; a subclass says how it is received.

    Args:
        name: the service, without secrets.
        decode: one message's record; raises ValueError or RecursionError when it is malformed.
        on_error: what becomes of a malformed message.
    """

    def __init__(
        self, name: str, decode: Callable[[bytes], Any], on_error: OnError, context: ReaderContext, offset: Any
    ) -> None:
        self.offset = offset
        self.name = name
        self.context = context
        self._decode = decode
        self._on_error = on_error
        self._buffer: deque[Pushed] = deque()
        self._bytes = 0
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def receive(self) -> None:
        """Connects, again and again, and gives every message to `put`; returns when the stream has ended.

        Raises:
            StreamcoreError: it never will go on; raised from `poll` after the messages that came before.
        """

    def record(self, message: Pushed) -> Any:
        """The record of one message; raises as `decode`."""
        return self._decode(message.data)

    def handed_out(self, message: Pushed) -> None:
        """The message's record, if it has one, is part of what `poll` returns: the offset is behind it."""

    def poll(self, limit: int) -> Batch | None:
        """The next records.

        Raises:
            BadRecordError: a message is malformed and the policy is `fail`.
            ConnectorError: the service refuses to be read; after the messages that came before that.
        """
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self.receive(), name=self.name)
            self._task.add_done_callback(lambda _: self.context.wake())
            if isinstance(self.context.client, Connections):
                self.context.client.tasks.add(self._task)
        rows: list[Any] = []
        while self._buffer and len(rows) < limit:
            self._take(rows)
        if not self.is_full:
            self._has_room.set()
        if not self._buffer and not rows and self._task.done():
            self._task.result()
            self.exhausted = True
        return rows

    def close(self) -> None:
        """Ends the connection."""
        if self._task is not None:
            self._task.cancel()

    async def put(self, *messages: Pushed) -> None:
        """Takes messages, and returns when there is room for more."""
        self.push(*messages)
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()

    def push(self, *messages: Pushed) -> None:
        """Takes messages, room or not."""
        self._buffer.extend(messages)
        self._bytes += sum(len(message.data) for message in messages)
        self.context.wake()

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be received before some of it has been handed out."""
        return len(self._buffer) >= BUFFER_MESSAGES or self._bytes >= BUFFER_BYTES

    def _take(self, rows: list[Any]) -> None:
        message = self._buffer.popleft()
        self._bytes -= len(message.data)
        try:
            rows.append(self.record(message))
        except (ValueError, RecursionError) as error:
            self._report(message, why_malformed(error))
        self.handed_out(message)

    def _report(self, message: Pushed, reason: str) -> None:
        text = shorten(message.data)
        if self._on_error == "fail":
            raise BadRecordError(
                f"{self.name}, {message.place}: {reason}: {text!r}",
                hint='on_error="skip" leaves malformed messages out, on_error="side_output" sends them elsewhere',
            )
        self.context.report_bad(BadRecord(text, reason, self.name, message.place))
