"""Windows that are computed record by record: their results, and each mistake as one clear error."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from streamcore import (
    OutputTag,
    Schema,
    StreamEnvironment,
    Trigger,
    WindowAssigner,
    WindowFunction,
    bounded_out_of_orderness,
    continuous_trigger,
    count,
    count_evictor,
    count_trigger,
    count_windows,
    event_time_trigger,
    global_windows,
    max_of,
    mean,
    milliseconds,
    purging,
    session,
    sliding,
    sum_of,
    time_evictor,
    tumbling,
)
from streamcore.errors import StreamcoreError, TopologyError

FILE = Path(__file__).name
RECORD = Schema.of(key=str, t=int, n=int)
ROWS = [("a", 1, 5), ("b", 4, 2), ("a", 12, 7), ("a", 3, 1), ("b", 25, 9)]
TEN = tumbling(milliseconds(10))
LATE = OutputTag("late", RECORD)
CLOCK = tumbling(milliseconds(10), processing_time=True)


@pytest.fixture(params=[1, 3])
def env(request):
    return StreamEnvironment(parallelism=request.param, batch_size=2)


def typed(env, rows=ROWS, bound=10):
    return env.from_values(rows, RECORD).assign_watermarks(bounded_out_of_orderness("t", milliseconds(bound)))


def untyped(env, rows=ROWS):
    return env.from_values(rows).assign_watermarks(bounded_out_of_orderness(lambda row: row[1], milliseconds(10)))


def collected(stream):
    return sorted(map(tuple, stream.execute_and_collect()))


TENS = [("a", 0, 10, 2, 6, 3.0), ("a", 10, 20, 1, 7, 7.0), ("b", 0, 10, 1, 2, 2.0), ("b", 20, 30, 1, 9, 9.0)]


@pytest.mark.parametrize("change", [lambda w: w.trigger(event_time_trigger()), lambda w: w.evictor(count_evictor(99))])
def test_aggregates_are_the_same_by_rows_as_by_columns(env, change):
    def results(windowed):
        return windowed.aggregate(count(), sum_of("n"), mean=mean("n"))

    by_rows = results(change(typed(env).key_by("key").window(TEN)))
    by_columns = results(typed(env).key_by("key").window(TEN))
    assert by_rows.schema == by_columns.schema
    assert collected(by_rows) == TENS
    assert collected(results(typed(env).key_by("key").window(TEN))) == TENS


def test_aggregates_of_a_stream_keyed_by_a_function(env):
    results = typed(env).key_by(lambda row: row.key).window(TEN).aggregate(count(), sum_of("n"), mean=mean("n"))
    assert sorted((*place, *values.values()) for *place, values in results.execute_and_collect()) == TENS


@dataclass
class Reading:
    key: str
    t: int
    n: int


@pytest.mark.parametrize("make", [lambda *row: dict(zip(("key", "t", "n"), row, strict=True)), Reading])
def test_aggregates_of_records_without_a_declared_type(env, make):
    def time(record):
        return record["t"] if isinstance(record, dict) else record.t

    source = env.from_values([make(*row) for row in ROWS])
    stream = source.assign_watermarks(bounded_out_of_orderness(time, milliseconds(10)))
    results = stream.key_by("key").window(TEN).aggregate(count(), sum_of("n"), mean=mean("n"))
    assert sorted((*place, *values.values()) for *place, values in results.execute_and_collect()) == TENS


@pytest.mark.parametrize("field", ["nothing", "key"])
def test_an_aggregate_of_a_field_that_records_don_t_have_or_that_is_no_number(env, field):
    source = env.from_values([Reading(*row) for row in ROWS])
    counted = source.key_by("key").window(count_windows(1)).aggregate(max_of(field))
    with pytest.raises(StreamcoreError, match=f"{field}"):
        counted.execute_and_collect()


class Span(NamedTuple):
    first: int
    last: int


def test_folds_of_a_typed_stream_have_the_fields_of_their_states(env):
    windows = session(milliseconds(10))
    stream = typed(env).key_by("key").window(windows)
    results = stream.fold(Span(1 << 40, -1), widest, merge=joined)
    assert results.schema.names == ("key", "window_start", "window_end", "first", "last")
    assert collected(results) == [("a", 1, 22, 1, 12), ("b", 4, 14, 4, 4), ("b", 25, 35, 25, 25)]
    total = typed(env).key_by("key").window(windows).fold(0, lambda s, row: s + row.n, merge=lambda a, b: a + b)
    assert total.schema.names == ("key", "window_start", "window_end", "value")
    assert collected(total) == [("a", 1, 22, 13), ("b", 4, 14, 2), ("b", 25, 35, 9)]


def widest(span, row):
    return Span(min(span.first, row.t), max(span.last, row.t))


def joined(span, other):
    return Span(min(span.first, other.first), max(span.last, other.last))


def test_folds_of_any_value_and_results_of_a_type(env):
    windowed = typed(env).key_by("key").window(session(milliseconds(10)))
    names = windowed.fold(frozenset(), lambda s, row: s | {row.n}, merge=lambda a, b: a | b)
    assert names.schema is None
    assert {row.value for row in names.execute_and_collect()} == {frozenset({5, 7, 1}), frozenset({2}), frozenset({9})}
    again = typed(env).key_by("key").window(session(milliseconds(10)))
    sized = again.fold(frozenset(), lambda s, row: s | {row.n}, merge=lambda a, b: a | b, result=size, returns=Span)
    assert collected(sized) == [("a", 1, 22, 3, 0), ("b", 4, 14, 1, 0), ("b", 25, 35, 1, 0)]


def size(values):
    return Span(len(values), 0)


def test_results_can_be_cut_into_windows_again(env):
    inner = untyped(env).key_by(lambda row: row[0]).window(session(milliseconds(10))).reduce(max)
    outer = inner.key_by(lambda result: result.key).window(tumbling(milliseconds(20))).process(Starts())
    assert collected(outer) == [("a", 20, (1,)), ("b", 0, (4,)), ("b", 20, (25,))]
    first = typed(env).key_by("key").window(session(milliseconds(10))).reduce(max)
    again = first.key_by("key").window(tumbling(milliseconds(20))).aggregate(count())
    assert collected(again) == [("a", 20, 40, 1), ("b", 0, 20, 1), ("b", 20, 40, 1)]


class Starts(WindowFunction):
    def process(self, key, window, records, ctx):
        ctx.emit((key, window.start_ms, tuple(record.window_start for record in records)))


def test_a_window_function_says_when_its_results_are(env):
    class Bounds(WindowFunction):
        def process(self, key, window, records, ctx):
            ctx.emit((key, window.end_ms))

    ends = untyped(env).key_by(lambda row: row[0]).window(TEN).process(
        Bounds(), returns=Schema.of(key=str, window_end=int)
    )  # fmt: skip
    again = ends.key_by("key").window(tumbling(milliseconds(40))).aggregate(count())
    assert collected(again) == [("a", 0, 40, 2), ("b", 0, 40, 2)]
    bare = untyped(env).key_by(lambda row: row[0]).window(TEN).process(Bounds()).key_by(lambda row: row[0])
    refused(lambda: bare.window(TEN), "has no event time")
    timed = bare.window(tumbling(milliseconds(40)), time=lambda row: row[1] - 1).fold(0, lambda n, _: n + 1)
    assert collected(timed) == [("a", 0, 40, 2), ("b", 0, 40, 2)]


def test_windows_of_the_whole_stream(env):
    everything = typed(env).window_all(TEN).aggregate(count(), sum_of("n"))
    assert everything.schema.names == ("window_start", "window_end", "count", "sum_n")
    assert collected(everything) == [(0, 10, 3, 8), (10, 20, 1, 7), (20, 30, 1, 9)]
    assert collected(untyped(env).window_all(TEN).reduce(max)) == [
        (None, 0, 10, ("b", 4, 2)),
        (None, 10, 20, ("a", 12, 7)),
        (None, 20, 30, ("b", 25, 9)),
    ]
    assert collected(typed(env).key_by("key").window_all(count_windows(5)).aggregate(count())) == [(5,)]


def test_late_records_have_their_side_output_and_are_counted_without_it():
    rows = [("a", 1, 1), ("a", 50, 2), ("a", 3, 3), ("b", 2, 4), ("a", 70, 5)]
    env = StreamEnvironment(batch_size=1, buffer_timeout=0.0)
    windowed = typed(env, rows, bound=0).key_by("key").window(TEN).late_to(LATE)
    counted = windowed.aggregate(count())
    both = counted.map(tuple).union(counted.side_output(LATE).map(lambda row: ("late", *row)))
    results = both.execute_and_collect()
    late = {row for row in results if row[0] == "late"}
    assert late <= {("late", "a", 3, 3), ("late", "b", 2, 4)}
    assert sum(row[3] for row in results if row[0] != "late") + len(late) == len(rows)


def test_windows_of_the_clock_need_no_event_time(env):
    results = env.from_values(ROWS).key_by(lambda row: row[0]).window(CLOCK).fold(0, lambda s, row: s + row[2])
    totals = {"a": 0, "b": 0}
    for key, start, end, value in results.execute_and_collect():
        assert (start % 10, end - start) == (0, 10)
        totals[key] += value
    assert totals == {"a": 13, "b": 11}


def test_every_subtask_has_objects_of_its_own():
    class Counts(WindowFunction):
        def __init__(self):
            self.keys = set()

        def process(self, key, window, records, ctx):
            self.keys.add(key)
            ctx.emit((ctx.subtask, len(self.keys)))

    function = Counts()
    env = StreamEnvironment(parallelism=3)
    stream = env.from_values([(f"k{n}", 0, n) for n in range(30)]).key_by(lambda row: row[0])
    results = stream.window(count_windows(1)).process(function).execute_and_collect()
    assert len({subtask for subtask, _ in results}) == 3
    assert sorted(results) == sorted(
        (i, n) for i in range(3) for n in range(1, 1 + sum(1 for subtask, _ in results if subtask == i))
    )
    assert function.keys == set()


# --- mistakes ----------------------------------------------------------------------------------------------


def refused(call, *parts):
    """`call` raises one clear error that names the caller's line, and has all `parts`."""
    frame = inspect.currentframe().f_back
    with pytest.raises(TopologyError) as caught:
        call()
    text = str(caught.value)
    for part in (f"({FILE}:{frame.f_lineno})", *parts):
        assert part in text, f"{part!r} is not in {text!r}"
    assert "hint: " in text


