"""Recordings of what is in flight: where they begin and end, that records are saved before they change, who waits."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from streamcore.batch import plain
from streamcore.batch.codec import decode_saved, encode_saved
from streamcore.errors import StateCodecError
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.elements import END_OF_INPUT, Barrier, LatencyMarker, Watermark
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.recording import RecordedChannel, Recording, Recordings
from streamcore.runtime.services import Services
from streamcore.runtime.wakeup import Wakeup
from streamcore.time import Clock

N = 7
"""The checkpoint."""


def encode(batch):
    form, body = encode_saved(batch, allow_pickle=False)
    return int(form), body


def begin(channel, *, is_open=True):
    """A recording of a channel from now."""
    channel.recording = Recording(N, channel.waiting(), encode, is_open=is_open)
    return channel.recording


def forward(*elements):
    channel = InputChannel(0, 0, Wakeup())
    for element in elements:
        channel.deliver(element)
    return channel


def feedback(*elements, memory_records=1):
    channel = InputChannel(0, 0, Wakeup(), feedback=FeedbackQueue(Services(), None, memory_records))
    for element in elements:
        channel.deliver(element)
    return channel


async def nobody():
    """Nobody else wants to run."""


def saved(recording):
    return [readable(element) for element in asyncio.run(asyncio.wait_for(recording.saved(nobody), 1))]


def readable(element):
    return decode_saved(*element, allow_pickle=False) if len(element) == 2 else element


def test_what_waits_is_recorded_up_to_the_barrier():
    channel = forward([1], Watermark(5), [2], Barrier(N), [3])
    recording = begin(channel)
    assert not recording.is_open
    assert saved(recording) == [[1], (0, 5, False), [2]]


def test_what_arrives_is_recorded_until_the_barrier_does():
    channel = forward([1])
    recording = begin(channel)
    channel.deliver([2])
    channel.deliver(Watermark(9, idle=True))
    assert recording.is_open
    channel.deliver(Barrier(N))
    channel.deliver([3])
    assert not recording.is_open
    assert saved(recording) == [[1], [2], (0, 9, True)]


@pytest.mark.parametrize("end", [END_OF_INPUT, Barrier(N + 1)])
def test_the_end_of_input_and_a_newer_barrier_end_it_too(end):
    channel = forward([1], end, [2])
    assert saved(begin(channel)) == [[1]]


def test_an_older_barrier_and_markers_are_passed_over():
    channel = forward([1], Barrier(N - 1), LatencyMarker(0.5), [2], Barrier(N))
    recording = begin(channel)
    for _ in range(4):
        channel.take()
    assert saved(recording) == [[1], [2]]


def test_records_are_saved_as_they_were_when_they_were_taken():
    channel = forward([[1]], [[2]])
    recording = begin(channel)
    taken = channel.take()
    taken[0].append("changed")
    channel.deliver(Barrier(N))
    assert saved(recording) == [[[1]], [[2]]]


def test_what_is_saved_ahead_is_not_saved_again_when_it_is_taken():
    channel = forward([1], [2], [3])
    recording = begin(channel)

    async def scenario():
        task = asyncio.create_task(recording.saved(partial(asyncio.sleep, 0)))
        await asyncio.sleep(0)
        channel.take()
        channel.take()
        channel.deliver([4])
        await asyncio.sleep(0)
        channel.take()
        channel.deliver(Barrier(N))
        for _ in range(2):
            channel.take()
        return await task

    assert [readable(element) for element in asyncio.run(scenario())] == [[1], [2], [3], [4]]


def test_what_lies_on_disk_is_saved_when_its_turn_comes():
    channel = feedback([1], [2], [3], Barrier(N), [4])
    assert list(channel.waiting()) == [[1], None, None, None, None]
    recording = begin(channel, is_open=False)

    async def scenario():
        task = asyncio.create_task(recording.saved(nobody))
        for _ in range(5):
            await asyncio.sleep(0)
            assert not task.done()
        for _ in range(4):
            channel.take()
        return await asyncio.wait_for(task, 1)

    assert [readable(element) for element in asyncio.run(scenario())] == [[1], [2], [3]]
    channel.take()
    channel.queue.close()


def test_a_barrier_that_lay_on_disk_ends_a_recording_that_is_still_open():
    channel = feedback([1], [2], Barrier(N), [3])
    recording = begin(channel)
    channel.deliver([4])
    for _ in range(3):
        channel.take()
    assert not recording.is_open
    channel.deliver([5])
    assert saved(recording) == [[1], [2]]
    channel.queue.close()


def test_what_arrives_behind_elements_on_disk_is_recorded():
    channel = feedback([1], [2])
    recording = begin(channel)
    channel.deliver([3])
    channel.deliver(Barrier(N))
    channel.deliver([4])
    for _ in range(5):
        channel.take()
    assert saved(recording) == [[1], [2], [3]]
    channel.queue.close()


def test_a_record_without_a_plain_form_fails_the_recording_and_not_who_takes_it():
    channel = forward([object()], [2], Barrier(N))
    recording = begin(channel)
    channel.take()
    with pytest.raises(StateCodecError, match=r"builtins\.object has no safe saved form"):
        saved(recording)
    with pytest.raises(StateCodecError, match="a record in flight on edge 0 can't be saved: a value of type builtins"):
        asyncio.run(recordings(channel).saved(Clock(), 0.001))


def recordings(*channels):
    return Recordings(
        [
            RecordedChannel(f"edge {i}", i, 2, channel.recording, lambda c=channel: setattr(c, "recording", None))
            for i, channel in enumerate(channels)
        ]
    )


def test_recordings_wait_for_all_channels_and_leave_out_empty_ones():
    busy, quiet = forward([1]), forward()
    begin(busy)
    begin(quiet)
    both = recordings(busy, quiet)

    async def scenario():
        task = asyncio.create_task(both.saved(Clock(), 0.001))
        await asyncio.sleep(0)
        busy.deliver(Barrier(N))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        quiet.deliver(Barrier(N))
        return await asyncio.wait_for(task, 1)

    in_flight = asyncio.run(scenario())
    assert [(c.edge, c.peer, c.peers, len(c.elements)) for c in in_flight.inputs] == [("edge 0", 0, 2, 1)]
    assert in_flight.size_bytes == len(plain.encode([1]))
    assert busy.recording is None
    assert quiet.recording is None


def test_recordings_that_are_given_up_end_at_once_and_give_nothing():
    channel = feedback([1], [2])
    begin(channel)
    given_up = recordings(channel)

    async def scenario():
        task = asyncio.create_task(given_up.saved(Clock(), 0.001))
        await asyncio.sleep(0)
        given_up.give_up()
        assert channel.recording is None
        return await asyncio.wait_for(task, 1)

    assert asyncio.run(scenario()) is None
    channel.queue.close()
