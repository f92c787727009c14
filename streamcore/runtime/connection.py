"""A framed connection between two processes of one job, authenticated before anything is parsed.

Handshake, in messages of fixed size (a mutual challenge and response with HMAC-SHA256 of the job's secret)::

    server -> client   32 random bytes (S)
    client -> server   32 random bytes (C), HMAC(secret, "client" S C)
    server -> client   HMAC(secret, "server" S C)

A handshake that isn't done within HANDSHAKE_TIMEOUT_S is refused like a wrong one.

Then frames: a header of 16 bytes (body length, kind, detail, three 16-bit channel numbers) and the body. What one
system call brings is taken apart at once, so that small frames reach their subtask together; a body that doesn't
fit into it is received straight into a buffer of its own, and its columns are used where they arrived.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from typing import Any, cast

from streamcore.errors import HandshakeError

_HEADER = struct.Struct("<QBBHHH")
_NONCE = 32
_MAC = 32
_CHUNK = 1 << 18
HANDSHAKE_TIMEOUT_S = 10.0
_UNPROVEN = "the other side doesn't know the job's secret"

ChannelKey = tuple[int, int, int]
"""(edge id, sending subtask, receiving subtask)."""


class FrameKind(enum.IntEnum):
    """What a frame is."""

    MESSAGE = 1
    BATCH = 2
    BARRIER = 3
    END = 4
    CREDIT = 5
    WATERMARK = 6
    MARKER = 7


FrameHandler = Callable[["Connection", int, int, ChannelKey, Any], None]
"""Called with (connection, kind, detail, channel, body)."""


class Connection(asyncio.BufferedProtocol):
    """One side of a connection. `on_frame` gets every frame; `on_close` is called once, also for a failed handshake."""

    def __init__(
        self,
        secret: bytes,
        *,
        is_server: bool,
        on_frame: FrameHandler,
        on_close: Callable[[Connection], None],
    ) -> None:
        self._secret = secret
        self._is_server = is_server
        self._on_frame = on_frame
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._client_nonce = b""
        self._server_nonce = secrets.token_bytes(_NONCE) if is_server else b""
        self._trusted = False
        self._buffer = memoryview(bytearray(_NONCE + _MAC if is_server else _NONCE))
        self._filled = 0
        self._chunk = memoryview(bytearray(_CHUNK))
        self._header: tuple[int, int, int, int, int, int] | None = None
        self._unsent: list[Any] = []
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._refusal = "the other side closed the connection during the handshake"
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.error: Exception | None = None
        """Why this side gave the connection up: a frame that couldn't be taken."""
        self.peer: Any = None
        """Who the other side said it is, in its first message."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 30)  # senders are bounded by credits, not by the socket
        self._alarm = self._loop.call_later(
            HANDSHAKE_TIMEOUT_S, self._refuse, f"the handshake was not done after {HANDSHAKE_TIMEOUT_S:g} s"
        )
        if self._is_server:
            self._transport.write(self._server_nonce)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._trusted and self._header is None:
            self._take_chunk_apart()
        elif self._filled == len(self._buffer):
            full, self._filled = self._buffer, 0
            if self._header is not None:
                self._buffer = self._chunk
                self._deliver(full)
            else:
                self._shake_hands(bytes(full))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if not self.ready.done():
            self.ready.set_exception(
                HandshakeError(self._refusal, hint="worker and coordinator must have the same secret")
            )
            self.ready.exception()  # a server has nobody waiting for it
        self._on_close(self)

    @property
    def is_trusted(self) -> bool:
        """Whether the other side has proved that it knows the secret."""
        return self._trusted

    def send(self, kind: FrameKind, body: Any = b"", *, detail: int = 0, channel: ChannelKey = (0, 0, 0)) -> None:
        """Sends a frame; never blocks. Frames to a closed connection go nowhere: its end has been reported."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)  # frames of one turn of the event loop go out in one system call
        self._unsent.append(_HEADER.pack(memoryview(body).nbytes, kind, detail, *channel))
        self._unsent.append(body)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(unsent)

    def close(self) -> None:
        """Closes after what was sent has gone out."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _shake_hands(self, got: bytes) -> None:
        assert self._transport is not None, "data before a connection"
        if self._is_server:
            self._client_nonce, proof = got[:_NONCE], got[_NONCE:]
            if not hmac.compare_digest(proof, self._proof(b"client")):
                self._refuse(_UNPROVEN)
                return
            self._transport.write(self._proof(b"server"))
            self._become_trusted()
        elif not self._server_nonce:
            self._server_nonce, self._client_nonce = got, secrets.token_bytes(_NONCE)
            self._transport.write(self._client_nonce + self._proof(b"client"))
            self._buffer = memoryview(bytearray(_MAC))
        elif hmac.compare_digest(got, self._proof(b"server")):
            self._become_trusted()
        else:
            self._refuse(_UNPROVEN)

    def _refuse(self, reason: str) -> None:
        assert self._transport is not None, "a refusal before a connection"
        self._refusal = reason
        self._transport.abort()

    def _proof(self, side: bytes) -> bytes:
        return hmac.new(self._secret, side + self._server_nonce + self._client_nonce, hashlib.sha256).digest()

    def _become_trusted(self) -> None:
        self._trusted = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._buffer = self._chunk
        self.ready.set_result(None)

    def _take_chunk_apart(self) -> None:
        chunk, start, end = self._chunk, 0, self._filled
        while end - start >= _HEADER.size:
            header = _HEADER.unpack_from(chunk, start)
            size, body = header[0], start + _HEADER.size
            self._header = header
            if body + size > end:
                self._buffer = memoryview(bytearray(size))
                self._filled = end - body
                self._buffer[: self._filled] = chunk[body:end]
                return
            self._deliver(memoryview(bytes(chunk[body : body + size])))
            start = body + size
        chunk[: end - start] = bytes(chunk[start:end])
        self._filled = end - start

    def _deliver(self, body: memoryview) -> None:
        assert self._header is not None, "a body without header"
        _, kind, detail, edge, source, target = self._header
        self._header = None
        try:
            self._on_frame(self, kind, detail, (edge, source, target), body)
        except Exception as error:  # noqa: BLE001 - told by `on_close`; what follows can't be understood either
            self.error = error
            assert self._transport is not None, "a frame without connection"
            self._transport.abort()


async def connect(
    address: str, secret: bytes, on_frame: FrameHandler, on_close: Callable[[Connection], None]
) -> Connection:
    """Connects to a Unix socket and proves knowledge of the secret.

    Raises:
        HandshakeError: the other side doesn't know the secret, or says that we don't.
        OSError: nobody listens there.
    """
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(
        lambda: Connection(secret, is_server=False, on_frame=on_frame, on_close=on_close), address
    )
    await connection.ready
    return connection


async def listen(
    address: str, secret: bytes, on_frame: FrameHandler, on_close: Callable[[Connection], None]
) -> asyncio.AbstractServer:
    """Listens on a Unix socket; frames come only from those that know the secret.

    Raises:
        OSError: the address is taken or can't be made.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(
        lambda: Connection(secret, is_server=True, on_frame=on_frame, on_close=on_close), address
    )