class Own(Trigger):
    def on_record(self, record, time_ms, window, ctx):
        raise NotImplementedError


class Gapped(WindowAssigner):
    merging = True

    def assign(self, record, time_ms):
        raise NotImplementedError


def test_windows_of_all_records_have_one_subtask(env):
    whole = typed(env).window_all(TEN).process(WindowFunction())
    assert whole.parallelism(1) is whole
    with pytest.raises(TopologyError, match=r"parallelism 2 .* takes the stream as a whole"):
        whole.parallelism(2)


def test_what_is_no_windows_no_trigger_and_no_evictor(env):
    keyed = typed(env).key_by("key")
    refused(lambda: keyed.window(5), "window", "5 is no windows")
    refused(lambda: keyed.window(WindowAssigner), "is no windows")
    refused(lambda: keyed.window(TEN).trigger(Own), "is no trigger")
    refused(lambda: keyed.window(TEN).evictor(3), "3 is no evictor")
    refused(lambda: keyed.window(TEN).process(Starts), "is no WindowFunction")
    refused(lambda: keyed.window(session(1.0)).aggregate("n"), "'n' is no aggregate")


@pytest.mark.parametrize("windows", [CLOCK, count_windows(3), global_windows()])
def test_windows_for_which_nothing_is_late(env, windows):
    windowed = typed(env).key_by("key").window(windows)
    refused(lambda: windowed.allowed_lateness(milliseconds(5)), "allowed_lateness", "can't be late")
    refused(lambda: windowed.late_to(LATE), "late_to", "can't be late")


