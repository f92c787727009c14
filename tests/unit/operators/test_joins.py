"""The join of whole streams against plain loops, what joins have in common, and what they refuse."""

import collections
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Columns, Schema, StreamEnvironment, monotonous, seconds, tumbling
from streamcore.operators.joining import JoinError, matches
from streamcore.operators.stream_join import ChainedRows, stream_join
from streamcore.operators.window_join import window_join

KEYS = {
    "integer": (int, st.integers(-2, 2)),
    "text": (str, st.sampled_from(["", "a", "b", "a much longer key"])),
    "optional": (str | None, st.sampled_from([None, "a", "b"])),
}


@st.composite
def sides(draw):
    declared, keys = KEYS[draw(st.sampled_from(sorted(KEYS)))]
    left = draw(st.lists(st.tuples(keys, st.integers(0, 60), st.integers(0, 3)), max_size=20))
    right = draw(st.lists(st.tuples(keys, st.integers(0, 60), st.booleans()), max_size=20))
    schemas = Schema.of(key=declared, time=int, left=int), Schema.of(id=declared, at=int, right=bool)
    return schemas, sorted(left, key=itemgetter(1)), sorted(right, key=itemgetter(1))


def streams(drawn, batch_size):
    (left_schema, right_schema), left, right = drawn
    env = StreamEnvironment(batch_size=batch_size, parallelism=2)
    lefts = env.from_values(left, left_schema).assign_watermarks(monotonous("time"))
    rights = env.from_values(right, right_schema).assign_watermarks(monotonous("at"))
    return lefts, rights


def brute_force(drawn, is_pair):
    _, left, right = drawn
    return collections.Counter((*a, *b[1:]) for a in left for b in right if a[0] == b[0] and is_pair(a[1], b[1]))


def collected(stream):
    return collections.Counter(map(tuple, stream.execute_and_collect()))


@settings(max_examples=40, deadline=None)
@given(sides(), st.integers(1, 8))
def test_stream_join_finds_all_pairs(drawn, batch_size):
    left, right = streams(drawn, batch_size)
    assert collected(stream_join(left, right, on=("key", "id"))) == brute_force(drawn, lambda a, b: True)


@pytest.mark.parametrize("windowed", [True, False])
def test_keys_of_several_fields(windowed):
    env = StreamEnvironment(batch_size=2)
    left = env.from_values(
        [(1, "a", 5, 10), (1, "b", 5, 11), (2, "a", 6, 12)], Schema.of(n=int, w=str, time=int, x=int)
    )
    right = env.from_values([(1, "a", 7), (2, "a", 8), (2, "b", 9)], Schema.of(n=int, w=str, at=int))
    left, right = left.assign_watermarks(monotonous("time")), right.assign_watermarks(monotonous("at"))
    on = (("n", "w"), ("n", "w"))
    if windowed:
        joined = window_join(left, right, on=on, windows=tumbling(seconds(1)), time=("time", "at"))
    else:
        joined = stream_join(left, right, on=on)
    assert sorted(map(tuple, joined.execute_and_collect())) == [(1, "a", 5, 10, 7), (2, "a", 6, 12, 8)]


@given(st.lists(st.integers(0, 4), max_size=9), st.lists(st.integers(0, 4), max_size=9))
def test_matches_are_all_equal_pairs_in_order(left, right):
    found = matches(np.array(left, np.int64), np.array(right, np.int64), 5)
    expected = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b]
    assert list(zip(*(rows.tolist() for rows in found), strict=True)) == expected


def test_chains_lie_in_few_parts_and_keep_their_order():
    schema, chains = Schema.of(number=int, word=str), ChainedRows(Schema.of(number=int, word=str))
    for number in range(0, 300, 3):
        numbers = np.arange(number, number + 3)
        rows = Columns(schema, {"number": numbers, "word": pa.array(map(str, numbers), pa.string())})
        chains.add(rows, numbers % 7)
    assert len(chains.store.parts) < 8
    assert chains.rows()["number"].tolist() == list(range(300))
    places, met = chains.meet(np.array([9, 3, 3]))  # slot 9 has no chain
    assert met is not None
    assert sorted(zip(places.tolist(), met["number"].tolist(), strict=True)) == sorted(
        (place, number) for place in (1, 2) for number in range(300) if number % 7 == 3
    )
    assert met["word"].to_pylist() == list(map(str, met["number"].tolist()))


def test_what_cannot_be_joined_is_refused_with_the_reason():
    env = StreamEnvironment()
    numbers = env.from_values([(1, 2)], Schema.of(key=int, time=int))
    texts = env.from_values([("a", 2)], Schema.of(id=str, time=int))
    same = env.from_values([(1, 2)], Schema.of(key=int, time=int))
    with pytest.raises(JoinError, match="different types"):
        stream_join(numbers, texts, on=("key", "id"))
    with pytest.raises(JoinError, match="no key 'id'"):
        stream_join(numbers, texts, on="id")
    with pytest.raises(JoinError, match="two fields would have the name 'time'"):
        stream_join(numbers, same, on="key", suffix="")
    with pytest.raises(JoinError, match="need a type"):
        stream_join(numbers, env.from_values([1]), on="key")
    with pytest.raises(JoinError, match="windows of event time, not 5"):
        window_join(numbers, same, on="key", windows=5)
    with pytest.raises(JoinError, match="can't be 'outer'"):
        window_join(numbers, same, on="key", windows=tumbling(seconds(1)), how="outer")
    other = env.from_values([(1, 2)], Schema.of(key=int, at=int))
    with pytest.raises(JoinError, match="'when'"):
        window_join(numbers, other, on="key", windows=tumbling(seconds(1)), time=("when", "at"))
