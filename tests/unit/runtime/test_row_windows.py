"""Windows over rows: triggers, evictors, merging, lateness and state, step by step."""

from __future__ import annotations

import pytest

from streamcore import (
    MAX_TIME,
    Evictor,
    OutputTag,
    StreamEnvironment,
    Trigger,
    TriggerResult,
    ValueState,
    Window,
    WindowAssigner,
    WindowFunction,
    continuous_trigger,
    count_evictor,
    count_trigger,
    count_windows,
    event_time_trigger,
    global_windows,
    milliseconds,
    processing_time_trigger,
    purging,
    session,
    sliding,
    time_evictor,
    tumbling,
)
from streamcore.errors import TopologyError
from streamcore.runtime.operators import windowing
from tests.row_window_rig import Rig

TEN = tumbling(milliseconds(10))
LATE = OutputTag("late")
FIVE_CLOCK = tumbling(milliseconds(5), processing_time=True)


def keyed(windows):
    stream = StreamEnvironment().from_values([]).key_by(lambda record: record[0])
    return stream.window(windows, time=None if getattr(windows, "processing_time", False) else lambda record: record[1])


class Values(WindowFunction):
    """Emits (key, values) of each window that fires."""

    def process(self, key, window, records, ctx):
        ctx.emit((key, [record[2] for record in records]))


def rig_of(windowed, **options):
    return Rig(windowed.process(Values()), **options)


def test_early_firing_by_count_and_no_rest():
    rig = rig_of(keyed(TEN).trigger(count_trigger(2)))
    rig.feed(("a", 1, 1), ("a", 2, 2), ("b", 3, 3), ("a", 4, 4), ("a", 5, 5), ("a", 6, 6))
    assert rig.taken() == [("a", [1, 2]), ("a", [1, 2, 4, 5])]
    assert rig.advance(9).finish().taken() == [9]
    assert not rig.operator._table


def test_purging_forgets_what_has_been_seen():
    rig = rig_of(keyed(TEN).trigger(purging(count_trigger(2))))
    rig.feed(*[("a", 1, n) for n in range(5)])
    assert rig.taken() == [("a", [0, 1]), ("a", [2, 3])]
    at_end = rig_of(keyed(TEN).allowed_lateness(milliseconds(10)).trigger(purging(event_time_trigger())))
    at_end.feed(("a", 1, 1), ("a", 2, 2)).advance(9).feed(("a", 3, 3)).feed(("a", 4, 4))
    assert at_end.taken() == [("a", [1, 2]), 9, ("a", [3]), ("a", [4])]


def test_continuous_firing_in_event_time():
    rig = rig_of(keyed(tumbling(milliseconds(100))).trigger(continuous_trigger(milliseconds(10))))
    rig.feed(("a", 13, 1)).advance(15, 19)
    assert rig.taken() == [15, 19]
    assert rig.advance(20).taken() == [("a", [1]), 20]
    rig.feed(("a", 14, 2)).advance(45)  # passes two multiples of ten
    assert rig.taken() == [("a", [1, 2]), ("a", [1, 2]), 45]
    assert rig.advance(65).taken() == [("a", [1, 2]), ("a", [1, 2]), 65]
    assert rig.advance(70).taken() == [("a", [1, 2]), 70]
    assert rig.advance(99).taken() == [("a", [1, 2])] * 3 + [99]  # at 80, at 90, and at the end
    assert rig.advance(300).finish().taken() == [300]
    assert len(rig.store.event_timers) == 0


def test_continuous_firing_goes_on_from_the_first_record():
    rig = rig_of(keyed(tumbling(milliseconds(30))).trigger(continuous_trigger(milliseconds(10))))
    rig.feed(("a", 1, 1)).advance(21)
    assert rig.taken() == [("a", [1]), ("a", [1]), 21]
    assert rig.feed(("a", 2, 2)).advance(28).taken() == [28]  # its own multiples are past
    assert rig.advance(29).taken() == [("a", [1, 2]), 29]


def test_continuous_firing_of_a_session_goes_on_from_where_it_would_have_ended():
    rig = rig_of(keyed(session(milliseconds(25))).trigger(continuous_trigger(milliseconds(10))))
    assert rig.feed(("a", 8, 1)).advance(30).taken() == [("a", [1])] * 3 + [30]  # the next is at the end: 32
    assert rig.feed(("a", 31, 2)).advance(32).taken() == [("a", [1, 2]), 32]
    assert rig.advance(41).taken() == [41]
    assert rig.advance(42).taken() == [("a", [1, 2]), 42]
    assert rig.advance(55).taken() == [("a", [1, 2])] * 2 + [55]  # at 52, and at the end