def test_triggers_that_don_t_go_with_the_windows(env):
    keyed = typed(env).key_by("key")
    refused(lambda: keyed.window(session(1.0)).trigger(Own()), "merge, and Own can't", "on_merge")
    refused(lambda: keyed.window(Gapped()).trigger(purging(Own())), "merge, and PurgingTrigger can't")
    refused(lambda: keyed.window(count_windows(3)).trigger(count_trigger(2)), "have their own", "global_windows()")
    refused(lambda: keyed.window(count_windows(3)).evictor(count_evictor(2)), "have their own")
    refused(lambda: keyed.window(CLOCK).trigger(event_time_trigger()), "never fire")
    refused(lambda: keyed.window(CLOCK).trigger(purging(continuous_trigger(1.0))), "never fire")
    bare = env.from_values(ROWS).key_by(lambda row: row[0]).window(global_windows())
    refused(lambda: bare.trigger(continuous_trigger(1.0)), "never fire", "watermarks")
    refused(lambda: bare.evictor(time_evictor(1.0)), "the stream has none")


def test_times_and_lateness(env):
    keyed = typed(env).key_by("key")
    refused(lambda: keyed.window(TEN).allowed_lateness(-1.0), "allowed_lateness", "-1.0 s")
    refused(lambda: keyed.window(CLOCK, time="t"), "processing time")
    refused(lambda: env.from_values(ROWS).window_all(session(1.0)), "window_all", "has no event time")


def test_folds_that_don_t_go_with_the_windows(env):
    merging = typed(env).key_by("key").window(session(1.0))
    refused(lambda: merging.fold(0, max), "merge", "merge=")
    refused(lambda: merging.fold(1, max, merge=lambda a, b: a + b), "isn't initial")
    by_clock = typed(env).key_by("key").window(CLOCK)
    refused(lambda: by_clock.fold(0, max, merge=max, compiled=True), "record by record")


def test_two_results_of_one_name(env):
    windowed = typed(env).key_by("key").window(session(1.0))
    refused(lambda: windowed.aggregate(count(), count()), "two results are named 'count'")
    refused(lambda: windowed.aggregate(key=count()), "two results are named 'key'")


@pytest.mark.parametrize(
    "call",
    [
        lambda: count_trigger(0),
        lambda: count_evictor(0),
        lambda: time_evictor(0.0),
        lambda: continuous_trigger(float("inf")),
        lambda: sliding(1.0, every=0.0, processing_time=True),
    ],
)
def test_lengths_that_make_no_sense(call):
    with pytest.raises(TopologyError, match="hint: "):
        call()
