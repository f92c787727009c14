"""FeedbackQueue: never refuses, keeps the order over spills to disk, and counts right; against a deque."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, schema_of
from streamcore.runtime.elements import END_OF_INPUT, Barrier
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.services import Services


@dataclass
class Point:
    x: int
    name: str


SCHEMA = schema_of(Point)


def plain(element):
    """An element in a form that can be compared, whichever form it travelled in."""
    if isinstance(element, Columns):
        return [tuple(row) if isinstance(row, tuple) else (row.x, row.name) for row in element.to_rows()]
    if isinstance(element, list):
        return [(r.x, r.name) if isinstance(r, Point) else r for r in element]
    return element


def points(numbers):
    return [Point(n, f"p{n}") for n in numbers]


def columns(numbers):
    return Columns(
        SCHEMA, {"x": np.array(numbers, np.int64), "name": pa.array([f"p{n}" for n in numbers], pa.string())}
    )


NAMES = pa.array([f"p{n}" for n in range(-9, 10)])


def encoded_columns(numbers):
    names = pa.DictionaryArray.from_arrays(pa.array([n + 9 for n in numbers], pa.int32()), NAMES)
    return Columns(SCHEMA, {"x": np.array(numbers, np.int64), "name": names})


NUMBERS = st.lists(st.integers(-9, 9), min_size=1, max_size=6)
UNTYPED = st.one_of(
    NUMBERS.map(lambda n: [str(x) if x > 0 else x for x in n]),
    st.builds(Barrier, st.integers(1, 9)),
    st.just(END_OF_INPUT),
)
TYPED = st.one_of(
    NUMBERS.map(points),
    NUMBERS.map(columns),
    NUMBERS.map(encoded_columns),
    st.builds(Barrier, st.integers(1, 9)),
    st.just(END_OF_INPUT),
)
POP = st.just(None)


def check_against_a_deque(operations, schema, memory_records):
    queue, model = FeedbackQueue(Services(), schema, memory_records), deque()
    try:
        for element in operations:
            if element is None:
                if model:
                    assert plain(queue.popleft()) == plain(model.popleft())
                else:
                    with pytest.raises(IndexError):
                        queue.popleft()
            else:
                queue.append(element)
                model.append(element)
            assert len(queue) == len(model)
            assert queue.records == sum(len(e) for e in model if isinstance(e, list | Columns))
            if queue.peek() is not None:
                assert plain(queue.peek()) == plain(model[0])
        while model:
            assert plain(queue.popleft()) == plain(model.popleft())
        assert len(queue) == queue.records == 0
    finally:
        queue.close()


@given(st.lists(st.one_of(UNTYPED, POP), max_size=40), st.sampled_from([0, 1, 5, 1000]))
@settings(max_examples=150, deadline=None)
def test_untyped_rows(operations, memory_records):
    check_against_a_deque(operations, None, memory_records)


@given(st.lists(st.one_of(TYPED, POP), max_size=30), st.sampled_from([0, 1, 7]))
@settings(max_examples=150, deadline=None)
def test_typed_records_in_both_forms(operations, memory_records):
    check_against_a_deque(operations, SCHEMA, memory_records)


def test_memory_stays_within_the_bound_and_what_spills_is_counted():
    queue = FeedbackQueue(Services(), None, 10)
    for n in range(100):
        queue.append([n] * 3)
    assert queue.records == 300
    assert queue.spilled_records >= 300 - 10
    assert [queue.popleft()[0] for _ in range(100)] == list(range(100))
    assert queue.records == 0


def test_a_batch_larger_than_the_memory_still_goes_in_one_piece():
    queue = FeedbackQueue(Services(), None, 2)
    queue.append(list(range(50)))
    assert queue.popleft() == list(range(50))


def test_nothing_spills_below_the_bound():
    queue = FeedbackQueue(Services(), None, 10)
    queue.append([1] * 5)
    queue.append(Barrier(1))
    queue.append([2] * 5)
    assert queue.spilled_records == 0


def test_the_spill_file_is_emptied_when_it_has_been_read():
    files = []

    class Watched(Services):
        def scratch_file(self):
            files.append(super().scratch_file())
            return files[-1]

    queue = FeedbackQueue(Watched(), None, 1)
    for _ in range(5):
        for n in range(20):
            queue.append([n])
        for n in range(20):
            assert queue.popleft() == [n]
    assert len(files) == 1
    files[0].seek(0, 2)
    assert files[0].tell() == 0
    queue.close()
    assert files[0].closed
    queue.close()


def test_a_spilled_typed_record_comes_back_as_its_class():
    queue = FeedbackQueue(Services(), SCHEMA, 0)
    queue.append(points([1]))
    queue.append(points([2]))
    queue.popleft()
    (row,) = queue.popleft().to_rows()
    assert row == Point(2, "p2")
