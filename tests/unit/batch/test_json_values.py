from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import typing
import uuid

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch.json_values import decode_json, decode_key, encode_json
from streamcore.errors import UsageError


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: tuple[int, ...]


class Pair(typing.NamedTuple):
    left: int
    right: bytes


class Item(msgspec.Struct):
    name: str


MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(2**80), 1.5, "ü\"'\n", "\ud800", [], [1, [2]], {}, {"a": {"b": [1]}},
        b"", b"\x00\xff", MOMENT, MOMENT.replace(tzinfo=None), MOMENT.date(), MOMENT.time(),
        datetime.timedelta(days=-1, microseconds=3), decimal.Decimal("1.50"), uuid.UUID(int=7),
        {1, 2}, {(1, "a"): "b", None: 2}, {"$bytes": "no bytes"}, {"$x": 1, "y": {"$set": []}}, math.inf,
    ],
)  # fmt: skip
def test_what_goes_in_comes_out(value):
    text = encode_json(value)
    json.loads(text)
    assert decode_json(text) == value
    assert type(decode_json(text)) is type(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (Point(1, (2, 3)), {"x": 1, "y": [2, 3]}),
        (Pair(1, b"a"), {"left": 1, "right": b"a"}),
        (Item("a"), {"name": "a"}),
        (Colour.RED, "RED"),
        (Level.HIGH, "HIGH"),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.array(["2026-01-02"], "datetime64[D]"), ["2026-01-02"]),
        (frozenset({(1, 2)}), {(1, 2)}),
    ],
)
def test_classes_and_arrays_become_what_json_has(value, shown):
    assert decode_json(encode_json(value)) == shown


def test_nan_is_no_bare_word():
    assert b"NaN" not in encode_json([math.nan])
    assert math.isnan(decode_json(encode_json(math.nan)))


def test_what_has_no_form_is_shown_and_not_run():
    shown = decode_json(encode_json(3 + 4j))
    assert shown == {"$repr": "(3+4j)"}
    assert decode_json(encode_json(shown)) == shown


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner),
)


@settings(max_examples=50)
@given(plain)
def test_any_plain_value_survives(value):
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    ("text", "key"),
    [("5", 5), ('"5"', "5"), ("[1, [2, null]]", (1, (2, None))), ('{"$bytes": "AP8="}', b"\x00\xff"), ("true", True)],
)
def test_keys(text, key):
    assert decode_key(text) == key


@pytest.mark.parametrize(
    "text", ["alice", "", "{", '{"a": 1}', '[{"a": 1}]', '{"$bytes": 3}', '{"$nothing": 3}', '{"$date": "x"}']
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(UsageError):
        decode_key(text)
