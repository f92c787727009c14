"""HttpSink over real sockets: what is sent, in which order, how often, and when it counts as delivered."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import subprocess
import traceback
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from connector_rig import Writing, deliver
from http_service import DROP, HttpService

from streamcore.connectors.web import Backoff, HttpSink
from streamcore.errors import BadRecordError, ConnectorError, UsageError

SECRET = "xyzzy"  # noqa: S105 - not in a line that raises, which a traceback shows
QUICK = Backoff(first_s=0.01, longest_s=0.05)


@dataclass
class Order:
    number: int
    item: str


class Point(NamedTuple):
    x: int
    y: int


def numbers(service):
    return [n for body in service.bodies for n in (json.loads(body) if body.startswith(b"[") else [json.loads(body)])]


def test_a_record_is_one_request(service):
    sink = HttpSink(service.url, headers={"Authorization": "Bearer t"}, idempotency_key="number", concurrency=1)
    deliver(sink, Order(1, "ü"), Order(2, "a\nb"))
    assert [json.loads(one.body) for one in service.received] == [
        {"number": 1, "item": "ü"},
        {"number": 2, "item": "a\nb"},
    ]
    first = service.received[0]
    assert (first.method, first.path) == ("POST", "/in")
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Authorization"] == "Bearer t"
    assert [one.headers["Idempotency-Key"] for one in service.received] == ["1", "2"]


def test_the_method_and_the_name_of_the_key_can_be_others(service):
    sink = HttpSink(service.url, method="PUT", idempotency_key=lambda row: f"k{row['n']}", idempotency_header="X-Id")
    deliver(sink, {"n": 7})
    assert service.received[0].method == "PUT"
    assert service.received[0].headers["X-Id"] == "k7"


def test_batches_are_arrays_or_lines(service):
    deliver(HttpSink(service.url, body="array", batch=3, concurrency=1), *(Point(n, -n) for n in range(7)))
    assert [json.loads(body) for body in service.bodies] == [
        [{"x": n, "y": -n} for n in range(start, min(start + 3, 7))] for start in (0, 3, 6)
    ]
    service.received.clear()
    deliver(HttpSink(service.url, body="lines", batch=2, concurrency=1), 1, "two", 3.5)
    assert service.bodies == [b'1\n"two"\n', b"3.5\n"]
    assert service.received[0].headers["Content-Type"] == "application/x-ndjson"


def test_an_incomplete_batch_is_sent_after_a_while(service):
    async def run():
        async with Writing(HttpSink(service.url, body="array", batch=100, linger_s=0.01)) as writing:
            writing.write(1)
            writing.write(2)
            await service.has(1)

    asyncio.run(run())
    assert numbers(service) == [1, 2]


def test_a_cut_sends_an_incomplete_batch_at_once(service):
    deliver(HttpSink(service.url, body="array", batch=100, linger_s=1000), 1, 2)
    assert service.bodies == [b"[1,2]"]


def test_so_many_requests_at_a_time_and_then_the_stream_waits(service):
    gate = asyncio.Event()

    async def answer(_):
        await gate.wait()
        return 200

    async def opened():
        gate.set()

    service.answer = answer

    async def run():
        async with Writing(HttpSink(service.url, concurrency=3)) as writing:
            count = 0
            while not writing.writer.is_full:
                writing.write(count)
                count += 1
            await service.has(3)
            assert (service.running, writing.wakes) == (3, 0)
            service.call(opened())
            await writing.prepared()
            assert not writing.writer.is_full
            assert writing.wakes >= 1
            return count

    count = asyncio.run(run())
    assert service.most_running == 3
    assert sorted(numbers(service)) == list(range(count))


def test_a_cut_waits_for_what_was_written_before_it_and_not_for_what_came_after(service):
    gate = asyncio.Event()

    async def answer(received):
        if received.body == b"2":
            await gate.wait()
        return 200

    async def opened():
        gate.set()

    service.answer = answer

    async def run():
        async with Writing(HttpSink(service.url)) as writing:
            writing.write(1)
            first = writing.writer.prepare()
            writing.write(2, 3)
            second = writing.writer.prepare()
            assert list(await first) == []
            writing.write(4)
            third = writing.writer.prepare()
            await service.has(4)
            assert not second.done()
            assert not third.done()
            service.call(opened())
            assert [list(await second), list(await third)] == [[], []]

    asyncio.run(run())


def test_records_with_the_same_key_stay_in_order_whatever_happens(service):
    chance = random.Random(5)
    running = Counter()
    delivered = []

    async def answer(received):
        row = json.loads(received.body)
        running[row["key"]] += 1
        assert running[row["key"]] == 1, "two requests of one key at a time"
        await asyncio.sleep(chance.random() * 0.003)
        running[row["key"]] -= 1
        if (outcome := chance.random()) < 0.2:
            return 503 if outcome < 0.1 else DROP
        delivered.append((row["key"], row["n"]))
        return 200

    service.answer = answer
    rows = [{"key": f"k{chance.randrange(6)}", "n": n} for n in range(150)]
    deliver(HttpSink(service.url, ordered_by="key", backoff=Backoff(0.001, 0.005)), *rows)
    assert service.most_running > 1
    for key in {row["key"] for row in rows}:
        assert [n for k, n in delivered if k == key] == [row["n"] for row in rows if row["key"] == key]


def test_a_service_that_asks_to_wait_is_left_alone_by_all_requests(service):
    times = []

    async def answer(_):
        times.append(asyncio.get_running_loop().time())
        return (503, {"Retry-After": "1"}) if len(times) == 1 else 200

    service.answer = answer

    async def run():
        async with Writing(HttpSink(service.url, concurrency=4, backoff=QUICK)) as writing:
            writing.write(1)
            await service.has(1)
            await asyncio.sleep(0.05)  # until the answer is there
            writing.write(2, 3, 4)
            await writing.prepared()

    asyncio.run(run())
    assert sorted(numbers(service)) == [1, 1, 2, 3, 4]
    assert min(times[1:]) - times[0] >= 0.95


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, DROP])
def test_a_service_that_is_away_is_asked_until_it_answers(service, status):
    service.answer = lambda _: 200 if len(service.received) > 12 else status
    waits = deliver(HttpSink(service.url, attempts=2, concurrency=2, backoff=QUICK), 1, 2)
    assert set(numbers(service)) == {1, 2}
    assert waits == [f"HTTP service at {service.url}", None]


def test_a_server_that_restarts_is_waited_for(service, caplog):
    caplog.set_level(logging.INFO, logger="streamcore.connectors")

    async def run():
        async with Writing(HttpSink(service.url, backoff=QUICK)) as writing:
            writing.write(1)
            await writing.prepared()
            service.stop()
            writing.write(2, 3)
            async with asyncio.timeout(20):
                while not writing.waits:
                    await asyncio.sleep(0.005)
            service.start()
            await writing.prepared()
            return writing.waits

    waits = asyncio.run(run())
    assert waits == [f"HTTP service at {service.url}", None]
    assert sorted(numbers(service)) == [1, 2, 3]
    (logged,) = [record.getMessage() for record in caplog.records if "HTTP service" in record.getMessage()]
    assert logged.startswith(f"HTTP service at {service.url}: ")


def test_an_outage_lasts_until_no_request_waits_any_more(service):
    """A service that takes some records and is away for one: that is one outage."""
    asked, done = asyncio.Event(), []

    async def answer(received):
        nonlocal asked
        if received.body == b"0":
            asked.set()
            asked = asyncio.Event()
            return 503 if len(done) < 5 else 200
        await asked.wait()  # until the other one is sent again
        done.append(received.body)
        return 200

    service.answer = answer
    waits = deliver(HttpSink(service.url, concurrency=2, backoff=QUICK), *range(6))
    assert waits == [f"HTTP service at {service.url}", None]


def test_no_answer_in_time_is_asked_again(service):
    async def answer(_):
        if len(service.received) == 1:
            await asyncio.sleep(30)
        return 200

    service.answer = answer
    deliver(HttpSink(service.url, timeout_s=0.1, backoff=QUICK), 1)
    assert numbers(service) == [1, 1]


@pytest.mark.parametrize(
    ("answer", "kind", "told", "times"),
    [
        ((422, {}, "no such item"), BadRecordError, "422 Unprocessable .*: no such item", 1),
        (401, ConnectorError, "401 Unauthorized", 1),
        (404, ConnectorError, "404 Not Found", 1),
        ((301, {"Location": "/elsewhere"}), ConnectorError, "301 Moved Permanently", 1),
        (500, ConnectorError, r"500 Internal Server Error \(sent 3 times\)", 3),
    ],
)
def test_what_is_refused_is_an_error(service, answer, kind, told, times):
    service.answer = lambda _: answer
    sink = HttpSink(
        f"{service.url}?token={SECRET}", headers={"Authorization": "xyzzy"}, attempts=3, backoff=QUICK, concurrency=1
    )
    with pytest.raises(kind, match=told) as error:
        deliver(sink, {"n": 1}, {"n": 2})
    assert '{"n":1}' in str(error.value)
    assert 'on_refused="drop"' in error.value.hint
    assert "xyzzy" not in str(error.value)
    assert len(service.received) == times


def test_what_is_refused_can_be_dropped_and_is_counted(service, caplog):
    service.answer = lambda received: 400 if json.loads(received.body) % 3 == 0 else 200
    deliver(HttpSink(service.url, on_refused="drop", backoff=QUICK, concurrency=1), *range(60))
    assert sorted(numbers(service)) == list(range(60))
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 3  # the first one, the tenth, and the sum
    assert "400 Bad Request, dropped, 1 so far; the first: 0" in logged[0]
    assert "refused 20 records in all" in logged[-1]


def test_a_certificate_that_is_not_trusted_is_an_error(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    service = HttpService(tls)
    try:
        service.start()
        with pytest.raises(ConnectorError, match=r"can't send to https://127\.0\.0\.1:\d+/in: TLS: .*(?i:certificate)"):
            deliver(HttpSink(service.url), 1)
    finally:
        service.end()


def test_an_address_that_is_none_is_an_error_without_its_secrets():
    with pytest.raises(ConnectorError, match=r"can't send to .*: InvalidUrlClientError") as error:
        deliver(HttpSink(f"http://a\x80/?token={SECRET}"), 1)
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_records_that_cannot_be_sent(service):
    with pytest.raises(BadRecordError, match="JSON"):
        deliver(HttpSink(service.url), object())
    with pytest.raises(BadRecordError, match="no field 'id'"):
        deliver(HttpSink(service.url, idempotency_key="id"), {"n": 1})
    with pytest.raises(BadRecordError, match="can't be sent in a header"):
        deliver(HttpSink(service.url, idempotency_key="id"), {"id": "a\r\nX-Other: 1"})
    with pytest.raises(UsageError, match="can't be ordered by"):
        deliver(HttpSink(service.url, ordered_by="id"), {"id": [1]})
    assert service.received == []


def test_closing_ends_what_is_on_its_way(service):
    async def answer(_):
        await asyncio.sleep(30)

    service.answer = answer

    async def run():
        async with Writing(HttpSink(service.url)) as writing:
            writing.write(1)
            await service.has(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not writing.failed.done()

    asyncio.run(run())
