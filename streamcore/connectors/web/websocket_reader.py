"""The reader of `WebSocketSource`."""

from __future__ import annotations

import asyncio

import aiohttp

from streamcore.connectors.base import ReaderContext
from streamcore.connectors.push_reader import Pushed
from streamcore.connectors.web.reconnecting import CONNECT_S, Away, ReconnectingReader, refusal
from streamcore.connectors.web.websocket_source import WebSocketSource
from streamcore.errors import ConnectorError

_ENDS = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


class WebSocketReader(ReconnectingReader):
    """Reads the messages of one server; see `WebSocketSource`."""

    def __init__(self, source: WebSocketSource, offset: int, context: ReaderContext) -> None:
        super().__init__(source.name, source.format.decoder(), source.on_error, context, offset, source.backoff)
        self._source = source
        self._count = offset

    def handed_out(self, message: Pushed) -> None:
        """Counts it."""
        self.offset += 1

    async def read_connection(self, session: aiohttp.ClientSession) -> None:
        """Connects, subscribes, and reads until the connection ends.

        Raises:
            Away: the server can't take us now, or has gone silent.
            ConnectorError: it refuses, or sends a message that is too long.
        """
        source = self._source
        try:
            # pings are answered and sent here, not by aiohttp: its own heartbeat gives the connection up when
            # the job doesn't read for a while
            async with asyncio.timeout(CONNECT_S):
                socket = await session.ws_connect(
                    source.url, headers=source.headers, autoping=False, max_msg_size=source.max_message_bytes
                )
        except aiohttp.WSServerHandshakeError as error:
            retry_after = error.headers.get("Retry-After") if error.headers is not None else None
            raise refusal(self.name, error.status, retry_after) from None  # its text is the URL
        async with socket:
            for message in source.subscribe:
                await socket.send_str(message)
            self.connected()
            await self._read(socket)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        is_asked = False
        while True:
            try:
                message = await socket.receive(timeout=self._source.heartbeat_s)
            except TimeoutError:
                if is_asked:
                    raise Away(f"nothing for {2 * self._source.heartbeat_s:g} s") from None
                is_asked = True
                await socket.ping()
                continue
            is_asked = False
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    await self._put(message.data.encode())
                case aiohttp.WSMsgType.BINARY:
                    await self._put(message.data)
                case aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
                case aiohttp.WSMsgType.ERROR:
                    raise self._broken(message.data)
                case kind if kind in _ENDS:
                    return

    async def _put(self, data: bytes) -> None:
        self.received()
        self._count += 1
        await self.put(Pushed(data, f"message {self._count}"))

    def _broken(self, error: object) -> Exception:
        if isinstance(error, aiohttp.WebSocketError) and error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            what = f"{self.name} sent a message of more than {self._source.max_message_bytes} bytes"
            return ConnectorError(what, hint="max_message_bytes= allows longer ones")
        return Away(f"the connection broke: {type(error).__name__}")
