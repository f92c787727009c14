"""Functions of two streams, and unions: event time is the minimum of both, and late records, timers and side outputs
work on either side."""

from __future__ import annotations

from collections import Counter

import pytest

from streamcore import (
    MAX_TIME,
    CoProcessFunction,
    OutputTag,
    Schema,
    StreamEnvironment,
    ValueState,
    count,
    monotonous,
    seconds,
    tumbling,
)
from streamcore.runtime.operators.process import ProcessRows
from tests.operator_rig import OperatorRig, keyed_by

LEFT, RIGHT = Schema.of(key=str, time=int), Schema.of(key=str, time=int, n=int)
LATE = OutputTag("late")


class Both(CoProcessFunction):
    """Counts by key what comes in time; what is late goes aside; says when the watermark moves and timers fire."""

    def open(self, ctx):
        self.count = ctx.state(ValueState("count", 0))

    def process_first(self, record, ctx):
        self.take("first", record, ctx)

    def process_second(self, record, ctx):
        self.take("second", record, ctx)

    def take(self, side, record, ctx):
        if ctx.watermark is not None and record.time <= ctx.watermark:
            ctx.count_late()
            ctx.side_output(LATE, (side, record.time))
            return
        self.count.set(self.count.get() + 1)
        ctx.register_timer(record.time)

    def on_timer(self, time_ms, ctx):
        ctx.emit((ctx.key, time_ms, self.count.get()))

    def on_watermark(self, time_ms, ctx):
        ctx.emit(("watermark", ctx.watermark))


def test_late_records_timers_and_side_outputs_on_either_side():
    operator = ProcessRows(Both(), [keyed_by(LEFT, "key"), keyed_by(RIGHT, "key")])
    rig = OperatorRig(operator, (LEFT, RIGHT), sides=("late",))
    rig.process(0, ("a", 5)).process(1, ("a", 6, 0), ("b", 7, 0)).advance(4)
    rig.process(1, ("a", 4, 1), ("b", 8, 2)).process(0, ("b", 3), ("b", 9))
    assert rig.side_out == {"late": [("second", 4), ("first", 3)]}
    assert rig.counters.late_records == 2
    rig.operator.fire_timers(7)
    assert rig.taken() == [("watermark", 4), 4, ("a", 5, 2), ("a", 6, 2), ("b", 7, 3)]


class Watermarks(CoProcessFunction):
    def process_first(self, record, ctx):
        if ctx.watermark is not None and record.time <= ctx.watermark:
            ctx.emit(("late", record.time))

    process_second = process_first

    def on_watermark(self, time_ms, ctx):
        ctx.emit((ctx.subtask, time_ms))


@pytest.mark.parametrize("parallelism", [1, 3])
def test_event_time_is_that_of_the_stream_that_is_behind(parallelism):
    env = StreamEnvironment(parallelism=parallelism, batch_size=1)
    left = env.from_values([("a", time) for time in range(0, 900, 30)], LEFT).assign_watermarks(monotonous("time"))
    right = env.from_values([("a", time, 0) for time in range(40)], RIGHT).assign_watermarks(monotonous("time"))
    seen = left.connect(right).process(Watermarks()).execute_and_collect()
    assert not [row for row in seen if row[0] == "late"]  # both are in order, however far apart they are read
    for subtask in range(parallelism):
        times = [time for number, time in seen if number == subtask]
        assert max(times) == MAX_TIME
        assert len(set(times)) == len(times)


@pytest.mark.parametrize("parallelism", [1, 3])
def test_windows_over_a_union_wait_for_all_its_streams(parallelism):
    env = StreamEnvironment(parallelism=parallelism, batch_size=1)
    parts = [[(f"k{i % 3}", start + i * 100) for i in range(60)] for start in (0, 50, 2000)]
    streams = [env.from_values(part, LEFT).assign_watermarks(monotonous("time")) for part in parts]
    counts = streams[0].union(*streams[1:]).key_by("key").window(tumbling(seconds(1))).aggregate(count())
    expected = Counter((key, time // 1000 * 1000) for part in parts for key, time in part)
    assert {(row.key, row.window_start): row.count for row in counts.execute_and_collect()} == expected
