"""Channels between worker processes: batches out, credits back, over one connection per ordered pair of workers."""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Callable

from streamcore.batch import Schema
from streamcore.batch.wire import Compression, WireDecoder, WireEncoder
from streamcore.runtime.channel import InputChannel, OutputChannel, Transmit
from streamcore.runtime.connection import ChannelKey, Connection, FrameKind, connect, listen
from streamcore.runtime.elements import (
    BATCHES,
    END_OF_INPUT,
    Barrier,
    Element,
    LatencyMarker,
    Mode,
    Savepoint,
    Watermark,
)
from streamcore.runtime.wakeup import Wakeup

_BARRIER = struct.Struct("<QBB")
_SAVEPOINT, _LAST = 1, 2
_TIME = struct.Struct("<q?")
_SENT = struct.Struct("<d")


class DataPlane:
    """The sockets of one worker. An attempt registers its receiving ends, then opens its sending ends.

    A peer names its attempt in its first message; what comes for another attempt than the current is refused.
    """

    def __init__(
        self, address: str, secret: bytes, worker: int, on_broken: Callable[[int, Exception | None], None]
    ) -> None:
        self.address = address
        self._secret = secret
        self._worker = worker
        self._on_broken = on_broken
        self._server: asyncio.AbstractServer | None = None
        self._epoch = 0
        self._inputs: dict[ChannelKey, tuple[InputChannel, WireDecoder, int]] = {}
        self._outputs: dict[ChannelKey, OutputChannel] = {}
        self._incoming: dict[Connection, None] = {}  # in the order in which they came
        self._outgoing: dict[int, Connection] = {}

    async def listen(self) -> None:
        """Starts to accept peers."""
        self._server = await listen(self.address, self._secret, self._receive, self._lost)

    def begin(self, epoch: int) -> None:
        """Forgets the attempt before; only peers of `epoch` are heard from now."""
        self._epoch = epoch
        self._inputs = {}
        self._outputs = {}
        for connection in [*self._incoming, *self._outgoing.values()]:
            connection.close()
        self._incoming, self._outgoing = {}, {}

    def register(self, key: ChannelKey, channel: InputChannel, schema: Schema | None, sender: int) -> None:
        """Announces a receiving end whose sender is on worker `sender`."""
        self._inputs[key] = (channel, WireDecoder(schema), sender)

    async def open(
        self,
        key: ChannelKey,
        schema: Schema | None,
        wakeup: Wakeup,
        credit_count: int | None,
        worker: int,
        address: str,
        compression: Compression = "none",
    ) -> OutputChannel:
        """The sending end of a channel to a subtask on another worker; its batches are compressed if asked for.

        Raises:
            HandshakeError: the peer doesn't know the secret.
            OSError: the peer is gone.
        """
        connection = self._outgoing.get(worker)
        if connection is None:
            connection = await connect(address, self._secret, self._receive, self._lost)
            connection.peer = worker
            connection.send(FrameKind.MESSAGE, pickle.dumps((self._epoch, self._worker)))
            self._outgoing[worker] = connection
        channel = OutputChannel(_transmitter(connection, key, WireEncoder(schema, compression)), wakeup, credit_count)
        self._outputs[key] = channel
        return channel

    async def close(self) -> None:
        """Closes every socket."""
        self.begin(0)
        if self._server is not None:
            self._server.close()

    def _receive(self, connection: Connection, kind: int, detail: int, key: ChannelKey, body: memoryview) -> None:
        if kind == FrameKind.CREDIT:
            if key in self._outputs:
                self._outputs[key].regain()
        elif kind == FrameKind.MESSAGE:
            self._welcome(connection, pickle.loads(body))  # noqa: S301 - the peer proved the job's secret
        elif connection in self._incoming:
            channel, decoder, _ = self._inputs[key]
            element: Element
            if kind == FrameKind.BATCH:
                element = decoder.decode(detail, body)
            elif kind == FrameKind.WATERMARK:
                element = Watermark(*_TIME.unpack(body))
            elif kind == FrameKind.MARKER:
                element = LatencyMarker(*_SENT.unpack(body))
            elif kind == FrameKind.BARRIER:
                element = _decode_barrier(body)
            else:
                element = END_OF_INPUT
            channel.deliver(element)

    def _welcome(self, connection: Connection, hello: tuple[int, int]) -> None:
        epoch, worker = hello
        if epoch != self._epoch:
            connection.close()
            return
        connection.peer = worker
        self._incoming[connection] = None
        for key, (channel, _, sender) in self._inputs.items():
            if sender == worker and not channel.feedback:
                channel.grant = _granter(connection, key)

    def _lost(self, connection: Connection) -> None:
        if connection in self._incoming or connection in self._outgoing.values():
            self._on_broken(connection.peer, connection.error)


def _transmitter(connection: Connection, key: ChannelKey, encoder: WireEncoder) -> Transmit:
    def transmit(element: Element) -> None:
        if isinstance(element, BATCHES):
            form, body = encoder.encode(element)
            connection.send(FrameKind.BATCH, body, detail=form, channel=key)
        elif isinstance(element, Watermark):
            connection.send(FrameKind.WATERMARK, _TIME.pack(element.time_ms, element.idle), channel=key)
        elif isinstance(element, LatencyMarker):
            connection.send(FrameKind.MARKER, _SENT.pack(element.sent_s), channel=key)
        elif isinstance(element, Barrier):
            connection.send(FrameKind.BARRIER, _encode_barrier(element), channel=key)
        else:
            connection.send(FrameKind.END, channel=key)

    return transmit


def _encode_barrier(barrier: Barrier) -> bytes:
    savepoint = barrier.savepoint
    if savepoint is None:
        return _BARRIER.pack(barrier.checkpoint_id, barrier.mode, 0)
    flags = _SAVEPOINT | (_LAST if savepoint.is_last else 0)
    return _BARRIER.pack(barrier.checkpoint_id, barrier.mode, flags) + savepoint.url.encode()


def _decode_barrier(body: memoryview) -> Barrier:
    checkpoint_id, mode, flags = _BARRIER.unpack_from(body)
    if not flags & _SAVEPOINT:
        return Barrier(checkpoint_id, Mode(mode))
    savepoint = Savepoint(str(body[_BARRIER.size :], "utf-8"), bool(flags & _LAST))
    return Barrier(checkpoint_id, Mode(mode), savepoint)


def _granter(connection: Connection, key: ChannelKey) -> Callable[[], None]:
    return lambda: connection.send(FrameKind.CREDIT, channel=key)
