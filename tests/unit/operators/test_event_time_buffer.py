"""The buffer against a plain list."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import MAX_TIME, Columns, Schema, StreamcoreError
from streamcore.operators.event_time_buffer import EventTimeBuffer, no_rows

SCHEMA = Schema.of(time=int, word=str)
times = st.lists(st.integers(-50, 50), max_size=12)


def made(values):
    return Columns(SCHEMA, {"time": np.array(values, np.int64), "word": pa.array(map(str, values), pa.string())})


@given(st.lists(st.tuples(times, st.integers(-60, 60)), max_size=8), st.integers(1, 30), st.integers(-7, 7))
def test_takes_what_is_due_and_drops_what_is_late(steps, every, offset):
    buffer, held, first = EventTimeBuffer(SCHEMA, "time", every, offset), [], None
    for values, until in steps:
        buffer.add(made(values))
        held += [v for v in values if first is None or (v - offset) // every >= first]
        stretch = (until + 1 - offset) // every
        first = stretch if first is None else max(first, stretch)
        taken = buffer.take(until)
        found = taken["time"].tolist() if taken is not None else []
        assert sorted(found) == sorted(v for v in held if v <= until)
        assert taken is None or taken["word"].to_pylist() == list(map(str, found))
        held = [v for v in held if v > until]
        assert len(buffer) == len(held)
        assert sorted(buffer.rows()["time"].tolist()) == sorted(held)


@given(st.lists(times, max_size=5), st.integers(-60, 60), st.integers(1, 30))
def test_stretches_come_whole_and_in_order(batches, end, every):
    buffer = EventTimeBuffer(SCHEMA, "time", every)
    for values in batches:
        buffer.add(made(values))
    taken = buffer.take_stretches(end)
    by_number = {}
    for value in (v for values in batches for v in values):
        if (value // every + 1) * every <= end:
            by_number.setdefault(value // every, []).append(value)
    assert [(number, part["time"].tolist()) for number, part in taken] == sorted(by_number.items())


def test_the_end_of_time_takes_all():
    buffer = EventTimeBuffer(SCHEMA, "time", 10)
    buffer.add(made([5, 10**15]))
    taken = buffer.take(MAX_TIME)
    assert taken is not None
    assert taken["time"].tolist() == [5, 10**15]
    assert len(buffer) == 0


def test_no_rows_have_the_schema_s_columns():
    empty = no_rows(SCHEMA)
    assert len(empty) == 0
    assert empty == made([])


@pytest.mark.parametrize("field", ["word", "missing"])
def test_a_field_without_time_is_refused(field):
    with pytest.raises(StreamcoreError, match=field):
        EventTimeBuffer(SCHEMA, field, 10)
