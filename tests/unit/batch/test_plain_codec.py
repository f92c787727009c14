"""The plain codec: every value it takes comes back equal and of its type; what it does not take is refused at once."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import math
import pickle
import re
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, plain
from streamcore.errors import StateCodecError


def _without_address(value):
    """Names of tests have to be the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


class Pair(NamedTuple):
    a: Any
    b: Any


class Message(msgspec.Struct, frozen=True):
    kind: str
    body: Any


class Color(enum.Enum):
    RED = "r"
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Outer:
    @dataclass
    class Inner:
        n: int


def same(a, b):
    """Equal, of the same type, all the way down; NaN is itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return [*map(type, a)] == [*map(type, b)] and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, Point):
        return same(a.x, b.x) and same(a.y, b.y)
    if isinstance(a, Message):
        return a.kind == b.kind and same(a.body, b.body)
    return a == b


HASHABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        st.text(max_size=4),
        st.binary(max_size=4),
        st.sampled_from([*Color, *Level, Access.READ, Access.READ | Access.WRITE, Access(0)]),
        st.uuids(),
        st.decimals(allow_nan=False),
        st.dates(),
        st.datetimes(timezones=st.sampled_from([None, datetime.UTC])),
        st.times(),
        st.timedeltas(),
        st.complex_numbers(allow_nan=False),
    ),
    lambda inner: st.one_of(
        st.tuples(inner), st.tuples(inner, inner), st.builds(Pair, inner, inner), st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner), st.just(()),
    ),
    max_leaves=5,
)  # fmt: skip
ARRAY = st.builds(
    lambda dtype, shape, fill: np.full(shape, fill).astype(dtype),
    st.sampled_from(["f8", "f4", "i8", "u1", "?", ">i4", "c16", "M8[us]", "m8[s]"]),
    st.lists(st.integers(0, 3), min_size=0, max_size=3),
    st.integers(0, 1),
)
VALUE = st.recursive(
    st.one_of(
        HASHABLE, st.floats(), ARRAY, st.sampled_from([np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("é")])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
        st.builds(Message, st.text(max_size=2), inner),
    ),
    max_leaves=8,
)


@given(VALUE)
@settings(max_examples=400, deadline=None)
def test_values_come_back(value):
    back = plain.decode(plain.encode(value))
    assert same(value, back), f"{value!r} came back as {back!r}"
    assert same(value, plain.decode(memoryview(plain.encode(value, allow_pickle=True)), allow_pickle=True))


@pytest.mark.parametrize(
    "value",
    [
        2**20_000,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        Outer.Inner(3),
        {(1, ("a", None)): [{"x": {1, 2}}]},
        np.str_(""),
        np.bytes_(b""),
        np.empty((0, 3)),
        np.array(["a", "bcd"]),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
        [[[[[[[[1]]]]]]]],
        -0.0,
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_at_the_edges_come_back(value):
    assert same(plain.decode(plain.encode(value)), value)


def test_an_array_that_comes_back_can_be_written_to():
    back = plain.decode(plain.encode(np.arange(3)))
    back[0] = 7
    assert back.tolist() == [7, 1, 2]


class Strange:
    pass


@dataclass
class Holder:
    thing: Any


@dataclass
class Derived:
    """Can't be built from what it holds: one field is not the constructor's."""

    x: int
    doubled: int = field(init=False)

    def __post_init__(self):
        self.doubled = 2 * self.x


@pytest.mark.parametrize(
    "value",
    [
        Strange(),
        Derived(1),
        object(),
        lambda: 1,
        range(3),
        bytearray(b"x"),
        collections.deque([1]),
        collections.OrderedDict(a=1),
        collections.defaultdict(list),
        np.array([object()], dtype=object),
        np.array([(1, object())], dtype=[("a", "i8"), ("b", object)]),
        np.array([(1, 2.0)], dtype=[("a", "i8"), ("b", "f8")]),
        np.ma.masked_array([1, 2], mask=[True, False]),
        Point,
        [Holder(Strange())],
        {"k": (Strange(),)},
    ],
    ids=_without_address,
)
def test_what_has_no_plain_form_is_refused(value):
    with pytest.raises(StateCodecError, match="has no safe saved form") as caught:
        plain.encode(value)
    assert "allow_pickle=True" in caught.value.hint


def local_values():
    @dataclass
    class Local:
        n: int

    class LocalColor(enum.Enum):
        RED = 1

    class LocalPair(NamedTuple):
        a: int

    return [Local(1), LocalColor.RED, LocalPair(1)]


@pytest.mark.parametrize("value", local_values(), ids=repr)
def test_a_local_class_is_refused_since_a_restore_could_not_find_it(value):
    with pytest.raises(StateCodecError, match="has no safe saved form"):
        plain.encode(value)
    with pytest.raises(StateCodecError):
        plain.encode(value, allow_pickle=True)


def test_a_class_that_another_took_the_name_of_is_refused(monkeypatch):
    value = Pair(1, 2)
    monkeypatch.setitem(globals(), "Pair", Point)
    with pytest.raises(StateCodecError):
        plain.encode(value)


def test_pickle_only_where_it_is_allowed_on_both_sides():
    value = {"k": collections.OrderedDict(a=1)}
    data = plain.encode(value, allow_pickle=True)
    assert plain.decode(data, allow_pickle=True) == value
    with pytest.raises(StateCodecError, match="pickled values"):
        plain.decode(data)


def test_what_has_a_plain_form_is_never_pickled():
    for value in (Point(1), Color.RED, {1: (2,)}, np.arange(3), uuid.UUID(int=1), decimal.Decimal("1.5")):
        data = plain.encode(value, allow_pickle=True)
        assert same(plain.decode(data), value)


def test_a_pickle_hidden_deep_inside_is_not_opened():
    trap = msgspec.msgpack.Ext(10, pickle.dumps(Point(1)))
    for hidden in ([trap], {"k": {"j": [1, trap]}}, msgspec.msgpack.Ext(1, msgspec.msgpack.encode([trap]))):
        with pytest.raises(StateCodecError, match="pickled values"):
            plain.decode(msgspec.msgpack.encode(hidden))


def test_rows_of_a_schema_without_a_row_type():
    row = Schema.of(key=str, n=int).make_row(("a", 1))
    again = plain.decode(plain.encode([row, {"k": row}]))
    assert again == [row, {"k": row}]
    assert type(again[0]) is type(row)
