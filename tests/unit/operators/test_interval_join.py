"""The interval join against plain loops: any bounds, keys, arrival order within the bound, batch size, parallelism."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import (
    OutputTag,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    milliseconds,
    monotonous,
    seconds,
    tumbling,
)
from streamcore.operators import interval_join as module
from streamcore.operators.interval_join import interval_join
from streamcore.operators.joining import JoinError
from streamcore.operators.time_chains import TimeChains
from tests.operator_rig import OperatorRig

BOUND = 7
KEYS = {
    "integer": (int, st.integers(-2, 2)),
    "text": (str, st.sampled_from(["", "a", "a much longer key"])),
    "optional": (str | None, st.sampled_from([None, "a", "b"])),
}


@pytest.fixture(autouse=True, scope="module")
def tidy_early():
    """What is forgotten is cleared away all the time, not only in big joins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LEAST_ROWS", 2)
        yield


def out_of_order(draw, records):
    """The records so that each comes less than BOUND after those of later times."""
    shifts = draw(st.lists(st.integers(0, BOUND), min_size=len(records), max_size=len(records)))
    order = sorted(range(len(records)), key=lambda i: records[i][1] + shifts[i])
    return [records[i] for i in order]


@st.composite
def two_streams(draw):
    declared, keys = KEYS[draw(st.sampled_from(sorted(KEYS)))]
    times = st.integers(-30, 60)
    left = out_of_order(draw, draw(st.lists(st.tuples(keys, times, st.integers(0, 3)), max_size=25)))
    right = out_of_order(draw, draw(st.lists(st.tuples(keys, times, st.booleans()), max_size=25)))
    return (Schema.of(key=declared, time=int, left=int), Schema.of(id=declared, at=int, right=bool)), left, right


def streams(drawn, batch_size=3, parallelism=1, bound=BOUND):
    (left_schema, right_schema), left, right = drawn
    env = StreamEnvironment(batch_size=batch_size, parallelism=parallelism)
    lefts = env.from_values(left, left_schema)
    rights = env.from_values(right, right_schema)
    return (
        lefts.assign_watermarks(bounded_out_of_orderness("time", milliseconds(bound))),
        rights.assign_watermarks(bounded_out_of_orderness("at", milliseconds(bound))),
    )


def by_plain_loops(drawn, low, high, how):
    _, left, right = drawn
    pairs = [(a, b) for a in left for b in right if a[0] == b[0] and low <= b[1] - a[1] <= high]
    found = collections.Counter((*a, *b[1:], max(a[1], b[1])) for a, b in pairs)
    met_left, met_right = {a for a, _ in pairs}, {b for _, b in pairs}
    if how in ("left", "full"):
        found += collections.Counter((*a, None, None, max(a[1], a[1] + high)) for a in left if a not in met_left)
    if how in ("right", "full"):
        found += collections.Counter(
            (b[0], None, None, *b[1:], max(b[1], b[1] - low)) for b in right if b not in met_right
        )
    return found


@settings(max_examples=80, deadline=None)
@given(
    two_streams(),
    st.integers(1, 9),
    st.integers(1, 3),
    st.tuples(st.integers(-40, 40), st.integers(-40, 40)).map(sorted),
    st.sampled_from(["inner", "left", "right", "full"]),
)
def test_all_pairs_within_the_bounds_and_who_has_none(drawn, batch_size, parallelism, bounds, how):
    left, right = streams(drawn, batch_size, parallelism)
    low, high = bounds
    joined = interval_join(
        left,
        right,
        on=("key", "id"),
        lower=milliseconds(low),
        upper=milliseconds(high),
        time=("time", "at"),
        how=how,
        result_time="when",
    )
    results = collections.Counter(map(tuple, joined.execute_and_collect()))
    assert results == by_plain_loops(drawn, low, high, how)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-99, 99)), max_size=40),
    st.lists(st.tuples(st.integers(0, 4), st.integers(-99, 99)), max_size=10),
    st.integers(0, 50),
)
def test_chains_find_what_lies_between(rows, asked, span):
    chains = TimeChains(span)
    for part in (rows[:7], rows[7:]):
        chains.add(*np.array(part, np.int64).reshape(-1, 2).T.copy())
    slots, firsts = np.array(asked, np.int64).reshape(-1, 2).T.copy()
    places, found = chains.between(slots, firsts, firsts + span)
    expected = {
        (place, row)
        for place, (slot, first) in enumerate(asked)
        for row, (own, time) in enumerate(rows)
        if own == slot and first <= time <= first + span
    }
    assert len(places) == len(expected)
    assert set(zip(places.tolist(), found.tolist(), strict=True)) == expected


