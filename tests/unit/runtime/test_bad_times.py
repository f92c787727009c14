"""Which event times are bad, what is said of them, and that batches don't matter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import Columns, Schema, bounded_out_of_orderness, monotonous, seconds
from streamcore.errors import BadRecordError, TopologyError
from streamcore.runtime.bad_times import BadTimes
from streamcore.runtime.event_time import EventTime
from streamcore.time import MIN_TIME

NOW = 1_800_000_000_000
DAY = 86_400_000
SKIP = BadTimes("skip", min_time_ms=0)
SIDE = BadTimes("side_output", min_time_ms=0, max_jump_s=3600)


def check(policy, times, latest=MIN_TIME):
    return policy.check(EventTime("t"), Columns.of(t=np.array(times)), latest, NOW, "split 'a'")


def test_a_batch_of_good_times_is_left_as_it_is():
    batch = Columns.of(t=np.array([NOW, 0, NOW + 364 * DAY]))
    checked = SKIP.check(EventTime("t"), batch, MIN_TIME, NOW, "")
    assert checked.batch is batch
    assert (checked.latest_ms, checked.bad_count) == (NOW + 364 * DAY, 0)


def test_what_is_negative_or_years_ahead_is_taken_out_and_the_latest_time_does_not_know_it():
    checked = check(SKIP, [5, NOW + 366 * DAY, 7, -1, 6], latest=2)
    assert checked.batch["t"].tolist() == checked.times.tolist() == [5, 7, 6]
    assert (checked.latest_ms, checked.bad_count, checked.bad) == (7, 2, ())


def test_a_batch_without_any_good_time():
    checked = check(SKIP, [-1, -2], latest=2)
    assert (len(checked.batch), checked.latest_ms, checked.bad_count) == (0, 2, 2)


def test_by_default_times_before_1970_are_good_and_a_year_ahead_fails():
    default = monotonous("t").bad_times
    assert check(default, [-DAY, 3]).bad_count == 0
    with pytest.raises(BadRecordError) as caught:
        check(default, [3, 1000 * NOW])
    message = str(caught.value)
    assert f"split 'a': the event time 't' of record Record(t={1000 * NOW}) is {1000 * NOW} (" in message
    assert "years ahead of the clock: is it microseconds?" in message
    assert "with_bad_times('skip')" in message


@pytest.mark.parametrize("far", [1 << 62, (1 << 62) + 1, (1 << 63) - 1, -(1 << 63)])
def test_times_beyond_64_bit_arithmetic_are_bad_whatever_the_limits(far):
    no_limits = BadTimes("skip", min_time_ms=None, max_ahead_s=None)
    assert check(no_limits, [1, far]).times.tolist() == ([1, far] if far == 1 << 62 else [1])


def test_the_reasons_are_told_record_by_record():
    checked = check(SIDE, [-5, NOW - 10 * DAY, NOW - 9 * DAY, NOW + 800 * DAY])
    texts, reasons = zip(*checked.bad, strict=True)
    assert texts == ("Record(t=-5)", f"Record(t={NOW - 9 * DAY})", f"Record(t={NOW + 800 * DAY})")
    assert "is -5 (1969-12-31T23:59:59.995), before 0 (1970-" in reasons[0]
    assert "more than 3600 s ahead of the records before it" in reasons[1]
    assert "2.2 years ahead of the clock" in reasons[2]
    assert all(reason.startswith("event time 't' is ") for reason in reasons)


def test_missing_fields():
    batch = Columns(Schema.of(t=int | None, n=int), {"t": pa.array([1, None, 3]), "n": np.array([7, 8, 9])})
    checked = SIDE.check(EventTime("t"), batch, MIN_TIME, NOW, "")
    assert checked.times.tolist() == [1, 3]
    assert checked.bad == (("Record(t=None, n=8)", "event time 't' is missing: its field 't' is empty"),)


def test_missing_timestamps():
    batch = Columns.of(t=pa.array([1, None, 3], pa.timestamp("ms")))
    assert SKIP.check(EventTime("t"), batch, MIN_TIME, NOW, "").times.tolist() == [1, 3]


def test_functions_that_give_no_number():
    records = [{"t": 4}, {"t": None}, {"t": float("nan")}, {"t": "12"}, {"t": True}, {"t": 5.0}, {"t": 6}]
    checked = SIDE.check(EventTime(lambda record: record["t"]), records, MIN_TIME, NOW, "")
    assert checked.batch == [{"t": 4}, {"t": 6}]
    assert [reason for _, reason in checked.bad] == [
        "event time is missing: the function gave None",
        "event time is nan, not whole milliseconds",
        "event time is '12', not whole milliseconds",
        "event time is True, not whole milliseconds",
        "event time is 5.0, not whole milliseconds",
    ]


def test_a_jump_is_judged_by_the_latest_good_time_before_it():
    hour = 3_600_000
    checked = check(SIDE, [hour, 2 * hour, 5 * hour, 3 * hour, 4 * hour + 1, 4 * hour])
    assert checked.times.tolist() == [hour, 2 * hour, 3 * hour, 4 * hour]


@given(st.lists(st.integers(-20, 60), min_size=1, max_size=30), st.data())
def test_batches_do_not_matter(times, data):
    """The rules of the docstring, by plain Python."""
    policy = BadTimes("skip", min_time_ms=0, max_ahead_s=0.05, max_jump_s=0.01)
    expected, latest = [], None
    for time in times:
        if 0 <= time <= 50 and (latest is None or time <= latest + 10):
            expected.append(time)
            latest = time if latest is None else max(latest, time)
    found, known, left = [], MIN_TIME, times
    while left:
        size = data.draw(st.integers(1, len(left)))
        checked = policy.check(EventTime("t"), Columns.of(t=np.array(left[:size])), known, 0, "")
        found, known, left = found + checked.times.tolist(), checked.latest_ms, left[size:]
    assert found == expected
    assert known == (MIN_TIME if latest is None else latest)


def test_policies_and_limits_that_can_not_be():
    strategy = bounded_out_of_orderness("t", seconds(1))
    with pytest.raises(TopologyError, match=r"no policy 'drop'[\s\S]*fail, skip, side_output"):
        strategy.with_bad_times("drop")
    with pytest.raises(TopologyError, match="max_ahead=0"):
        strategy.with_bad_times("skip", max_ahead=0)
    with pytest.raises(TopologyError, match="max_jump=nan"):
        strategy.with_bad_times("skip", max_jump=float("nan"))


@pytest.mark.parametrize(
    ("ticks", "unit", "shown"),
    [
        (1 << 60, "us", "<value out of range: 1152921504606846976>"),
        (253_402_300_800_000_005, "us", "10000-01-01 00:00:00.000005"),
        (NOW * 1_000_000 + 400 * DAY * 1_000_000 + 1, "ns", "2028-02-19 08:00:00.000000001"),
    ],
)
def test_a_timestamp_that_no_datetime_can_be_is_shown_all_the_same(ticks, unit, shown):
    column = pa.array([0, ticks], pa.int64()).cast(pa.timestamp(unit))
    batch = Columns.of(t=column, name=pa.array(["ann", "bob"]))
    checked = SIDE.check(EventTime("t"), batch, MIN_TIME, NOW, "")
    assert [text for text, _ in checked.bad] == [f"t='{shown}', name='bob'"]
    with pytest.raises(BadRecordError, match="of record t='"):
        BadTimes().check(EventTime("t"), batch, MIN_TIME, NOW, "")


@pytest.mark.parametrize("count", [1, 16, 32, 33, 500])
@pytest.mark.parametrize("place", [0, -1])
def test_small_and_large_batches_are_checked_alike(count, place):
    times = [NOW + i for i in range(count)]
    assert check(SKIP, times).latest_ms == NOW + count - 1
    for wrong in (-1, NOW + 366 * DAY):
        times[place] = wrong
        checked = check(SKIP, times)
        assert checked.bad_count == 1
        assert wrong not in checked.times
