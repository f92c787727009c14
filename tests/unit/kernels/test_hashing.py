"""Key hashes: the same in every form, equal for equal keys, and as an independent implementation says."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import struct
import subprocess
import sys
import uuid
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.errors import UsageError
from streamcore.kernels.hashing import fold_hashes, hash_key, hash_keys

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=8)


class Color(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Point:
    x: int
    y: str


class Pair(NamedTuple):
    x: int
    y: str


def splitmix_finaliser(z):
    """Written from the paper's C code, on Python integers."""
    m = 2**64
    z %= m
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % m
    z = (z ^ z >> 27) * 0x94D049BB133111EB % m
    return z ^ z >> 31


def expected_hash(key):
    if isinstance(key, str):
        return splitmix_finaliser(zlib.crc32(key.encode()) ^ 0x9E3779B97F4A7C15)
    if isinstance(key, bytes):
        return splitmix_finaliser(zlib.crc32(key) ^ 0xC2B2AE3D27D4EB4F)
    if isinstance(key, float) and not key.is_integer():
        return splitmix_finaliser(int.from_bytes(struct.pack("<d", key), "little") ^ 0x27D4EB2F165667C5)
    if isinstance(key, tuple):
        total = 0x165667B19E3779F9
        for part in key:
            total = splitmix_finaliser(total * 31 + expected_hash(part))
        return total
    if not -(2**63) <= int(key) < 2**63:
        return splitmix_finaliser(zlib.crc32(str(int(key)).encode()) ^ 0xC2B2AE3D27D4EB4F)
    return splitmix_finaliser(int(key))


@pytest.mark.parametrize(
    ("key", "literal"),
    [
        (0, 0),
        (1, 0x5692161D100B05E5),
        (-1, 0xB4D055FCF2CBBD7B),
        ("", 0xE220A8397B1DCDAF),
        ("user-1", 0x160D2E0F070F4933),
        (b"user-1", 0x9F4D30BCC6368615),
        (0.5, 0x244DFAC179BA9A9A),
        ((1, "a"), 0x9E45D96001444AAB),
    ],
)
def test_hashes_are_pinned(key, literal):
    """They decide where saved state belongs: a change would need a new snapshot format."""
    assert hash_key(key) == expected_hash(key)
    assert hash_key(key) == literal


@given(st.one_of(INT64, TEXT, st.binary(max_size=8), st.floats(allow_nan=False), st.tuples(INT64, TEXT)))
@settings(max_examples=300, deadline=None)
def test_against_the_independent_implementation(key):
    assert hash_key(key) == expected_hash(key)


def test_the_same_in_another_process():
    """Python's own hash of text is salted in each process."""
    code = "from streamcore.kernels.hashing import hash_key; print(hash_key(('a', 1, 2.5, None, b'x')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == hash_key(("a", 1, 2.5, None, b"x"))


@given(INT64)
@settings(max_examples=100, deadline=None)
def test_equal_numbers_hash_equally(number):
    as_float = float(number)
    if as_float == number:
        assert hash_key(as_float) == hash_key(number)
    assert hash_key(np.int64(number)) == hash_key(number)


def test_equal_keys_of_other_types_hash_equally():
    assert hash_key(True) == hash_key(1) == hash_key(1.0) == hash_key(np.float32(1)) == hash_key(np.True_)
    assert hash_key(False) == hash_key(0) == hash_key(-0.0)
    assert hash_key((1, True)) == hash_key((1.0, 1))
    assert hash_key(Pair(1, "a")) == hash_key((1, "a"))
    assert hash_key(np.str_("a")) == hash_key("a")
    assert hash_key(decimal.Decimal("1.50")) == hash_key(decimal.Decimal("1.5"))
    assert hash_key(decimal.Decimal(2)) == hash_key(2)
    assert hash_key(float(2**63)) == hash_key(2**63)
    assert hash_key(-float(2**63)) == hash_key(-(2**63))
    assert hash_key(float(2**100)) == hash_key(2**100)
    utc, plus2 = datetime.UTC, datetime.timezone(datetime.timedelta(hours=2))
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=utc)
    assert hash_key(noon) == hash_key(noon.astimezone(plus2))


def test_enums_that_are_numbers_or_text_hash_as_these():
    level = enum.IntEnum("level", "LOW HIGH")
    word = enum.StrEnum("word", ["A"])
    assert hash_key(level.HIGH) == hash_key(2)
    assert hash_key(word.A) == hash_key(word.A.value)


