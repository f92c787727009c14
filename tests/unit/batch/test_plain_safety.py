"""The plain codec on bytes that somebody else wrote: no import, no call but of record classes, one kind of error."""

from __future__ import annotations

import contextlib
import sys
import types
from dataclasses import dataclass, make_dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import plain
from streamcore.errors import StateCodecError

RECORD, ENUM, TUPLE, ARRAY, SCALAR, TEXT, PICKLE = 9, 8, 1, 5, 6, 7, 10


@dataclass
class Point:
    x: int


def forged(code, body):
    """An extension as an attacker would write it."""
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(body)))


def test_a_module_that_is_not_loaded_is_not_imported():
    assert "antigravity" not in sys.modules
    for code in (RECORD, ENUM):
        with pytest.raises(StateCodecError, match=r"antigravity\.Thing, which is not loaded"):
            plain.decode(forged(code, ["antigravity", "Thing", []]))
    assert "antigravity" not in sys.modules


def test_a_module_that_loads_its_parts_when_asked_is_not_asked(monkeypatch):
    asked = []
    lazy = types.ModuleType("lazy_module_of_this_test")
    lazy.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, lazy.__name__, lazy)
    with pytest.raises(StateCodecError, match="not loaded"):
        plain.decode(forged(RECORD, [lazy.__name__, "Thing", []]))
    assert asked == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "list"),
        ("builtins", "type"),
        ("subprocess", "Popen"),
        ("builtins", "print"),
        ("os", "system"),
        ("os", "path"),
    ],
)
@pytest.mark.parametrize("code", [RECORD, ENUM])
def test_nothing_but_record_classes_and_enums_is_made(code, module, name):
    with pytest.raises(StateCodecError):
        plain.decode(forged(code, [module, name, "x" if code == ENUM else ["true"]]))


def test_a_class_that_has_changed_is_named(monkeypatch):
    data = plain.encode(Point(1))
    changed = make_dataclass("Point", ["x", "y"])
    monkeypatch.setitem(globals(), "Point", changed)
    with pytest.raises(StateCodecError, match="Point has a field y without default, which the snapshot does not have"):
        plain.decode(data)
    monkeypatch.setitem(globals(), "Point", dict)
    with pytest.raises(StateCodecError, match="no record class any more"):
        plain.decode(data)
    monkeypatch.delitem(globals(), "Point")
    with pytest.raises(StateCodecError, match=r"test_plain_safety\.Point, which is not loaded"):
        plain.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        forged(99, [1]),
        forged(RECORD, 5),
        forged(RECORD, ["a"]),
        forged(ENUM, []),
        forged(TUPLE, 5),
        forged(ARRAY, ["O", [1], b"12345678"]),
        forged(ARRAY, ["<f8", [3], b"1"]),
        forged(ARRAY, ["nonsense", [1], b""]),
        forged(SCALAR, ["<f8", b""]),
        forged(TEXT, ["system", "ls"]),
        forged(TEXT, ["datetime", "not a date"]),
        forged(2, [[1]]),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\xc1")),
    ],
)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_damaged_bytes_are_one_kind_of_error(data, allow_pickle):
    with pytest.raises(StateCodecError):
        plain.decode(data, allow_pickle=allow_pickle)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_value_or_that_error(data):
    with contextlib.suppress(StateCodecError):
        plain.decode(data)


def test_text_that_is_not_unicode_is_refused_when_it_is_saved():
    with pytest.raises(StateCodecError):
        plain.encode({"name": "\udcff"})
