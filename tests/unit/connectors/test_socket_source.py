from __future__ import annotations

import asyncio

import pytest

from streamcore.connectors import socket_source
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.socket_source import SocketSource
from streamcore.errors import BadRecordError, ConnectorError, UsageError


class Reading:
    """Polls a source as the runtime does: again when there was something or `wake` was called."""

    def __init__(self, source):
        self.woken = asyncio.Event()
        self.bad = []
        context = ReaderContext(wake=self.woken.set, now=lambda: 0.0, report_bad=self.bad.append)
        self.reader = source.reader(source.splits()[0], None, context)
        self.rows = []

    async def to_the_end(self, limit=1000):
        async with asyncio.timeout(20):
            while not self.reader.exhausted:
                self.woken.clear()
                rows = self.reader.poll(limit)
                assert len(rows) <= limit
                self.rows += rows
                if not rows and not self.reader.exhausted:
                    await self.woken.wait()
        return self.rows


def serve(content, read, unix_path=None):
    """Runs `read(port)` against a server that sends `content` to whoever connects."""

    async def handle(_, writer):
        writer.write(content)
        writer.close()

    async def run():
        if unix_path is None:
            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
        else:
            server, port = await asyncio.start_unix_server(handle, unix_path), 0
        try:
            return await read(port)
        finally:
            server.close()

    return asyncio.run(run())


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_lines_until_the_peer_closes(limit):
    async def read(port):
        reading = Reading(SocketSource("127.0.0.1", port))
        rows = await reading.to_the_end(limit)
        assert reading.reader.offset == 4
        reading.reader.close()
        return rows

    assert serve("a\n\nb é\r\nlast".encode(), read) == ["a", "", "b é", "last"]
    assert not SocketSource("x", 1).bounded


def test_unix_sockets_and_lines_longer_than_a_read(tmp_path):
    path = str(tmp_path / "s")
    lines = ["x" * 200_000, "y", "z" * 70_000]

    async def read(_):
        return await Reading(SocketSource.unix(path)).to_the_end()

    assert serve("\n".join(lines).encode(), read, path) == lines


def test_a_slow_reader_makes_the_peer_wait(monkeypatch):
    monkeypatch.setattr(socket_source, "BUFFER_LINES", 1000)
    count = 300_000
    sent = []

    async def handle(_, writer):
        for start in range(0, count, 1000):
            writer.write("".join(f"line number {i:060}\n" for i in range(start, start + 1000)).encode())
            await writer.drain()
            sent.append(start)
        writer.close()

    async def run():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reading = Reading(SocketSource("127.0.0.1", server.sockets[0].getsockname()[1]))
        reading.rows += reading.reader.poll(1)
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert len(sent) < count // 1000, "the peer was made to wait"
        rows = await reading.to_the_end()
        server.close()
        return rows

    rows = asyncio.run(run())
    assert rows == [f"line number {i:060}" for i in range(count)]


def test_lines_that_are_not_utf8():
    async def fail(port):
        await Reading(SocketSource("127.0.0.1", port)).to_the_end()

    with pytest.raises(BadRecordError, match=r"127\.0\.0\.1:\d+, line 2: not UTF-8"):
        serve(b"a\n\xff\nb\n", fail)

    async def skip(port):
        reading = Reading(SocketSource("127.0.0.1", port, on_error="side_output"))
        assert await reading.to_the_end() == ["a", "b"]
        return reading.bad

    (bad,) = serve(b"a\n\xff\nb\n", skip)
    assert (bad.text, bad.position) == ("\\xff", "line 2")


def test_nobody_listens(tmp_path):
    async def read(source):
        await Reading(source).to_the_end()

    with pytest.raises(ConnectorError, match=r"can't connect to 127\.0\.0\.1:1: "):
        asyncio.run(read(SocketSource("127.0.0.1", 1)))
    with pytest.raises(ConnectorError, match=r"can't connect to unix:.*/none: No such file"):
        asyncio.run(read(SocketSource.unix(str(tmp_path / "none"))))
    with pytest.raises(UsageError, match="70000 is not a port"):
        SocketSource("x", 70000)


def test_closing_ends_the_connection():
    closed = []

    async def handle(reader, _):
        closed.append(await reader.read())

    async def run():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reading = Reading(SocketSource("127.0.0.1", server.sockets[0].getsockname()[1]))
        assert reading.reader.poll(1) == []
        await asyncio.sleep(0.05)
        reading.reader.close()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if closed:
                break
        server.close()

    asyncio.run(run())
    assert closed == [b""]
