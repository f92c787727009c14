"""Event timers and the timestamp of the record at hand, in whole jobs."""

from __future__ import annotations

import datetime
from typing import NamedTuple

import pytest

from streamcore import (
    MAX_TIME,
    BatchFunction,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    milliseconds,
    monotonous,
)
from streamcore.errors import StreamcoreError
from tests.row_window_rig import Rig

ROWS = [("a", 10), ("b", 12), ("a", 14), ("a", 60), ("b", 61), ("c", 90)]
RECORD = Schema.of(key=str, t=int)


@pytest.fixture(params=[1, 3])
def env(request):
    return StreamEnvironment(parallelism=request.param, batch_size=1)


def keyed(env, rows=ROWS, bound=0):
    strategy = bounded_out_of_orderness(lambda row: row[1], milliseconds(bound))
    return env.from_values(rows).assign_watermarks(strategy).key_by(lambda row: row[0])


class Quiet(ProcessFunction):
    """Says when a key has been quiet for 20 ms: the timer looks whether something has come, and goes on waiting."""

    def open(self, ctx):
        self.last = ctx.state(ValueState("last", None))

    def process(self, record, ctx):
        if self.last.get() is None:
            ctx.register_event_timer(record[1] + 20)
        self.last.set(max(record[1], self.last.get() or 0))

    def on_event_timer(self, time_ms, ctx):
        assert ctx.timestamp == time_ms
        assert ctx.watermark >= time_ms
        if self.last.get() + 20 > time_ms:
            ctx.register_event_timer(self.last.get() + 20)
        else:
            ctx.emit((ctx.key, self.last.get(), ctx.watermark == MAX_TIME))
            self.last.set(None)


def test_a_key_that_is_quiet(env):
    results = keyed(env).process(Quiet()).execute_and_collect()
    assert {("a", 60), ("b", 61), ("c", 90)} <= {row[:2] for row in results}
    rig = Rig(keyed(env).process(Quiet())).feed(*ROWS[:3]).advance(40).feed(*ROWS[3:])
    assert rig.taken() == [("b", 12, False), ("a", 14, False), 40]
    rig = Rig(keyed(env).process(Quiet()), [rig.saved()]).advance(80)
    assert rig.taken() == [("a", 60, False), 80]
    assert rig.finish().taken() == [("b", 61, True), ("c", 90, True)]


class Order(ProcessFunction):
    """Timers fire in order, and before the watermark goes on."""

    def process(self, record, ctx):
        for time_ms in record[1]:
            ctx.register_event_timer(time_ms)
            ctx.register_event_timer(time_ms)
        ctx.cancel_event_timer(17)

    def on_event_timer(self, time_ms, ctx):
        ctx.emit((time_ms, ctx.key))
        if time_ms == 16:
            ctx.register_event_timer(11)
            ctx.register_event_timer(18)

    def on_watermark(self, time_ms, ctx):
        ctx.emit(("watermark", time_ms))


def test_timers_fire_once_in_order_before_the_watermark():
    env = StreamEnvironment(batch_size=1)
    rows = [("a", [30, 16, 17, 9], 1), ("b", [16, 40], 8), ("a", [], 20)]
    stream = env.from_values(rows).assign_watermarks(bounded_out_of_orderness(lambda row: row[2], 0))
    results = stream.key_by(lambda row: row[0]).process(Order()).execute_and_collect()
    assert results == [
        ("watermark", 0),
        ("watermark", 7),
        (9, "a"),
        (16, "a"),
        (11, "a"),  # it was set while 16 fired, and is earlier than what was left of 16
        (16, "b"),
        (11, "b"),
        (18, "a"),
        (18, "b"),
        ("watermark", 19),
        (30, "a"),
        (40, "b"),
        ("watermark", MAX_TIME),
    ]


