"""One connection to an MQTT 5 broker on the asyncio event loop, by paho-mqtt.

paho's own means for foreign event loops are used (`loop_read`, `loop_write`, `loop_misc`, and its socket callbacks);
aiomqtt, which wraps them, neither lets an acknowledgement wait nor tells whether the broker has kept the session. A
connection is used once: what has to be sent again after it broke is known to its user, not to paho.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamcore.connectors.mqtt.broker import Broker
from streamcore.connectors.mqtt.limits import Limits
from streamcore.errors import ConnectorError

ANSWER_S = 30.0
"""Seconds within which the broker has to answer."""
_REFUSED_FOR_GOOD = frozenset(
    {0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8F, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B, 0x9D, 0x9E, 0xA1, 0xA2}
)
"""Reason codes of a CONNACK or a DISCONNECT that waiting doesn't change (MQTT 5, 2.4): wrong credentials, no rights, a
packet that is too large, what it doesn't support…"""
_TAKEN_OVER = 0x8E
_DISCONNECT = b"\xe0\x00"
_GOODBYE_S = 2.0
_NEW_ONLY = 1  # retained messages come with a new subscription only
_quiet = logging.getLogger("streamcore.connectors.paho")
_quiet.setLevel(logging.CRITICAL)


class Away(Exception):  # noqa: N818 - an outage, no error of anyone
    """The broker can't be reached, or the connection broke."""