def test_continuous_firing_by_the_clock():
    rig = rig_of(keyed(TEN).trigger(continuous_trigger(milliseconds(10), processing_time=True)), now=1003)
    rig.feed(("a", 1, 1)).tick(1009)
    assert rig.taken() == []
    assert rig.tick(1010).taken() == [("a", [1])]
    assert rig.feed(("a", 2, 2)).tick(1020).taken() == [("a", [1, 2])]
    assert rig.advance(9).taken() == [("a", [1, 2]), 9]
    assert rig.tick(5000).taken() == []
    assert len(rig.store.timers) == 0


def test_windows_of_the_clock():
    rig = rig_of(keyed(FIVE_CLOCK), now=1001)
    rig.feed(("a", 0, 1), ("b", 0, 2)).advance(99_999).tick(1003)
    assert rig.taken() == [99_999]
    assert rig.feed(("a", 0, 3)).tick(1004).taken() == [("a", [1, 3]), ("b", [2])]
    rig.feed(("a", 0, 4))
    assert rig.finish().taken() == [("a", [4])]
    assert not rig.operator._table


def test_sessions_of_the_clock():
    rig = rig_of(keyed(session(milliseconds(10), processing_time=True)), now=100)
    rig.feed(("a", 0, 1)).tick(105).feed(("a", 0, 2)).tick(109)
    assert rig.taken() == []
    assert rig.tick(114).taken() == [("a", [1, 2])]


def test_a_trigger_of_the_clock_on_windows_of_event_time():
    rig = rig_of(keyed(TEN).trigger(processing_time_trigger()), now=5).feed(("a", 1, 1)).tick(9)
    assert rig.taken() == [("a", [1])]
    assert rig.advance(9).taken() == [9]


def test_sessions_merge_with_their_state_and_timers():
    rig = rig_of(keyed(session(milliseconds(10))))
    rig.feed(("a", 0, 1), ("a", 18, 2))
    assert len(rig.operator._table.get("a")) == 2
    rig.feed(("a", 9, 3))  # touches both
    assert list(rig.operator._table.get("a")) == [Window(0, 28)]
    assert len(rig.store.event_timers) == 1
    assert rig.advance(26).taken() == [26]
    assert rig.advance(27).taken() == [("a", [1, 2, 3]), 27]


def test_sessions_that_only_touch_merge():
    rig = rig_of(keyed(session(milliseconds(10)))).feed(("a", 0, 1), ("a", 10, 2), ("a", 21, 3)).finish()
    assert rig.taken() == [("a", [1, 2]), ("a", [3])]


def test_a_late_record_joins_a_session_that_is_allowed_to_be_late():
    rig = rig_of(keyed(session(milliseconds(10))).allowed_lateness(milliseconds(20)).late_to(LATE))
    rig.feed(("a", 0, 1)).advance(11).feed(("a", 3, 2))
    assert rig.taken() == [("a", [1]), 11]  # [0, 13) is open again
    assert rig.advance(12).taken() == [("a", [1, 2]), 12]
    rig.feed(("a", 2, 3))  # fires at once
    assert rig.taken() == [("a", [1, 2, 3])]
    rig.advance(32).feed(("a", 2, 4))
    assert rig.side["late"] == [("a", 2, 4)]


def test_a_fold_keeps_one_value_per_window():
    windowed = keyed(session(milliseconds(10)))
    rig = Rig(windowed.fold((), lambda s, r: (*s, r[2]), merge=lambda a, b: a + b, result=len))
    rig.feed(*[("a", 3 * n, n) for n in range(50)])
    ((window, pane),) = rig.operator._table.get("a").items()
    assert (window, pane.held) == (Window(0, 157), [tuple(range(50))])
    assert rig.finish().taken() == [("a", 0, 157, 50)]


def test_count_evictors():
    rig = rig_of(keyed(TEN).evictor(count_evictor(2))).feed(*[("a", 1, n) for n in range(5)]).finish()
    assert rig.taken() == [("a", [3, 4])]
    twice = rig_of(keyed(TEN).trigger(count_trigger(3)).evictor(count_evictor(1, after=True)))
    assert twice.feed(*[("a", 1, n) for n in range(6)]).taken() == [("a", [0, 1, 2]), ("a", [2, 3, 4, 5])]