class Stamps(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit((record[0], ctx.timestamp))

    def on_timer(self, time_ms, ctx):
        ctx.emit(("timer", ctx.timestamp))


class When(NamedTuple):
    key: str
    at: datetime.datetime


def test_the_timestamp_of_the_record_at_hand(env):
    assert sorted(keyed(env).process(Stamps()).execute_and_collect()) == sorted(ROWS)
    typed = env.from_values(ROWS, RECORD).assign_watermarks(monotonous("t"))
    assert sorted(typed.process(Stamps()).execute_and_collect()) == sorted(ROWS)
    kept = typed.filter(lambda row: row.t > 20).key_by("key").process(Stamps())
    assert sorted(kept.execute_and_collect()) == sorted(row for row in ROWS if row[1] > 20)
    noon = datetime.datetime(2026, 11, 21, 12)  # noqa: DTZ001 - columns have no zones
    stamped = env.from_values([When("a", noon)], When).assign_watermarks(monotonous("at")).process(Stamps())
    assert stamped.execute_and_collect() == [("a", 1795262400000)]


def test_the_timestamp_is_none_without_event_time(env):
    assert env.from_values([("a", 1)]).process(Stamps()).execute_and_collect() == [("a", None)]
    dropped = env.from_values(ROWS, RECORD).assign_watermarks(monotonous("t")).map(lambda row: (row.key, 0))
    assert {time for _, time in dropped.process(Stamps()).execute_and_collect()} == {None}


class Both(CoProcessFunction):
    """Uses the timestamps of two streams that have theirs in different places."""

    def process_first(self, record, ctx):
        ctx.emit(("first", ctx.key, ctx.timestamp))
        ctx.register_event_timer(ctx.timestamp + 5)

    def process_second(self, record, ctx):
        ctx.emit(("second", ctx.key, ctx.timestamp))

    def on_event_timer(self, time_ms, ctx):
        ctx.emit(("timer", ctx.key, time_ms))


def test_timers_and_timestamps_over_two_inputs(env):
    first = keyed(env)
    second = env.from_values([(7, "a"), (9, "c")]).assign_watermarks(monotonous(lambda row: row[0]))
    results = first.connect(second.key_by(lambda row: row[1])).process(Both()).execute_and_collect()
    assert sorted(results) == sorted(
        [("first", key, t) for key, t in ROWS]
        + [("timer", key, t + 5) for key, t in ROWS]
        + [("second", "a", 7), ("second", "c", 9)]
    )


def test_an_event_timer_needs_a_key(env):
    with pytest.raises(StreamcoreError, match="a timer on a stream without key"):
        env.from_values([("a", [1])]).process(Order()).execute_and_collect()


def test_a_timer_that_goes_on_for_ever_is_an_error_and_not_a_job_that_hangs(env):
    class Ticks(ProcessFunction):
        def process(self, record, ctx):
            ctx.register_event_timer(record[1])

        def on_event_timer(self, time_ms, ctx):
            ctx.register_event_timer(time_ms + 1)

    with pytest.raises(StreamcoreError, match="event timers go on setting timers"):
        keyed(env).process(Ticks()).execute_and_collect()


def test_an_event_timer_doesn_t_keep_a_loop_going(env):
    """It waits for event time, which comes from outside: it fires when the loop is over."""
    out = OutputTag("out")

    class Halve(CoProcessFunction):
        def process_first(self, record, ctx):
            self.process_second(record, ctx)

        def process_second(self, record, ctx):
            key, number = record
            if number:
                ctx.emit((key, number // 2))
            else:
                ctx.register_event_timer(1 << 40)

        def on_event_timer(self, time_ms, ctx):
            ctx.side_output(out, (ctx.key, time_ms))

    start = keyed(env)
    loop = env.loop()
    halved = start.connect(loop.feedback.key_by(lambda row: row[0])).process(Halve())
    loop.close(halved)
    assert sorted(halved.side_output(out).execute_and_collect()) == [(key, 1 << 40) for key in "abc"]


def test_functions_of_batches_have_no_timestamp(env):
    class Batches(BatchFunction):
        def process(self, columns, ctx):
            assert ctx.timestamp is None
            ctx.emit(len(columns))

    typed = env.from_values(ROWS, RECORD).assign_watermarks(monotonous("t"))
    assert sum(typed.process(Batches()).execute_and_collect()) == len(ROWS)
