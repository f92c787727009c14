"""The reader of `ServerSentEventsSource`."""

from __future__ import annotations

import asyncio

import aiohttp

from streamcore.connectors.base import ReaderContext
from streamcore.connectors.push_reader import Pushed
from streamcore.connectors.web.reconnecting import CONNECT_S, Away, Ended, ReconnectingReader, refusal
from streamcore.connectors.web.sse_parser import EventParser
from streamcore.connectors.web.sse_source import ServerSentEventsSource
from streamcore.errors import ConnectorError

MAX_EVENT_BYTES = 16 << 20
_HEADERS = {"Accept": "text/event-stream", "Cache-Control": "no-store"}


class EventsReader(ReconnectingReader):
    """Reads the events of one server; see `ServerSentEventsSource`."""

    def __init__(self, source: ServerSentEventsSource, last_id: str | None, context: ReaderContext) -> None:
        super().__init__(source.name, source.format.decoder(), source.on_error, context, last_id, source.backoff)
        self._source = source
        self._last_id = last_id  # of what was received; the offset is that of what was handed out
        self._retry_s: float | None = None
        self._count = 0

    def handed_out(self, message: Pushed) -> None:
        """The offset is its id."""
        self.offset = message.mark

    def delay_s(self, failures: int) -> float:
        """The wait that the server has asked for, after a connection that had brought something."""
        if failures == 1 and self._retry_s is not None:
            return self._retry_s
        return max(super().delay_s(failures), self._retry_s or 0.0)

    async def read_connection(self, session: aiohttp.ClientSession) -> None:
        """Connects after the last event that was received, and reads until the connection ends.

        Raises:
            Away: the server can't take us now, or has gone silent.
            Ended: it has answered 204.
            ConnectorError: it refuses, or sends something else than events.
        """
        headers = {**self._source.headers, **_HEADERS}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        # the time limit stands still while the job doesn't read
        timeout = aiohttp.ClientTimeout(total=None, sock_read=self._source.silence_s)
        async with asyncio.timeout(CONNECT_S):
            response = await session.get(self._source.url, headers=headers, timeout=timeout)
        async with response:
            if response.status == 204:
                raise Ended
            if response.status != 200:
                raise refusal(self.name, response.status, response.headers.get("Retry-After"))
            if response.content_type != "text/event-stream":
                what = f"{self.name} sends {response.content_type}, not text/event-stream"
                raise ConnectorError(what, hint="is this the address of the events?")
            self.connected()
            await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        parser = EventParser(self._last_id)
        try:
            async for chunk in response.content.iter_any():
                self.received()
                for event in parser.feed(chunk):
                    self._last_id = event.last_id
                    if self._source.events is None or event.type in self._source.events:
                        self._count += 1
                        place = f"event {self._count if event.last_id is None else repr(event.last_id)}"
                        await self.put(Pushed(event.data, place, event.last_id))
                if parser.size > MAX_EVENT_BYTES:
                    raise ConnectorError(f"{self.name} sent an event of more than {MAX_EVENT_BYTES >> 20} MiB")
        except TimeoutError:
            raise Away(f"nothing for {self._source.silence_s:g} s") from None
        finally:
            self._last_id = parser.last_id
            self._retry_s = parser.retry_s if parser.retry_s is not None else self._retry_s
