"""Keys in RocksDB: equal in Python is equal in bytes, and what comes back is the key that was put in."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import uuid
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import plain
from streamcore.errors import StateCodecError, TopologyError
from streamcore.state.rocks_keys import after, cut_length, encode_key, name_prefix, state_prefix, with_length


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    A = "a"


class Point(NamedTuple):
    x: int
    y: object


@dataclasses.dataclass(frozen=True)
class Card:
    number: object
    note: str = dataclasses.field(default="", compare=False)


class Pair(msgspec.Struct, frozen=True):
    left: object
    right: int


SMALL = st.integers(-3, 3)
ZONES = st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=2))])
ATOMS = st.one_of(
    SMALL,
    st.booleans(),
    st.none(),
    SMALL.map(float),
    st.sampled_from([0.5, -0.0, 1e300, float("inf"), 2.0**63, 2**63, 2**64, -(2**70), 10**300, int(1e300)]),
    st.sampled_from(["", "a", "b", "1", "\0", b"", b"a", b"1"]),
    SMALL.map(decimal.Decimal),
    st.sampled_from(["0.5", "0.1", "0.10", "Infinity", "1E+2"]).map(decimal.Decimal),
    SMALL.map(np.int32),
    st.sampled_from([np.float64(0.5), np.str_("a"), np.bool_(True)]),
    SMALL.map(lambda n: complex(n, 0)),
    st.sampled_from([1j, *Colour, *Level, *Word]),
    st.builds(datetime.datetime, st.just(2024), st.just(5), st.integers(1, 2), st.integers(0, 23), tzinfo=ZONES),
    st.builds(datetime.datetime, st.just(2024), st.just(5), st.integers(1, 2)),
    st.builds(datetime.date, st.just(2024), st.just(5), st.integers(1, 2)),
    st.builds(datetime.time, st.integers(0, 4), tzinfo=st.one_of(st.none(), ZONES)),
    st.integers(0, 3).map(lambda n: datetime.timedelta(seconds=n)),
    st.integers(0, 2).map(lambda n: uuid.UUID(int=n)),
)
KEYS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Card, inner, st.sampled_from(["", "x"])),
        st.builds(Pair, inner, SMALL),
        st.frozensets(inner, max_size=3),
    ),
    max_leaves=4,
)


@given(st.lists(KEYS, min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_bytes_are_equal_just_where_keys_are(keys):
    for a in keys:
        for b in keys:
            assert (encode_key(a)[0] == encode_key(b)[0]) == (len({a, b}) == 1), (a, b)


@given(KEYS)
@settings(max_examples=200, deadline=None)
def test_exact_keys_come_back_as_they_were(key):
    data, exact = encode_key(key)
    if exact:
        back = plain.decode(data)
        assert back == key
        assert type(back) is type(key)


def test_the_common_keys_are_exact():
    for key in (1, -5, "word", b"bytes", None, ("a", 1, b"x"), 0.5, 2**70, Colour.RED, datetime.date(2024, 1, 1)):
        assert encode_key(key)[1], key


def test_not_a_number_is_one_key():
    assert encode_key(float("nan"))[0] == encode_key(decimal.Decimal("nan"))[0]


class Strange:
    pass


@pytest.mark.parametrize("key", [Strange(), fractions.Fraction(1, 3), ("a", Strange()), frozenset([Strange()])])
def test_a_key_that_bytes_cannot_tell_is_refused(key):
    with pytest.raises(StateCodecError, match="can't be looked up in RocksDB") as caught:
        encode_key(key)
    assert 'state_backend="heap"' in caught.value.hint


def test_text_that_is_none_is_refused():
    with pytest.raises(StateCodecError, match="can't be saved"):
        encode_key("\ud800")


@given(st.binary(min_size=1, max_size=6).filter(lambda data: data[0] < 255), st.binary(max_size=6))
def test_all_that_begins_with_a_prefix_is_before_what_is_after_it(prefix, rest):
    assert prefix <= prefix + rest < after(prefix)


@given(st.binary(max_size=5), st.binary(max_size=5), st.binary(max_size=5))
def test_a_length_tells_where_a_key_ends(before, key, rest):
    assert cut_length(before + with_length(key) + rest, len(before)) == (key, rest)


def test_states_of_a_key_group_lie_apart_and_in_the_order_of_groups():
    prefixes = [state_prefix(group, name) for group in (0, 1, 255, 256, 32767) for name in ("a", "ab", "b")]
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and b.startswith(a)]
    assert [p[:2] for p in prefixes] == sorted(p[:2] for p in prefixes)


def test_a_name_that_is_too_long_is_refused():
    assert name_prefix("é" * 127)
    with pytest.raises(TopologyError, match="256 bytes"):
        name_prefix("é" * 128)
