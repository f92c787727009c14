from __future__ import annotations

import numpy as np
import pytest

from streamcore.batch import Columns
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.iterable_source import IterableSource
from streamcore.connectors.replay_source import ReplaySource
from streamcore.errors import UsageError


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def reader_of(source, clock, offset=None):
    (split,) = source.splits()
    return source.reader(split, offset, ReaderContext(lambda: None, clock, pytest.fail))


def drain(reader, clock, limit=7, most=10_000):
    """(seconds since the start, record) of all records; the clock goes to where the reader wants to be woken."""
    start, found = clock.now_s, []
    while not reader.exhausted and len(found) < most:
        batch = reader.poll(limit)
        if batch:
            assert len(batch) <= limit
            found += [(round(clock.now_s - start, 3), record) for record in batch]
        elif not reader.exhausted:
            assert reader.wake_at is not None
            assert reader.wake_at > clock.now_s
            clock.now_s = reader.wake_at
    return found


def test_a_rate(clock):
    found = drain(reader_of(ReplaySource(IterableSource(range(50)), rate=10), clock), clock)
    assert [record for _, record in found] == list(range(50))
    assert [at for at, _ in found] == pytest.approx([i / 10 for i in range(50)], abs=0.002)


def test_what_a_stall_held_up_comes_at_once(clock):
    reader = reader_of(ReplaySource(IterableSource(range(100)), rate=10), clock)
    assert reader.poll(100) == [0]
    clock.now_s += 5.05
    assert reader.poll(100) == list(range(1, 51))
    assert not reader.poll(100)
    assert reader.wake_at == pytest.approx(105.1)


def test_a_stall_that_is_longer_than_the_source(clock):
    replay = ReplaySource(IterableSource(range(5)), rate=10, limit=8, repeat=True)
    reader = reader_of(replay, clock)
    seen = list(reader.poll(100))
    clock.now_s += 60
    seen += reader.poll(100)
    assert (seen, reader.offset) == (list(range(5)), [5, 5])
    assert [r for _, r in drain(reader, clock)] == [0, 1, 2]


def test_as_the_event_times_say(clock):
    times = [5000, 5000, 7000, 6000, 9000]
    replay = ReplaySource(IterableSource(times), times=np.array, speedup=2)
    assert drain(reader_of(replay, clock), clock) == [(0, 5000), (0, 5000), (1, 7000), (1, 6000), (2, 9000)]


def test_event_times_are_read_once(clock):
    read = []

    def times(batch):
        read.extend(batch)
        return np.array(batch) * 10

    assert len(drain(reader_of(ReplaySource(IterableSource(range(100)), times=times), clock), clock)) == 100
    assert sorted(read) == list(range(100))


def test_as_fast_as_it_goes(clock):
    assert drain(reader_of(ReplaySource(IterableSource(range(50))), clock), clock) == [(0, i) for i in range(50)]
    assert drain(reader_of(ReplaySource(IterableSource([])), clock), clock) == []


def test_a_limit_and_repeats(clock):
    source = IterableSource(range(5))
    assert [r for _, r in drain(reader_of(ReplaySource(source, limit=3), clock), clock)] == [0, 1, 2]
    replay = ReplaySource(source, limit=12, repeat=True, rate=100)
    assert replay.bounded
    assert not ReplaySource(source, repeat=True).bounded
    assert [r for _, r in drain(reader_of(replay, clock), clock)] == [i % 5 for i in range(12)]
    endless = reader_of(ReplaySource(source, repeat=True, times=lambda rows: np.array(rows) * 1000), clock)
    assert [r for _, r in drain(endless, clock, most=13)][:13] == [i % 5 for i in range(13)]
    assert drain(reader_of(ReplaySource(IterableSource([]), repeat=True), clock), clock) == []


@pytest.mark.parametrize("taken", [0, 3, 5, 7, 12])
def test_it_goes_on_from_every_offset(clock, taken):
    replay = ReplaySource(IterableSource(range(5)), limit=12, repeat=True)
    first = reader_of(replay, clock)
    seen = []
    while len(seen) < taken:
        seen += first.poll(taken - len(seen)) or []
    second = reader_of(replay, clock, first.offset)
    assert seen + [r for _, r in drain(second, clock)] == [i % 5 for i in range(12)]


def test_columns_stay_columns(clock):
    def make(start, stop):
        return Columns.of(n=np.arange(start, stop))

    source = GeneratorSource(make, count=10, schema=make(0, 1).schema)
    replay = ReplaySource(source, rate=1000)
    assert replay.schema == source.schema
    reader = reader_of(replay, clock)
    clock.now_s += 1
    reader.poll(1)
    clock.now_s += 1
    assert reader.poll(100)["n"].tolist() == list(range(1, 10))


def test_wrong_options():
    with pytest.raises(UsageError, match="not both"):
        ReplaySource(IterableSource([]), rate=1, times=np.array)
    for option in ("rate", "speedup", "limit"):
        with pytest.raises(UsageError, match=f"{option}=0 can't be"):
            ReplaySource(IterableSource([]), **{option: 0})
