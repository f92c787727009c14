"""Event times of batches in every form, and the strategies."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from streamcore import Columns, Schema, bounded_out_of_orderness, minutes, monotonous, seconds
from streamcore.errors import BadRecordError, TopologyError
from streamcore.runtime.event_time import EventTime
from streamcore.time import MIN_TIME


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_integers_are_milliseconds(dtype):
    times = EventTime("t").times(Columns.of(t=np.array([3, 1], dtype)))
    assert times.dtype == np.int64
    assert times.tolist() == [3, 1]


@pytest.mark.parametrize(("unit", "per_ms"), [("s", 0.001), ("ms", 1), ("us", 1000), ("ns", 1_000_000)])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata"])
def test_timestamps_of_every_unit_and_zone(unit, per_ms, zone):
    times = [-2000, 0, 1_700_000_000_000]
    column = pa.array([int(time * per_ms) for time in times], pa.int64()).cast(pa.timestamp(unit, zone))
    assert EventTime("t").times(Columns.of(t=column)).tolist() == times


def test_parts_of_a_millisecond_round_down_before_1970_too():
    column = pa.array([-1, 1, -1000, -1001], pa.timestamp("us"))
    assert EventTime("t").times(Columns.of(t=column)).tolist() == [-1, 0, -1, -2]


def test_a_slice_of_a_batch():
    column = pa.array([1, 2, 3], pa.timestamp("ms"))
    assert EventTime("t").times(Columns.of(t=column).slice(1, 3)).tolist() == [2, 3]


def test_a_shift_is_added():
    assert EventTime("t", -1).times(Columns.of(t=np.array([10, 20]))).tolist() == [9, 19]


def test_a_function_of_rows_and_of_columns():
    batch = Columns.of(t=np.array([3, 1]), factor=np.array([10, 100]))
    assert EventTime(lambda record: record.t * record.factor).times(batch).tolist() == [30, 100]
    assert EventTime(lambda record: record["t"]).times([{"t": 5}]).tolist() == [5]
    assert EventTime(np.int32).times([5, -6]).tolist() == [5, -6]


@pytest.mark.parametrize("wrong", [1.5, None, "12", 1 << 63, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)])
def test_a_function_that_gives_no_milliseconds(wrong):
    with pytest.raises(BadRecordError, match="the event time of a record is") as caught:
        EventTime(lambda record: record).times([1, wrong])
    assert "whole milliseconds" in str(caught.value)


def test_a_missing_timestamp():
    with pytest.raises(BadRecordError, match="its field 't' is empty"):
        EventTime("t").times(Columns.of(t=pa.array([1, None], pa.timestamp("ms"))))


TYPES = Schema.of(
    i=int, when=datetime.datetime, zoned=datetime.datetime, x=float, s=str, b=bool, maybe=int | None, day=datetime.date
)


@pytest.mark.parametrize("name", ["i", "when"])
def test_fields_that_are_times(name):
    EventTime(name).check(TYPES, "here")


@pytest.mark.parametrize("name", ["x", "s", "b", "maybe", "day"])
def test_fields_that_are_no_times(name):
    with pytest.raises(TopologyError, match=rf"^here: field {name}: .* can't be event time"):
        EventTime(name).check(TYPES, "here")


def test_a_field_that_is_not_there():
    with pytest.raises(TopologyError, match="here: there is no field 'tim'") as caught:
        EventTime("tim").check(TYPES, "here")
    assert "when: timestamp[us]" in str(caught.value)
    with pytest.raises(TopologyError, match="here: the stream has no type, so it has no field 'tim'"):
        EventTime("tim").check(None, "here")


def test_a_function_needs_no_type():
    EventTime(lambda record: 1).check(None, "here")


def test_the_watermark_is_just_behind_what_may_still_come():
    assert bounded_out_of_orderness("t", seconds(5)).after(10_000) == 4999
    assert bounded_out_of_orderness("t", minutes(0)).after(10_000) == 9999
    assert monotonous("t").after(10_000) == 9999  # another record of the same time may come
    assert monotonous("t").after(MIN_TIME) == MIN_TIME


def test_an_optional_field_where_records_without_are_taken_out_before():
    time = EventTime("maybe", may_miss=True)
    time.check(TYPES, "here")
    assert time.times(Columns.of(maybe=pa.array([3, 4], pa.int64()))).tolist() == [3, 4]
    with pytest.raises(BadRecordError, match="its field 'maybe' is empty"):
        time.times(Columns.of(maybe=pa.array([3, None], pa.int64())))


@pytest.mark.parametrize(
    "column",
    [
        np.array([5, (1 << 64) - 1], np.uint64),
        np.array([5, (1 << 62) + 1]),
        pa.array([0, 1 << 55], pa.timestamp("s")),
        pa.array([0, -(1 << 55)], pa.timestamp("s")),
    ],
)
def test_times_that_do_not_fit_do_not_come_round_as_others(column):
    with pytest.raises(BadRecordError, match="the event time of a record is"):
        EventTime("t").times(Columns.of(t=column))


@pytest.mark.parametrize("bound", [-1, float("nan"), float("inf")])
def test_a_bound_that_is_none(bound):
    with pytest.raises(TopologyError, match="out of order"):
        bounded_out_of_orderness("t", bound)