class Message(Protocol):
    """What paho gives for a message."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    dup: bool
    retain: bool


class Connection:
    """A connection from `open` until `lost`.

    Args:
        client_id: names the session at the broker; only the last connection with it lives.
        session_s: seconds that the broker keeps the session without a connection; 0: it begins anew each time.
        receive_maximum: messages of QoS 1 that the broker may send before the first of them is acknowledged.
        on_message: called with each message.
        on_acknowledged: called with the number of a published message, and what is wrong with it or None.

    Attributes:
        lost: done when the connection has broken; raises Away, or ConnectorError if it can't be made again.
        limits: what the broker takes; known after `open`.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        *,
        session_s: int = 0,
        receive_maximum: int = 65_535,
        on_message: Callable[[Any], None] = lambda _: None,
        on_acknowledged: Callable[[int, str | None], None] = lambda _, __: None,
    ) -> None:
        self._broker = broker
        self._client_id = client_id
        self._session_s = session_s
        self._receive_maximum = receive_maximum
        self._on_acknowledged = on_acknowledged
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.lost.add_done_callback(lambda lost: lost.cancelled() or lost.exception())  # it may be that nobody asks
        self.limits = Limits()
        self._answer: asyncio.Future[bool] = self._loop.create_future()
        self._subscribed: asyncio.Future[Sequence[Any]] = self._loop.create_future()
        self._misc: asyncio.TimerHandle | None = None
        self._is_paused = False
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, reconnect_on_failure=False, manual_ack=True
        )
        client.enable_logger(_quiet)
        client.connect_timeout = 10.0
        client.max_inflight_messages_set(0)  # the window is kept by who publishes
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        client.on_message = lambda _, __, message: on_message(message)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._has_subscribed
        client.on_publish = self._acknowledged
        client.on_socket_open = lambda _, __, sock: self._soon(self._opened, sock)
        client.on_socket_close = self._closed
        client.on_socket_register_write = lambda _, __, sock: self._soon(self._watch_write, sock)
        client.on_socket_unregister_write = self._written
        self._client = client

    async def open(self) -> bool:
        """Connects; whether the broker has kept the session.

        Raises:
            Away: the broker can't be reached.
            ConnectorError: it refuses, in a way that waiting doesn't change.
        """
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._receive_maximum
        if self._session_s:
            properties.SessionExpiryInterval = self._session_s
        try:
            async with asyncio.timeout(ANSWER_S):
                # paho looks the name up, connects and shakes hands in one blocking call
                await asyncio.to_thread(self._connect, properties)
                return await self._answer
        except TimeoutError:
            raise Away("no answer in time") from None
        except ssl.SSLError as error:
            why = error.reason or type(error).__name__
            raise ConnectorError(f"can't connect to the {self._broker}: TLS: {why}") from error
        except OSError as error:
            raise Away(error.strerror or type(error).__name__) from error

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribes to topics with QoS 1.

        Raises:
            Away: the broker can't be reached.
            ConnectorError: it refuses a topic.
        """
        options = SubscribeOptions(qos=1, retainHandling=_NEW_ONLY)
        self._client.subscribe([(topic, options) for topic in topics])
        try:
            async with asyncio.timeout(ANSWER_S):
                codes = await self._subscribed
        except TimeoutError:
            raise Away("no answer in time") from None
        for topic, code in zip(topics, codes, strict=False):
            if code.is_failure:
                what = f"the {self._broker} refuses the subscription to {topic!r}: {code}"
                raise ConnectorError(what, hint="check the topic and the rights of this user")

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """Sends a message with QoS 1; its number.

        Raises:
            ValueError: there can be no such topic, or the message is too long.
        """
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def acknowledge(self, message_id: int) -> None:
        """Tells the broker that a message of QoS 1 need not be sent again."""
        self._client.ack(message_id, 1)

    def pause(self) -> None:
        """Stops reading until `resume`."""
        if not self._is_paused and (sock := self._client.socket()) is not None:
            self._is_paused = True
            self._loop.remove_reader(sock)

    def resume(self) -> None:
        """Reads again."""
        if self._is_paused and (sock := self._client.socket()) is not None:
            self._is_paused = False
            self._loop.add_reader(sock, self._read)

    async def close(self) -> None:
        """Says goodbye, and waits until the broker has heard it, for two seconds at most; it keeps the session."""
        if self._misc is not None:
            self._misc.cancel()
        if not self.lost.done():
            self.lost.cancel()
        # a connection attempt that still goes on in its thread finds itself unwanted
        sock: Any = self._client.socket()
        if sock is None:
            return
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._leave(sock)
        self._loop.remove_reader(sock)
        sock.close()

    async def _leave(self, sock: Any) -> None:
        """Sends what is left, and reads until the broker has closed: a connection that is closed with something unread
        is reset, and acknowledgements that the broker hasn't read yet are lost with it."""
        while self._client.want_write():
            self._client.loop_write()
            await asyncio.sleep(0)
        sock.send(_DISCONNECT)
        sock.shutdown(socket.SHUT_WR)
        ready = asyncio.Event()
        self._loop.add_reader(sock, ready.set)
        while True:
            await ready.wait()
            ready.clear()
            # below TLS, if there is any: nobody wants to know what it is
            if not os.read(sock.fileno(), 1 << 16):
                return

    # --- what paho calls ------------------------------------------------------------------------------------------

    def _connect(self, properties: Properties) -> None:
        """In a thread, for it blocks."""
        broker = self._broker
        if broker.tls:
            self._client.tls_set_context(ssl.create_default_context(cafile=broker.ca_file))
        clean = self._session_s == 0
        self._client.connect(broker.host, broker.port, broker.keepalive_s, clean_start=clean, properties=properties)

    def _soon(self, call: Callable[[Any], None], sock: Any) -> None:
        # the loop is closed when a job has ended while its last attempt to connect went on
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, sock)

    def _opened(self, sock: Any) -> None:
        if self.lost.done() or sock.fileno() < 0:
            sock.close()
            return
        self._loop.add_reader(sock, self._read)
        self._misc = self._loop.call_later(1.0, self._keep_alive)

    def _closed(self, _: Any, __: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock)

    def _written(self, _: Any, __: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_writer(sock)

    def _watch_write(self, sock: Any) -> None:
        if not self.lost.done() and sock.fileno() >= 0:
            self._loop.add_writer(sock, self._client.loop_write)

    def _read(self) -> None:
        self._client.loop_read()
        sock: Any = self._client.socket()
        while isinstance(sock, ssl.SSLSocket) and sock.pending():  # decrypted already: `select` doesn't see it
            self._client.loop_read()
            sock = self._client.socket()

    def _keep_alive(self) -> None:
        # while nothing is read an answer to a ping couldn't be seen
        if not self._is_paused:
            self._client.loop_misc()
        if not self.lost.done():
            self._misc = self._loop.call_later(1.0, self._keep_alive)

    def _connected(self, _: Any, __: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._answer.done():
            return
        if not reason.is_failure:
            self.limits = Limits.of(properties)
            self._answer.set_result(flags.session_present)
        elif reason.value in _REFUSED_FOR_GOOD:
            hint = "check the user, the password and the client id"
            self._answer.set_exception(ConnectorError(f"the {self._broker} refuses us: {reason}", hint=hint))
        else:
            self._answer.set_exception(Away(str(reason)))

    def _disconnected(self, _: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        error: Exception = Away(str(reason) if flags.is_disconnect_packet_from_server else "the connection broke")
        if flags.is_disconnect_packet_from_server and reason.value in _REFUSED_FOR_GOOD:
            what = f"the {self._broker} has ended the connection: {reason}"
            error = ConnectorError(what, hint="check what it allows to be sent, and the rights of this user")
        elif reason.value == _TAKEN_OVER:
            what = f"another client has taken over the session {self._client_id!r} at the {self._broker}"
            error = ConnectorError(what, hint="every job needs a client id of its own: give client_id=")
        for future in (self._answer, self._subscribed, self.lost):
            if not future.done():
                future.set_exception(error)
                future.exception()  # not all of them are waited for

    def _has_subscribed(self, _: Any, __: Any, ___: int, codes: Sequence[Any], ____: Any) -> None:
        if not self._subscribed.done():
            self._subscribed.set_result(codes)

    def _acknowledged(self, _: Any, __: Any, number: int, reason: Any, ___: Any) -> None:
        self._on_acknowledged(number, str(reason) if reason.is_failure else None)
