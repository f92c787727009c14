"""Two data planes over a real socket: batches arrive as sent, uncopied, in every compression, in frames of any size."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import Columns, Schema
from streamcore.batch.wire import COMPRESSIONS, WireDecoder, WireEncoder
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.connection import Connection, FrameKind, connect, listen
from streamcore.runtime.data_plane import DataPlane
from streamcore.runtime.elements import END_OF_INPUT, Barrier, Watermark
from streamcore.runtime.wakeup import Wakeup

SECRET = b"s" * 32
KEY = (3, 0, 1)
READINGS = Schema.of(sensor=int, celsius=float, word=str)


def readings(count):
    random = np.random.default_rng(count)
    words = pa.DictionaryArray.from_arrays(pa.array(random.integers(0, 3, count), pa.int32()), pa.array(list("abc")))
    return Columns(READINGS, {"sensor": random.integers(0, 99, count), "celsius": random.random(count), "word": words})


async def through(directory, elements, schema, compression):
    """What a channel between two workers hands over of the elements."""
    broken = []
    planes = [
        DataPlane(str(directory / f"{name}.sock"), SECRET, number, lambda peer, error: broken.append(error))
        for number, name in enumerate(["sender", "receiver"])
    ]
    wakeup = Wakeup()
    channel = InputChannel(0, 0, wakeup)
    for plane in planes:
        await plane.listen()
        plane.begin(1)
    planes[1].register(KEY, channel, schema, 0)
    output = await planes[0].open(KEY, schema, Wakeup(), len(elements), 1, planes[1].address, compression)
    for element in elements:
        output.send(element)
    received = []
    while len(received) < len(elements) and not broken:
        while channel.queue:
            received.append(channel.take())
        if len(received) < len(elements):
            await wakeup.wait()
    for plane in planes:
        await plane.close()
    assert not broken
    return received


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_batches_rows_and_control_elements_arrive_in_order(tmp_path, compression):
    typed = [
        readings(1),
        Watermark(-3),
        readings(8192),
        Watermark(1 << 60, idle=True),
        Barrier(7),
        readings(50_000),
        readings(0),
        END_OF_INPUT,
    ]
    got = asyncio.run(through(tmp_path, typed, READINGS, compression))
    assert got == typed
    rows = [[(1, "a")], [(n, "some text") for n in range(50_000)], Barrier(1), [{"k": None}], END_OF_INPUT]
    assert asyncio.run(through(tmp_path, rows, None, compression)) == rows


def test_the_numbers_of_received_batches_are_aligned_views(tmp_path):
    batches = [readings(count) for count in (3, 1000, 8192, 100_000)]  # within one chunk of the socket, and beyond
    for sent, got in zip(batches, asyncio.run(through(tmp_path, batches, READINGS, "none")), strict=True):
        assert got == sent
        for name in ("sensor", "celsius"):
            assert got[name].flags.aligned
            assert not got[name].flags.owndata


async def received_body(path, body):
    """The body of one frame as `on_frame` gets it."""
    arrived = asyncio.get_running_loop().create_future()

    def on_frame(connection, kind, detail, channel, received):
        arrived.set_result(received)

    def ignore(connection: Connection) -> None:
        """The test ends it."""

    server = await listen(path, SECRET, on_frame, ignore)
    connection = await connect(path, SECRET, on_frame, ignore)
    connection.send(FrameKind.BATCH, body, detail=1, channel=KEY)
    received = await arrived
    connection.close()
    server.close()
    return received


@pytest.mark.parametrize("count", [1, 1000, 300_000])
def test_columns_lie_in_the_body_that_was_received(tmp_path, count):
    batch = Columns.of(n=np.arange(count), x=np.arange(count) / 3)
    detail, body = WireEncoder(batch.schema).encode(batch)
    received = asyncio.run(received_body(str(tmp_path / "s.sock"), body))
    back = WireDecoder(batch.schema).decode(detail, received)
    assert back == batch
    memory = np.frombuffer(received, np.uint8)
    for name in back.arrays:
        assert np.shares_memory(back[name], memory)
        assert back[name].flags.aligned
