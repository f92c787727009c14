"""ServerSentEventsSource against a real server."""

from __future__ import annotations

import asyncio
import itertools
import traceback
from typing import NamedTuple

import pytest
from aiohttp import web
from connector_rig import Reading

from streamcore.connectors import push_reader
from streamcore.connectors.web import Backoff, ServerSentEventsSource
from streamcore.errors import BadRecordError, ConnectorError

SECRET = "xyzzy"  # noqa: S105 - not in a line that raises, which a traceback shows
QUICK = Backoff(first_s=0.01, longest_s=0.05)


class Edit(NamedTuple):
    n: int


class Feed:
    """Numbers 0 … count-1 with ids, from the one after `Last-Event-ID`; a connection has at most `at_once` of them."""

    def __init__(self, service, count, at_once):
        self.service, self.count, self.at_once = service, count, at_once
        self.asked = []
        service.stream = self

    async def __call__(self, request):
        last = request.headers.get("Last-Event-ID")
        self.asked.append(last)
        start = 0 if last is None else int(last) + 1
        if start == self.count:
            return web.Response(status=204)
        response = await events(request)
        for n in range(start, min(start + self.at_once, self.count)):
            await response.write(b'id: %d\ndata: {"n": %d}\n\n' % (n, n))
        return response


async def events(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


def once(service, content):
    """Sends the content to the first who connects, and says to the second that there is no more."""
    asked = []

    async def stream(request):
        asked.append(request)
        if len(asked) > 1:
            return web.Response(status=204)
        response = await events(request)
        await response.write(content)
        return response

    service.stream = stream
    return asked


def reading(source, do, offset=None):
    async def run():
        one = Reading(source, offset)
        try:
            return await do(one)
        finally:
            await one.close()

    return asyncio.run(run())


async def to_the_end(one):
    await one.until(lambda one: one.reader.exhausted)
    return one.rows


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_stream_goes_on_after_its_last_event(service, limit):
    feed = Feed(service, 20, at_once=6)
    source = ServerSentEventsSource(service.url, Edit, backoff=QUICK)
    assert source.schema.names == ("n",)

    async def do(one):
        await one.until(lambda one: one.reader.exhausted, limit)
        return one.rows, one.reader.offset, one.waits

    rows, offset, waits = reading(source, do)
    assert rows == [Edit(n) for n in range(20)]
    assert feed.asked == [None, "5", "11", "17", "19"]
    assert (offset, waits) == ("19", [])


def test_the_offset_is_the_last_event_that_was_handed_out(service):
    feed = Feed(service, 10, at_once=10)
    source = ServerSentEventsSource(service.url, Edit, backoff=QUICK)

    async def some(one):
        await one.take(4, limit=4)
        return one.reader.offset

    offset = reading(source, some)
    assert offset == "3"
    rest = reading(source, to_the_end, offset)
    assert rest == [Edit(n) for n in range(4, 10)]
    assert feed.asked[-2:] == ["3", "9"]
    assert reading(ServerSentEventsSource(service.url, last_event_id="7", backoff=QUICK), to_the_end) == [
        {"n": 8},
        {"n": 9},
    ]


def test_types_of_events_and_lines_of_data(service):
    asked = once(service, b"event: edit\ndata: a\ndata: b\n\ndata: c\n\nevent: other\ndata: d\n\n: e\n\n")
    source = ServerSentEventsSource(
        service.url, format="text", events=["edit", "message"], headers={"Authorization": "xyzzy"}, backoff=QUICK
    )
    assert reading(source, to_the_end) == ["a\nb", "c"]
    assert asked[0].headers["Accept"] == "text/event-stream"
    assert asked[0].headers["Authorization"] == "xyzzy"
    assert "Last-Event-ID" not in asked[1].headers


def test_an_id_without_data_counts_for_the_next_connection(service):
    asked = once(service, b"id: 1\ndata: 1\n\nid: 9\n\n")
    assert reading(ServerSentEventsSource(service.url, backoff=QUICK), to_the_end) == [1]
    assert asked[1].headers["Last-Event-ID"] == "9"


def test_the_server_says_how_long_to_wait(service):
    times = []

    async def stream(request):
        times.append(asyncio.get_running_loop().time())
        if len(times) == 3:
            return web.Response(status=204)
        response = await events(request)
        await response.write(b"retry: 200\ndata: 1\n\n")
        return response

    service.stream = stream
    assert reading(ServerSentEventsSource(service.url, backoff=Backoff(first_s=30)), to_the_end) == [1, 1]
    assert all(0.19 <= after - before < 5 for before, after in itertools.pairwise(times))


def test_a_server_that_is_away_or_busy_is_waited_for(service):
    feed = Feed(service, 3, at_once=2)

    async def do(one):
        await one.take(1)
        service.stop()
        async with asyncio.timeout(20):
            while not one.waits:
                await asyncio.sleep(0.005)

        async def busy(request):
            service.stream = feed
            return web.Response(status=503)

        service.stream = busy
        service.start()
        await one.until(lambda one: one.reader.exhausted)
        return one.rows, one.waits

    source = ServerSentEventsSource(service.url, Edit, backoff=QUICK)
    assert reading(source, do) == ([Edit(0), Edit(1), Edit(2)], [source.name, None])


def test_silence_is_a_broken_connection(service):
    gate = asyncio.Event()

    async def stream(request):
        if "Last-Event-ID" in request.headers:
            return web.Response(status=204)
        response = await events(request)
        await response.write(b"id: 1\ndata: 1\n\n")
        await gate.wait()
        return response

    service.stream = stream

    async def do(one):
        return await to_the_end(one), one.waits

    source = ServerSentEventsSource(service.url, silence_s=0.1, backoff=QUICK)
    rows, waits = reading(source, do)
    assert rows == [1]
    assert waits == [source.name]


def test_a_slow_job_makes_the_server_wait(service, monkeypatch):
    monkeypatch.setattr(push_reader, "BUFFER_MESSAGES", 100)
    sent, count = [], 20_000

    async def stream(request):
        if request.headers.get("Last-Event-ID") == str(count - 1):
            return web.Response(status=204)
        response = await events(request)
        for n in range(count):
            await response.write(b"id: %d\ndata: %01000d\n\n" % (n, n))
            sent.append(n)
        return response

    service.stream = stream

    async def do(one):
        await one.take(1, limit=1)
        before = -1
        while before < len(sent):
            before = len(sent)
            await asyncio.sleep(0.1)
        assert len(sent) < count
        return await to_the_end(one)

    # the time limit for silence stands still meanwhile
    rows = reading(ServerSentEventsSource(service.url, format="text", silence_s=0.05, backoff=QUICK), do)
    assert [int(row) for row in rows] == list(range(count))


def test_malformed_data(service):
    content = b'id: a\ndata: {"n": 1}\n\nid: b\ndata: {"n":\n\ndata: {"n": 2}\n\n'
    once(service, content)
    source = ServerSentEventsSource(service.url, Edit, on_error="side_output", backoff=QUICK)

    async def do(one):
        return await to_the_end(one), one.bad

    rows, (bad,) = reading(source, do)
    assert rows == [Edit(1), Edit(2)]
    assert (bad.text, bad.position) == ('{"n":', "event 'b'")
    once(service, content)
    with pytest.raises(BadRecordError, match=r"event 'b': .*truncated"):
        reading(ServerSentEventsSource(service.url, Edit, backoff=QUICK), to_the_end)


def test_what_is_no_stream_of_events_is_an_error(service):
    async def page(_):
        return web.Response(text="<html>", content_type="text/html")

    service.stream = page
    with pytest.raises(ConnectorError, match="sends text/html, not text/event-stream"):
        reading(ServerSentEventsSource(service.url), to_the_end)

    async def refuses(_):
        return web.Response(status=401)

    service.stream = refuses
    with pytest.raises(ConnectorError, match="answers 401 Unauthorized") as error:
        reading(ServerSentEventsSource(f"{service.url}?token={SECRET}"), to_the_end)
    assert SECRET not in "".join(traceback.format_exception(error.value))
    with pytest.raises(ConnectorError, match=r"can't read .*: InvalidUrlClientError") as error:
        reading(ServerSentEventsSource(f"http://a\x80/?token={SECRET}"), to_the_end)
    assert SECRET not in "".join(traceback.format_exception(error.value))