def test_time_evictors():
    rows = [("a", 1, 1), ("a", 9, 2), ("a", 5, 3), ("a", 4, 4)]
    assert rig_of(keyed(TEN).evictor(time_evictor(milliseconds(5)))).feed(*rows).finish().taken() == [("a", [2, 3])]
    after = rig_of(
        keyed(TEN).trigger(count_trigger(4)).evictor(time_evictor(milliseconds(5), after=True))
    ).feed(*rows, *[("a", 1, 0)] * 4)  # fmt: skip
    assert after.taken() == [("a", [1, 2, 3, 4]), ("a", [2, 3, 0, 0, 0, 0])]


def test_an_evictor_of_the_user_s_own_that_leaves_nothing():
    class Odd(Evictor):
        def before(self, records, window):
            return [timed for timed in records if timed.record[2] % 2]

    rig = rig_of(keyed(TEN).evictor(Odd())).feed(("a", 1, 2), ("b", 1, 2), ("b", 1, 3)).finish()
    assert rig.taken() == [("b", [3])]


def test_a_fold_with_an_evictor_is_of_what_is_left():
    stream = keyed(TEN).evictor(count_evictor(2)).fold(0, lambda s, r: s + r[2])
    assert Rig(stream).feed(*[("a", 1, n) for n in range(5)]).finish().taken() == [("a", 0, 10, 7)]
    reduced = keyed(TEN).evictor(count_evictor(2)).reduce(max)
    assert Rig(reduced).feed(*[("a", 1, n) for n in range(5)]).finish().taken() == [("a", 0, 10, ("a", 1, 4))]


def test_count_windows():
    rows = [("a", 0, n) for n in range(7)]
    assert rig_of(keyed(count_windows(3))).feed(*rows).finish().taken() == [("a", [0, 1, 2]), ("a", [3, 4, 5])]
    assert rig_of(keyed(count_windows(3, every=2))).feed(*rows).finish().taken() == [
        ("a", [0, 1]),
        ("a", [1, 2, 3]),
        ("a", [3, 4, 5]),
    ]
    assert rig_of(keyed(count_windows(1, every=3))).feed(*rows).finish().taken() == [("a", [2]), ("a", [5])]


def test_count_windows_need_no_event_time():
    stream = StreamEnvironment().from_values([]).key_by(lambda record: record[0]).window(count_windows(2))
    rig = Rig(stream.fold(0, lambda total, record: total + record[2]))
    assert rig.feed(*[("a", 0, n) for n in range(5)]).finish().taken() == [("a", 1), ("a", 5)]


def test_global_windows_fire_at_the_end_of_input():
    rig = rig_of(keyed(global_windows())).feed(("a", 5, 1), ("b", 1, 2)).advance(99).feed(("a", 2, 3))
    assert rig.finish().taken() == [99, ("a", [1, 3]), ("b", [2])]
    assert not rig.operator._table


def test_continuous_firing_of_global_windows_ends_with_the_input():
    rig = rig_of(keyed(global_windows()).trigger(continuous_trigger(milliseconds(10)))).feed(("a", 5, 1))
    assert rig.advance(10).finish().taken() == [("a", [1]), 10, ("a", [1]), ("a", [1])]


class Marked(Trigger):
    """Fires when a record says so, five ms of event time after the last one that hasn't, and at the window's end."""

    can_merge = True

    def on_record(self, record, time_ms, window, ctx):
        self.clear(window, ctx)
        if record[2] == "now":
            return TriggerResult.FIRE
        ctx.set("at", time_ms + 5)
        ctx.register_event_timer(time_ms + 5)
        return TriggerResult.CONTINUE

    def on_event_time(self, time_ms, window, ctx):
        return TriggerResult.FIRE

    def on_merge(self, window, ctx):
        if waiting := ctx.merged("at"):
            ctx.set("at", max(waiting))
            ctx.register_event_timer(max(waiting))

    def clear(self, window, ctx):
        if (at := ctx.get("at")) is not None:
            ctx.cancel_event_timer(at)
            ctx.set("at", None)


def test_a_trigger_of_the_user_s_own():
    rig = rig_of(keyed(tumbling(milliseconds(100))).trigger(Marked()))
    rig.feed(("a", 1, "x")).feed(("a", 2, "y")).advance(6)
    assert rig.taken() == [6]  # 1 + 5 was cancelled
    assert rig.advance(7).taken() == [("a", ["x", "y"]), 7]
    assert rig.feed(("a", 3, "now")).taken() == [("a", ["x", "y", "now"])]
    assert rig.advance(99).taken() == [("a", ["x", "y", "now"]), 99]
    assert len(rig.store.event_timers) == 0