@pytest.mark.parametrize(
    "keys",
    [
        [None, None],
        [Color.RED, Color.RED],
        [Point(1, "a"), Point(1, "a")],
        [datetime.date(2024, 1, 2), datetime.date(2024, 1, 2)],
        [datetime.time(1, 2), datetime.time(1, 2)],
        [uuid.UUID(int=5), uuid.UUID(int=5)],
        [2**70, 2**70],
        [-(2**70), -(2**70)],
    ],
)
def test_every_kind_of_key_has_a_hash_that_spreads(keys):
    assert hash_keys(keys).tolist() == [hash_key(keys[0])] * 2
    assert 0 <= hash_key(keys[0]) < 2**64
    assert hash_key(keys[0]) not in (hash_key(0), hash_key(""))


@pytest.mark.parametrize("key", [[1], {1: 2}, {1}, object(), print])
def test_keys_without_stable_hash_are_refused(key):
    with pytest.raises(UsageError, match=f"a key of type {type(key).__name__} has no stable hash"):
        hash_key(key)
    with pytest.raises(UsageError):
        hash_keys([key])


FLOATS = st.floats(width=64)
ARROW_TYPES = [
    (pa.string(), TEXT),
    (pa.large_string(), TEXT),
    (pa.binary(), st.binary(max_size=6)),
    (pa.int64(), INT64),
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), FLOATS),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates()),
]


@pytest.mark.parametrize("wrap", ["plain", "sliced", "dictionary", "sliced dictionary"])
@pytest.mark.parametrize("kind", ARROW_TYPES, ids=[str(t) for t, _ in ARROW_TYPES])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_arrow_arrays_hash_elementwise(kind, wrap, data):
    arrow, values = kind
    keys = data.draw(st.lists(st.one_of(values, st.none()) if data.draw(st.booleans()) else values, max_size=12))
    array = pa.array([*keys[:1], *keys, *keys[:2]] if "sliced" in wrap else keys, arrow)
    if "dictionary" in wrap:
        array = array.dictionary_encode()
    if "sliced" in wrap:
        array = array[len(keys[:1]) :][: len(keys)]
    assert hash_keys(array).tolist() == [hash_key(key) for key in keys]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("i8", INT64),
        ("i1", st.integers(-128, 127)),
        ("u4", st.integers(0, 2**32 - 1)),
        ("u8", st.integers(0, 2**64 - 1)),
        ("?", st.booleans()),
        ("f8", FLOATS),
        ("f4", st.floats(width=32)),
        ("U8", st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=8)),
        ("O", st.one_of(INT64, TEXT, st.none())),
    ],
)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_numpy_arrays_hash_elementwise(dtype, values, data):
    keys = np.array(data.draw(st.lists(values, max_size=12)), dtype)
    assert hash_keys(keys).tolist() == [hash_key(key) for key in keys.tolist()]
    assert hash_keys(keys[::2]).tolist() == [hash_key(key) for key in keys[::2].tolist()]


@given(st.lists(st.one_of(st.integers(), TEXT, st.none(), st.booleans(), FLOATS, st.tuples(INT64, TEXT)), max_size=12))
@settings(max_examples=100, deadline=None)
def test_lists_hash_elementwise(keys):
    assert hash_keys(keys).tolist() == [hash_key(key) for key in keys]


@given(st.lists(st.tuples(INT64, TEXT, FLOATS), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_columns_of_keys_hash_as_tuples(keys):
    numbers, texts, floats = zip(*keys, strict=True)
    parts = [hash_keys(np.array(numbers, np.int64)), hash_keys(pa.array(texts)), hash_keys(np.array(floats))]
    assert fold_hashes(parts).tolist() == [hash_key(key) for key in keys]


def test_numbers_next_to_the_end_of_int64():
    edge = [math.nextafter(2.0**63, 0), 2.0**63, math.nextafter(2.0**63, math.inf), -(2.0**63), math.inf, -math.inf]
    assert hash_keys(np.array(edge)).tolist() == [hash_key(key) for key in edge]


def test_hashes_spread_over_the_key_groups():
    for keys in (np.arange(20_000), np.arange(20_000) * 1024, [f"user-{i}" for i in range(20_000)]):
        counts = np.bincount(hash_keys(keys) % np.uint64(128), minlength=128)
        assert counts.min() > 90
        assert counts.max() < 230


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_batches_that_share_a_dictionary_and_ones_that_do_not(type_):
    for turn in range(40):  # dictionaries come and go at the same addresses
        words = [f"{turn}-{i}" for i in range(20)]
        dictionary = pa.array([w.encode() for w in words] if pa.types.is_binary(type_) else words).cast(type_)
        for start in (0, 7):
            codes = pa.array(range(start, 20, 3), pa.int32())
            array = pa.DictionaryArray.from_arrays(codes, dictionary)
            assert hash_keys(array).tolist() == [hash_key(key) for key in array.to_pylist()]
