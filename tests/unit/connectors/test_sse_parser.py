"""The examples of the HTML standard (9.2.6), and any cutting of a stream into chunks."""

from __future__ import annotations

import random

import pytest

from streamcore.connectors.web.sse_parser import Event, EventParser

CASES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [(b"YHOO\n+2\n10", "message", None)]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        [(b"first event", "message", "1"), (b"second event", "message", "")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [(b"", "message", None), (b"\n", "message", None)]),
    (b"data:test\n\ndata: test\n\n", [(b"test", "message", None)] * 2),
    (b"event: add\ndata: 73857293\n\ndata: 2153\n\n", [(b"73857293", "add", None), (b"2153", "message", None)]),
    (b"event: nothing\n\ndata: x\n\n", [(b"x", "message", None)]),
    (b"id: a\0b\ndata: x\n\nid: 7\n\ndata: y\n\n", [(b"x", "message", None), (b"y", "message", "7")]),
    (b"data: a\rdata: b\r\ndata: c\n\r\ndata: d\r\r", [(b"a\nb\nc", "message", None), (b"d", "message", None)]),
    (b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n", [(b"x", "message", None)]),
    ("data: ü\nunknown: field\nevent: ä\n\n".encode(), [("ü".encode(), "ä", None)]),
]


@pytest.mark.parametrize(("stream", "expected"), CASES)
def test_events(stream, expected):
    expected = [Event(*event) for event in expected]
    # a CR at the end may be followed by an LF: the event is there when it is known what follows
    held = stream.endswith(b"\r")
    parser = EventParser()
    assert parser.feed(stream) + (parser.feed(b":") if held else []) == expected
    chance = random.Random(7)
    for _ in range(50):
        parser, found, rest = EventParser(), [], stream + b":" * held
        while rest:
            size = chance.randint(1, 6)
            found += parser.feed(rest[:size])
            rest = rest[size:]
        assert found == expected


def test_the_last_id_and_the_wait_before_connecting_again():
    parser = EventParser("5")
    assert parser.feed(b"data: x\n\n") == [Event(b"x", "message", "5")]
    parser.feed(b"id: 6\nretry: 1500\ndata: not complete\n")
    assert (parser.last_id, parser.retry_s) == ("5", 1.5)
    assert parser.size == len(b"not complete\n")
    parser.feed(b"\nretry: soon\nretry: " + b"9" * 5000 + b"\n")
    assert (parser.last_id, parser.retry_s) == ("6", 1.5)


def test_lines_without_data_count_too():
    parser = EventParser()
    parser.feed(b"data:\n" * 1000)
    assert parser.size == 1000