def test_a_trigger_of_the_user_s_own_on_windows_that_merge():
    rig = rig_of(keyed(session(milliseconds(100))).trigger(Marked()))
    rig.feed(("a", 10, 1), ("a", 200, 2))
    rig.feed(("a", 105, "now"))
    assert rig.taken() == [("a", [1, 2, "now"])]
    assert rig.operator._table.get("a")[Window(10, 300)].trigger == {}
    assert len(rig.store.event_timers) == 1  # the window's end alone


class Fits(WindowAssigner):
    """Windows that a record names itself."""

    def assign(self, record, time_ms):
        return [Window(*bounds) for bounds in record[2]]


def test_an_assigner_of_the_user_s_own():
    rig = Rig(keyed(Fits()).reduce(lambda a, b: b))
    rig.feed(("a", 1, [(0, 5), (0, 50)]), ("a", 2, []), ("b", 3, [(3, 4)])).advance(10)
    assert [row[:3] for row in rig.taken()[:-1]] == [("b", 3, 4), ("a", 0, 5)]
    rig.feed(("a", 2, []), ("a", 20, []))
    assert rig.counters.late_records == 1  # without a window, and its time is over: as in Flink
    assert [row[:3] for row in rig.finish().taken()] == [("a", 0, 50)]


class Remembers(WindowFunction):
    """Uses what a window function may use."""

    def open(self, ctx):
        self.seen = ctx.state(ValueState("seen", 0))

    def process(self, key, window, records, ctx):
        firings = ctx.window_state["firings"] = ctx.window_state.get("firings", 0) + 1
        self.seen.set(self.seen.get() + len(records))
        assert key == ctx.key
        assert ctx.timestamp == window.last_ms
        ctx.emit((key, window.start_ms, firings, self.seen.get(), ctx.watermark))

    def clear(self, window, ctx):
        ctx.side_output(LATE, (ctx.key, window.start_ms, ctx.window_state.get("firings")))


def test_what_a_window_function_is_given_and_what_a_snapshot_keeps():
    def stream():
        windowed = keyed(TEN).allowed_lateness(milliseconds(10))
        return windowed.process(Remembers(), tags=[LATE])

    rig = Rig(stream()).feed(("a", 1, 0), ("b", 5, 0), ("a", 12, 0)).advance(9)
    assert rig.taken() == [("a", 0, 1, 1, 9), ("b", 0, 1, 1, 9), 9]
    rig = Rig(stream(), [rig.saved()]).feed(("a", 2, 0))
    assert rig.taken() == [("a", 0, 2, 3, 9)]
    rig = Rig(stream(), [rig.saved()]).advance(19)
    assert rig.taken() == [("a", 10, 1, 4, 19), 19]
    assert sorted(rig.side["late"]) == [("a", 0, 2), ("b", 0, 1)]
    assert rig.feed(("a", 3, 0)).counters.late_records == 1
    rig.finish()
    assert sorted(rig.side["late"]) == [("a", 0, 2), ("a", 10, 1), ("b", 0, 1)]
    assert rig.operator._ctx.watermark == MAX_TIME


def test_windows_move_with_their_keys_when_the_parallelism_changes():
    stream = keyed(session(milliseconds(10))).reduce(lambda a, b: b)
    rows = [(f"k{n}", n, n) for n in range(40)]
    first = Rig(stream).feed(*rows).advance(5)
    parts = [Rig(stream, [first.saved()], subtask=i, parallelism=3) for i in range(3)]
    assert all(len(part.store.event_timers) for part in parts)
    merged = Rig(stream, [part.saved() for part in parts])
    assert len(merged.store.event_timers) == 40
    assert [row.key for row in merged.finish().taken()] == [row[0] for row in rows]


def test_large_results_go_out_in_parts(monkeypatch):
    monkeypatch.setattr(windowing, "_BATCH_ROWS", 10)
    rig, sizes = rig_of(keyed(TEN)), []
    rig.operator.output.main.append(lambda batch: sizes.append(len(batch)))
    rig.feed(*[(f"{n}", 1, 1) for n in range(25)]).advance(9)
    assert sizes == [10, 10, 5]


def test_a_window_function_sets_no_timers():
    class Sets(WindowFunction):
        def process(self, key, window, records, ctx):
            ctx.register_event_timer(window.end_ms)

    with pytest.raises(TopologyError, match="no timers"):
        Rig(keyed(TEN).process(Sets())).feed(("a", 1, 1)).finish()


def test_sliding_windows_without_a_trigger():
    rig = rig_of(keyed(sliding(milliseconds(10), every=milliseconds(5)))).feed(("a", 7, 1), ("a", 12, 2))
    assert rig.finish().taken() == [("a", [1]), ("a", [1, 2]), ("a", [2])]
