"""Window join and co-group against plain loops: any windows, arrival order within the bound, and parallelism."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import (
    OutputTag,
    Schema,
    StreamEnvironment,
    Windows,
    bounded_out_of_orderness,
    seconds,
    sliding,
    tumbling,
)
from streamcore.operators.co_group import co_group
from streamcore.operators.window_join import window_join
from tests.operator_rig import OperatorRig
from tests.unit.operators.test_interval_join import streams, two_streams

FIRST, SECOND = Schema.of(key=int, time=int, n=int), Schema.of(key=int, time=int, m=float)
LATES = OutputTag("late-left", FIRST), OutputTag("late-right", SECOND)
WINDOWS = st.builds(Windows, st.integers(1, 40), st.integers(1, 40), st.integers(-5, 5))


def windows_of(windows, time):
    return [
        (start, start + windows.size_ms)
        for number in range(-200, 200)
        if (start := windows.offset_ms + number * windows.every_ms) <= time < start + windows.size_ms
    ]


def in_windows(drawn, windows):
    """(window, its left records, its right records)."""
    found = collections.defaultdict(lambda: ([], []))
    for side in (0, 1):
        for record in drawn[1 + side]:
            for window in windows_of(windows, record[1]):
                found[window][side].append(record)
    return [(window, *both) for window, both in found.items()]


def joined(drawn, windows, how):
    for window, left, right in in_windows(drawn, windows):
        pairs = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a[0] == b[0]]
        met_left, met_right = {i for i, _ in pairs}, {j for _, j in pairs}
        if how == "semi":
            yield from ((*left[i], *window) for i in met_left)
        elif how != "anti":
            yield from ((*left[i], *right[j][1:], *window) for i, j in pairs)
        alone = [record for i, record in enumerate(left) if i not in met_left]
        if how == "anti":
            yield from ((*record, *window) for record in alone)
        if how in ("left", "full"):
            yield from ((*record, None, None, *window) for record in alone)
        if how in ("right", "full"):
            yield from ((b[0], None, None, *b[1:], *window) for j, b in enumerate(right) if j not in met_right)


@settings(max_examples=80, deadline=None)
@given(
    two_streams(),
    WINDOWS,
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from(["inner", "left", "right", "full", "semi", "anti"]),
)
def test_every_window_s_pairs_and_who_has_none(drawn, windows, batch_size, parallelism, how):
    left, right = streams(drawn, batch_size, parallelism)
    stream = window_join(left, right, on=("key", "id"), windows=windows, time=("time", "at"), how=how, bounds=True)
    results = collections.Counter(map(tuple, stream.execute_and_collect()))
    assert results == collections.Counter(joined(drawn, windows, how))


@settings(max_examples=60, deadline=None)
@given(two_streams(), WINDOWS, st.integers(1, 9), st.integers(1, 3))
def test_the_co_grouped_records_of_each_key_and_window(drawn, windows, batch_size, parallelism):
    def lists(key, window, lefts, rights):
        yield key, window, sorted(map(tuple, lefts), key=repr), sorted(map(tuple, rights), key=repr)

    left, right = streams(drawn, batch_size, parallelism)
    stream = co_group(left, right, lists, on=("key", "id"), windows=windows, time=("time", "at"))
    expected = []
    for window, lefts, rights in in_windows(drawn, windows):
        for key in {record[0] for record in (*lefts, *rights)}:
            groups = (sorted((r for r in side if r[0] == key), key=repr) for side in (lefts, rights))
            expected.append((key, window, *groups))
    assert sorted(stream.execute_and_collect(), key=repr) == sorted(expected, key=repr)


def test_co_grouped_records_lie_in_order_of_time_whatever_the_windows():
    lefts, rights = [(1, 220, 0), (1, 40, 1), (1, 130, 2), (1, 30, 3)], [(1, 90, 1.0), (1, 10, 2.0)]
    strategy = bounded_out_of_orderness("time", seconds(1))
    for parallelism in (1, 2):
        env = StreamEnvironment(parallelism=parallelism, batch_size=1)
        left, right = (
            env.from_values(rows, schema).assign_watermarks(strategy)
            for rows, schema in ((lefts, FIRST), (rights, SECOND))
        )
        stream = co_group(left, right, lambda *found: [found], on="key", windows=sliding(0.25, every=0.1))
        found = {
            bounds[0]: ([r.time for r in of], [r.time for r in to])
            for _, bounds, of, to in stream.execute_and_collect()
        }
        assert found == {
            -200: ([30, 40], [10]), -100: ([30, 40, 130], [10, 90]), 0: ([30, 40, 130, 220], [10, 90]),
            100: ([130, 220], []), 200: ([220], []),
        }  # fmt: skip


def test_co_grouped_keys_of_several_fields_are_tuples():
    env = StreamEnvironment()
    left = env.from_values([(1, 5, 7)], FIRST)
    right = env.from_values([(2, 6, 0.5)], SECOND)
    on = (("key", "time"), ("key", "time"))
    stream = co_group(left, right, lambda key, *rest: [(key, *rest)], on=on, windows=tumbling(seconds(1)))
    assert sorted(stream.execute_and_collect()) == [
        ((1, 5), (0, 1000), [(1, 5, 7)], []),
        ((2, 6), (0, 1000), [], [(2, 6, 0.5)]),
    ]


def rig(windows, how="inner", saved=()):
    env = StreamEnvironment()
    stream = window_join(
        env.from_values([], FIRST), env.from_values([], SECOND), on="key", windows=windows, how=how, suffix="_r",
        late_to=LATES,
    )  # fmt: skip
    return OperatorRig(stream._node.make(), (FIRST, SECOND), saved=saved, sides=("late-left", "late-right"))


def test_a_record_is_late_when_all_its_windows_are_over():
    join = rig(Windows(10, 5)).process(0, (1, 12, 0)).advance(14)
    join.process(1, (1, 9, 0.5), (1, 10, 1.5), (1, 4, 2.5)).process(0, (1, 9, 1), (1, 14, 2))
    assert join.side_out == {"late-left": [(1, 9, 1)], "late-right": [(1, 9, 0.5), (1, 4, 2.5)]}
    assert join.counters.late_records == 3
    assert join.advance(19).taken() == [14, (1, 12, 0, 10, 1.5), (1, 14, 2, 10, 1.5), 19]


def test_records_between_windows_that_stand_apart_belong_to_none():
    join = rig(Windows(5, 10), "full").process(0, (1, 7, 0), (1, 12, 1)).advance(20)
    assert join.taken() == [(1, 12, 1, None, None), 20]
    assert join.process(0, (1, 17, 2)).counters.late_records == 0


@pytest.mark.parametrize("how", ["inner", "full"])
def test_a_snapshot_has_what_waits(how):
    join = rig(Windows(10, 5), how).process(0, (1, 3, 0), (1, 12, 1), (2, 13, 2)).advance(9)
    join.taken()
    again = rig(Windows(10, 5), how, saved=[join.saved()])
    again.process(0, (1, 3, 9)).process(1, (1, 11, 0.5)).advance(14)
    alone = [(2, 13, 2, None, None)] if how == "full" else []
    assert again.taken() == [(1, 12, 1, 11, 0.5), *alone, 14]
    assert again.counters.late_records == 1  # the watermark is restored too


def test_small_windows_go_out_together_and_big_ones_at_once():
    batches = []
    join = rig(tumbling(seconds(0.01)))
    join.operator.output.main.append(lambda batch: batches.append(len(batch)))
    join.process(0, *((1, time, 0) for time in range(100))).process(1, *((1, time, 0.5) for time in range(100)))
    assert batches == []
    join.advance(200)
    assert batches == [1000]  # 10 x 10 in each of ten windows
    join.process(0, *((1, 300, n) for n in range(100))).process(1, *((1, 300, 0.5) for _ in range(100)))
    join.process(0, (1, 310, 0)).process(1, (1, 310, 0.5)).advance(400)
    assert batches == [1000, 10_000, 1]
