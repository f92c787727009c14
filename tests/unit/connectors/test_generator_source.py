from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import ConnectorError, UsageError


class Time:
    def __init__(self):
        self.now_s = 1000.1
        self.context = ReaderContext(wake=lambda: None, now=lambda: self.now_s, report_bad=lambda bad: None)


def numbers(start, stop):
    return list(range(start, stop))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 7), st.integers(1, 9), st.sets(st.integers(1, 9)))
def test_bounded_splits_make_all_indices_in_ranges(count, splits, limit, restore_after):
    time = Time()
    source = GeneratorSource(numbers, count, splits=splits)
    assert source.bounded
    made = []
    for split in source.splits():
        reader = source.reader(split, None, time.context)
        polls = 0
        while not reader.exhausted:
            made += reader.poll(limit) or []
            polls += 1
            if polls in restore_after:
                reader = source.reader(split, reader.offset, time.context)
    assert made == list(range(count))


@pytest.mark.parametrize("splits", [1, 3])
def test_unbounded_splits_make_every_nth_block(splits):
    time = Time()
    source = GeneratorSource(numbers, splits=splits)
    assert not source.bounded
    made = []
    for split in source.splits():
        reader = source.reader(split, None, time.context)
        mine = []
        while len(mine) < 2048:
            mine += reader.poll(500)
            reader = source.reader(split, reader.offset, time.context)
        assert mine == sorted(mine)
        made += mine
    assert sorted(made) == list(range(2048 * splits))


@settings(deadline=None)
@given(st.floats(0.3, 3e5), st.integers(1, 3), st.sampled_from([1, 10, 1000]))
def test_the_rate_is_kept_by_waiting_until_wake_at(rate, splits, limit):
    time = Time()
    source = GeneratorSource(numbers, rate=rate, splits=splits)
    reader = source.reader(source.splits()[0], None, time.context)
    start = time.now_s
    made = 0
    for _ in range(300):
        batch = reader.poll(limit)
        if batch:
            made += len(batch)
            assert made <= (time.now_s - start) * rate / splits + 1.001
        else:
            assert reader.wake_at > time.now_s
            time.now_s = reader.wake_at
            assert len(reader.poll(limit)) > 0, "at the promised time a record is due"
            made += 1 if limit == 1 else 0
            made = int(reader.offset) if splits == 1 else made
        if splits > 1:
            break


def test_after_a_stall_it_catches_up():
    time = Time()
    source = GeneratorSource(numbers, count=100, rate=10)
    reader = source.reader(source.splits()[0], None, time.context)
    assert reader.poll(50) == [0]
    assert reader.poll(50) is None
    assert reader.wake_at == pytest.approx(1000.2)
    time.now_s += 4.05
    assert reader.poll(30) == numbers(1, 31)
    assert reader.poll(30) == numbers(31, 41)
    assert reader.poll(30) is None
    time.now_s += 100
    assert reader.poll(1000) == numbers(41, 100)
    assert reader.exhausted


def test_columns_and_wrong_results():
    time = Time()
    source = GeneratorSource(lambda start, stop: Columns.of(i=np.arange(start, stop)), 5)
    reader = source.reader(source.splits()[0], 2, time.context)
    assert to_rows(reader.poll(10)) == [(2,), (3,), (4,)]
    source = GeneratorSource(lambda start, stop: [1], 5)
    with pytest.raises(ConnectorError, match=r"make\(0, 5\) returned 1 records, not 5"):
        source.reader(source.splits()[0], None, time.context).poll(10)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"splits": 0}, {"count": -1}, {"rate": float("inf")}])
def test_wrong_numbers(wrong):
    with pytest.raises(UsageError, match="can't be"):
        GeneratorSource(numbers, **wrong)
