"""WebSocketSource against a real server."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import NamedTuple

import pytest
from aiohttp import web
from connector_rig import Reading

from streamcore.connectors import push_reader
from streamcore.connectors.web import Backoff, WebSocketSource
from streamcore.errors import BadRecordError, ConnectorError

SECRET = "xyzzy"  # noqa: S105 - not in a line that raises, which a traceback shows
QUICK = Backoff(first_s=0.01, longest_s=0.05)


class Trade(NamedTuple):
    symbol: str
    price: float


class Sockets:
    """What the server does with each WebSocket: `script(socket, n)`, n counting them from 0."""

    def __init__(self, service, script):
        self.opened, self.headers, self.service = 0, [], service
        self.script = script
        service.stream = self

    async def __call__(self, request):
        number, self.opened = self.opened, self.opened + 1
        self.headers.append(dict(request.headers))
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await self.script(socket, number)
        return socket

    @property
    def url(self):
        return f"ws://{self.service.host}/feed"


async def until_closed(socket):
    async for _ in socket:
        pass


def reading(source, do):
    async def run():
        one = Reading(source)
        try:
            return await do(one)
        finally:
            await one.close()

    return asyncio.run(run())


@pytest.mark.parametrize("limit", [1, 1000])
def test_messages_are_records(service, limit):
    async def script(socket, _):
        await socket.send_str('{"symbol": "A", "price": 1.5}')
        await socket.send_bytes(b'{"symbol": "B", "price": 2}')
        await socket.send_str('{"symbol": "C", "price": 3}')
        await until_closed(socket)

    sockets = Sockets(service, script)
    source = WebSocketSource(sockets.url, Trade)
    assert source.schema.names == ("symbol", "price")

    async def take(one):
        rows = await one.take(3, limit)
        assert one.reader.offset == 3
        return rows

    assert reading(source, take) == [Trade("A", 1.5), Trade("B", 2.0), Trade("C", 3.0)]


def test_it_subscribes_again_after_each_connecting(service):
    async def script(socket, number):
        asked = [(await socket.receive()).data for _ in range(2)]
        await socket.send_str(json.dumps([number, asked]))
        if number % 2:
            await socket.close()

    sockets = Sockets(service, script)
    source = WebSocketSource(
        sockets.url, subscribe=["hello", {"channel": "trades"}], headers={"Authorization": "xyzzy"}, backoff=QUICK
    )
    asked = ["hello", '{"channel":"trades"}']
    rows = reading(source, lambda one: one.take(4))
    assert rows == [[number, asked] for number in range(4)]
    assert {headers["Authorization"] for headers in sockets.headers} == {"xyzzy"}


def test_a_server_that_is_away_is_waited_for(service):
    async def script(socket, number):
        await socket.send_str(str(number))
        await until_closed(socket)

    sockets = Sockets(service, script)

    async def do(one):
        await one.take(1)
        service.stop()
        async with asyncio.timeout(20):
            while not one.waits:
                await asyncio.sleep(0.005)
        service.start()
        await one.take(2)
        return one.rows, one.waits

    rows, waits = reading(WebSocketSource(sockets.url, backoff=QUICK), do)
    assert rows == [0, 1]
    assert waits == [f"WebSocket at {sockets.url}", None]


def test_a_server_that_says_nothing_any_more_is_left(service):
    async def script(socket, number):
        await socket.send_str(str(number))
        while (message := await socket.receive()).type is web.WSMsgType.PING:
            if number:  # the first one doesn't answer
                await socket.pong(message.data)
                await socket.send_str("ponged")

    sockets = Sockets(service, script)
    source = WebSocketSource(sockets.url, heartbeat_s=0.05, backoff=QUICK, format="text")

    async def do(one):
        return await one.take(4), one.waits

    rows, waits = reading(source, do)
    assert rows == ["0", "1", "ponged", "ponged"]
    assert waits == [f"WebSocket at {sockets.url}", None]


def test_pings_are_answered(service):
    async def script(socket, _):
        await socket.ping(b"are you there")
        answer = await socket.receive()
        await socket.send_bytes(answer.type.name.encode() + b" " + answer.data)
        await until_closed(socket)

    sockets = Sockets(service, script)
    assert reading(WebSocketSource(sockets.url, format="bytes"), lambda one: one.take(1)) == [b"PONG are you there"]


def test_a_slow_job_makes_the_server_wait(service, monkeypatch):
    monkeypatch.setattr(push_reader, "BUFFER_MESSAGES", 100)
    sent, count = [], 20_000

    async def script(socket, _):
        for n in range(count):
            await socket.send_str(f"{n:01000}")
            sent.append(n)
        await until_closed(socket)

    sockets = Sockets(service, script)

    async def do(one):
        await one.take(1, limit=1)
        before = -1
        while before < len(sent):  # until the server can't send any more
            before = len(sent)
            await asyncio.sleep(0.1)
        assert len(sent) < count
        assert not one.waits
        await one.take(count)
        return one.rows, one.waits

    # the heartbeat must not take a server that waits for one that is gone
    rows, waits = reading(WebSocketSource(sockets.url, format="text", heartbeat_s=0.03), do)
    assert [int(row) for row in rows] == list(range(count))
    assert waits == []


def test_malformed_messages(service):
    async def script(socket, _):
        for text in ('{"symbol": "A", "price": 1}', '{"symbol": 3}', '{"symbol": "B", "price": 2}'):
            await socket.send_str(text)
        await until_closed(socket)

    sockets = Sockets(service, script)

    async def skipped(one):
        return await one.take(2), one.bad

    rows, (bad,) = reading(WebSocketSource(sockets.url, Trade, on_error="side_output"), skipped)
    assert [row.symbol for row in rows] == ["A", "B"]
    assert (bad.text, bad.split, bad.position) == ('{"symbol": 3}', f"WebSocket at {sockets.url}", "message 2")
    with pytest.raises(BadRecordError, match=r"WebSocket at ws://.*/feed, message 2: "):
        reading(WebSocketSource(sockets.url, Trade), lambda one: one.take(2))


def test_refusals_are_errors_and_a_server_that_is_busy_is_waited_for(service):
    async def refuses(_):
        return web.Response(status=403)

    service.stream = refuses
    url = f"ws://user:{SECRET}@{service.host}/feed?token={SECRET}"
    with pytest.raises(ConnectorError, match="answers 403 Forbidden") as error:
        reading(WebSocketSource(url), lambda one: one.take(1))
    assert SECRET not in "".join(traceback.format_exception(error.value))

    async def script(socket, _):
        await socket.send_str("1")
        await until_closed(socket)

    async def busy(request):
        sockets = Sockets(service, script)
        service.stream = sockets
        return web.Response(status=503, headers={"Retry-After": "0"})

    service.stream = busy
    source = WebSocketSource(f"ws://{service.host}/feed", backoff=QUICK)

    async def do(one):
        return await one.take(1), one.waits

    assert reading(source, do) == ([1], [source.name, None])


def test_a_message_that_is_too_long(service):
    async def script(socket, _):
        await socket.send_str("12")
        await socket.send_str("1" * 1000)
        await until_closed(socket)

    sockets = Sockets(service, script)
    with pytest.raises(ConnectorError, match="a message of more than 500 bytes") as error:
        reading(WebSocketSource(sockets.url, max_message_bytes=500), lambda one: one.take(2))
    assert "max_message_bytes" in error.value.hint
