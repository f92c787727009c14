"""Whole jobs with the web connectors, in this process."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from aiohttp import web

from streamcore import Checkpointing, FixedDelay, NoRestart, StreamEnvironment, col
from streamcore.connectors.web import Backoff, HttpSink, ServerSentEventsSource
from streamcore.errors import ConnectorError, JobFailedError

QUICK = Backoff(first_s=0.01, longest_s=0.05)


class Sale(NamedTuple):
    item: str
    price: float


def test_typed_events_are_columns_and_go_out_in_batches(service):
    async def feed(request):
        if request.path == "/in":
            return web.Response()
        if "Last-Event-ID" in request.headers:
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for n in range(20):
            await response.write(b'id: %d\ndata: {"item": "i%d", "price": %d}\n\n' % (n, n, n))
        await response.write(b"data: nothing\n\n")
        return response

    service.stream = feed
    env = StreamEnvironment(restart=NoRestart())
    source = ServerSentEventsSource(service.url + "/feed", Sale, on_error="skip", backoff=QUICK)
    dear = env.source(source).filter(col("price") >= 10)
    dear.sink(HttpSink(service.url, body="lines"))
    env.execute()
    lines = [json.loads(line) for one in service.received if one.path == "/in" for line in one.body.splitlines()]
    assert sorted(line["price"] for line in lines) == list(range(10, 20))
    assert {line["item"] for line in lines} == {f"i{n}" for n in range(10, 20)}


def test_a_service_that_fails_at_a_request_fails_the_attempt_and_nothing_is_lost(service, tmp_path):
    def answer(received):
        failed = [body for body in service.bodies if body == b"777"]
        return 500 if received.body == b"777" and len(failed) <= 2 else 200

    service.answer = answer
    env = StreamEnvironment(
        restart=FixedDelay(3, 0.01), checkpoint=Checkpointing(str(tmp_path), interval=0.02), parallelism=2
    )
    env.from_values(range(1000)).sink(HttpSink(service.url, attempts=2, backoff=QUICK)).uid("posts")
    assert env.execute().restarts == 1
    assert {int(body) for body in service.bodies} == set(range(1000))


def test_a_service_that_refuses_ends_the_job_with_what_it_said(service):
    service.answer = lambda _: (403, {}, "not for you")
    env = StreamEnvironment(restart=NoRestart())
    env.from_values([1]).sink(HttpSink(service.url))
    with pytest.raises((JobFailedError, ConnectorError), match="403 Forbidden: not for you"):
        env.execute()