FIRST, SECOND = Schema.of(key=int, time=int, n=int), Schema.of(key=int, time=int, n=int)


def joined(left, right, bound=0, **options):
    drawn = (FIRST, SECOND), left, right
    return interval_join(*streams_of_time(drawn, bound), on="key", suffix="_r", **options)


def streams_of_time(drawn, bound):
    (first, second), left, right = drawn
    env = StreamEnvironment(batch_size=1)
    strategy = bounded_out_of_orderness("time", milliseconds(bound))
    return tuple(env.from_values(v, s).assign_watermarks(strategy) for v, s in ((left, first), (right, second)))


def rows(stream):
    return sorted(map(tuple, stream.execute_and_collect()))


def test_bounds_can_be_left_out():
    left, right = [(1, 100, 0)], [(1, t, t) for t in (98, 99, 100, 101, 102)]
    options = {"lower": milliseconds(-2), "upper": milliseconds(2)}
    times = [row[3] for row in rows(joined(left, right, **options))]
    assert times == [98, 99, 100, 101, 102]
    open_low = joined(left, right, include_lower=False, **options)
    open_high = joined(left, right, include_upper=False, **options)
    assert [row[3] for row in rows(open_low)] == [99, 100, 101, 102]
    assert [row[3] for row in rows(open_high)] == [98, 99, 100, 101]


LATES = OutputTag("late-left", FIRST), OutputTag("late-right", SECOND)


def rig(lower, upper, how="inner", saved=()):
    env = StreamEnvironment()
    stream = interval_join(
        env.from_values([], FIRST), env.from_values([], SECOND), on="key", lower=milliseconds(lower),
        upper=milliseconds(upper), how=how, suffix="_r", result_time="when", late_to=LATES,
    )  # fmt: skip
    return OperatorRig(stream._node.make(), (FIRST, SECOND), saved=saved, sides=("late-left", "late-right"))


def test_late_records_go_to_their_side_output_and_are_counted():
    join = rig(-10, 10).process(0, (1, 100, 0)).advance(99)
    join.process(0, (1, 99, 1), (1, 100, 2)).process(1, (1, 99, 3), (1, 90, 4), (1, 101, 5))
    assert join.taken() == [99, (1, 100, 2, 101, 5, 101), (1, 100, 0, 101, 5, 101)]
    assert join.side_out == {"late-left": [(1, 99, 1)], "late-right": [(1, 99, 3), (1, 90, 4)]}
    assert join.counters.late_records == 3


def test_late_records_in_a_job():
    numbers = [(1, 10 * n, n) for n in range(300)]
    streams = streams_of_time(((FIRST, SECOND), [*numbers, (1, 5, 300)], [*numbers, (1, 6, 300)]), 0)
    options = {"on": "key", "lower": 0, "upper": 0, "suffix": "_r", "late_to": LATES}
    stream = interval_join(*streams, **options)
    parts = [stream, *map(stream.side_output, LATES)]
    names = ("pair", "left", "right")
    tagged = [part.map(lambda row, name=name: (name, row.n)) for part, name in zip(parts, names, strict=True)]
    expected = [("pair", n) for n in range(300)] + [("left", 300), ("right", 300)]
    assert sorted(tagged[0].union(*tagged[1:]).execute_and_collect()) == sorted(expected)


def test_a_record_without_partner_comes_when_none_can_come_any_more():
    join = rig(2, 5, "full").process(0, (1, 10, 0)).process(1, (1, 20, 1))
    assert join.advance(14).taken() == [14]
    assert join.advance(15).taken() == [(1, 10, 0, None, None, 15), 15]
    assert join.advance(17).taken() == [17]
    assert join.advance(18).taken() == [(1, None, None, 20, 1, 20), 18]  # from now on, what is at 18 or before is late
    early = rig(2, 5, "full").advance(18).process(1, (1, 20, 1))
    assert early.taken() == [18, (1, None, None, 20, 1, 20)]  # nothing can come for it from the beginning
    assert len(early.operator._function._second) == 0


def test_a_record_that_nothing_can_come_for_may_have_met_one():
    join = rig(-10, -5, "full").process(1, (1, 10, 0)).advance(9)
    join.process(0, (1, 14, 1), (1, 15, 2), (1, 30, 3)).advance(12).advance(100)
    assert join.taken() == [
        9,
        (1, 15, 2, 10, 0, 15),
        (1, 14, 1, None, None, 14),
        12,
        (1, 30, 3, None, None, 30),
        100,
    ]
    join = rig(-10, -5, "full").process(1, (1, 10, 0)).advance(12).process(0, (1, 15, 1))
    assert join.taken() == [12, (1, 15, 1, 10, 0, 15)]
    assert len(join.operator._function._first) == 0


def test_what_is_over_is_forgotten():
    join = rig(-5, 5)
    for number in range(300):
        join.process(0, (number, 10 * number, 0)).process(1, (number, 10 * number + 3, 0)).advance(10 * number)
    function = join.operator._function
    assert len(join.taken()) == 600
    assert max(len(function._first), len(function._second)) <= 4
    assert len(function._keys) < 12
    assert len(function._first.captured()) <= 2
    join.advance(3000)
    assert len(function._first) == len(function._second) == 0


def test_a_record_is_found_when_the_keys_of_others_have_been_forgotten():
    join = rig(0, 10).process(0, *((key, 1, 0) for key in range(20))).process(0, (20, 10, 1)).advance(15)
    assert len(join.operator._function._keys) == 1
    assert join.process(1, (20, 16, 2), (3, 16, 3)).taken() == [15, (20, 10, 1, 16, 2, 16)]


@pytest.mark.parametrize("how", ["inner", "full"])
def test_a_snapshot_has_what_is_kept_and_who_has_met(how):
    join = rig(-10, 10, how).process(0, (1, 100, 0), (2, 100, 1)).process(1, (1, 105, 2)).advance(95)
    assert join.taken() == [(1, 100, 0, 105, 2, 105), 95]
    again = rig(-10, 10, how, saved=[join.saved()])
    again.process(0, (1, 90, 3)).process(1, (1, 96, 4)).advance(200)
    alone = [(2, 100, 1, None, None, 110)] if how == "full" else []
    assert again.taken() == [(1, 100, 0, 96, 4, 100), *alone, 200]
    assert again.counters.late_records == 1  # the watermark is restored too


def test_windows_after_the_join_go_by_the_result_time():
    left, right = [(1, 100, 0), (1, 1900, 1)], [(1, 1000, 0), (1, 2100, 1)]
    stream = joined(left, right, lower=seconds(0), upper=seconds(1), result_time="when")
    counts = stream.key_by("key").window(tumbling(seconds(1))).aggregate(count())
    assert rows(counts) == [(1, 1000, 2000, 1), (1, 2000, 3000, 1)]


def test_many_results_and_growing_chains():
    n = 400
    left, right = [(1, 0, i) for i in range(n)], [(1, 1, i) for i in range(n)]
    env = StreamEnvironment(batch_size=300)
    streams = (env.from_values(values, FIRST).assign_watermarks(monotonous("time")) for values in (left, right))
    stream = interval_join(*streams, on="key", lower=0, upper=seconds(1), suffix="_r")
    pairs = stream.select("n", "n_r").execute_and_collect()
    assert len(set(pairs)) == len(pairs) == n * n


def test_what_cannot_be_joined_is_refused_with_the_reason():
    env = StreamEnvironment()
    left, right = env.from_values([], FIRST), env.from_values([], SECOND)
    text = env.from_values([], Schema.of(key=str, when=int))
    narrow = env.from_values([], Schema.of(key=np.int32, at=int))
    ways = [
        ({"lower": 1, "upper": 0, "suffix": "_r"}, right, "no distance"),
        ({"lower": 0, "upper": 0, "suffix": "_r", "include_upper": False}, right, "no distance"),
        ({"lower": 0, "upper": float("inf"), "suffix": "_r"}, right, "inf s"),
        ({"lower": 0, "upper": 1, "suffix": ""}, right, "two fields would have the name 'time'"),
        ({"lower": 0, "upper": 1, "suffix": "_r", "result_time": "time_r"}, right, "two fields would have the name"),
        ({"lower": 0, "upper": 1, "suffix": "_r", "how": "semi"}, right, "can't be 'semi'"),
        ({"lower": 0, "upper": 1, "suffix": "_r"}, text, "different types"),
        ({"lower": 0, "upper": 1, "how": "full", "time": ("time", "at")}, narrow, "different types"),
        ({"lower": 0, "upper": 1, "time": ("time", "when")}, narrow, "no event time in a field 'when'"),
    ]
    for options, other, message in ways:
        with pytest.raises(JoinError, match=message):
            interval_join(left, other, on="key", **options)
