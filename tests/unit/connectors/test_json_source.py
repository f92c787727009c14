from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import pytest

from streamcore.batch import Columns, Schema, Vector, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.json_source import JsonLinesSource, encode_json_lines
from streamcore.errors import BadRecordError, UsageError


class Rating(NamedTuple):
    user: int
    stars: float = 1.0


@dataclasses.dataclass
class Item:
    name: str
    weight: np.float32
    vector: Annotated[np.ndarray, Vector(2)]


class Tag(msgspec.Struct):
    name: str


def read(source, limit=1000, offset=None, bad=None):
    """All rows of all splits, one split after another."""
    rows = []
    report = (lambda record: None) if bad is None else bad.append
    for split in source.splits():
        reader = source.reader(split, offset, ReaderContext(wake=lambda: None, now=lambda: 0.0, report_bad=report))
        while not reader.exhausted:
            rows.extend(to_rows(reader.poll(limit) or []))
        reader.close()
    return rows


def write(folder, content):
    path = folder / "x.jsonl"
    path.write_bytes(content)
    return str(path)


def test_untyped(tmp_path):
    path = write(tmp_path, b'{"a": 1}\n\n [2] \r\n"x"\nnull')
    source = JsonLinesSource(path)
    assert source.schema is None
    assert read(source, limit=1) == [{"a": 1}, [2], "x", None]


def test_typed(tmp_path):
    path = write(tmp_path, b'{"user": 1, "stars": 2.5, "more": 0}\n{"user": 2}\n')
    source = JsonLinesSource(path, Rating)
    assert source.schema.names == ("user", "stars")
    assert read(source) == [Rating(1, 2.5), Rating(2, 1.0)]
    assert all(type(row) is Rating for row in read(source))
    assert read(JsonLinesSource(write(tmp_path, b'{"name": "x"}\n'), Tag)) == [Tag("x")]
    assert read(JsonLinesSource(write(tmp_path, b"5\n"), int)) == [5]
    (item,) = read(JsonLinesSource(write(tmp_path, b'{"name": "x", "weight": 2, "vector": [1, 2]}\n'), Item))
    assert (item.name, item.weight.dtype, item.vector.tolist()) == ("x", np.float32, [1, 2])


@pytest.mark.parametrize(
    ("type_", "line", "reason"),
    [
        (None, b'{"a": 1', "truncated"),
        (None, b"[1] [2]", "malformed"),
        (None, b'"\xff"', "not UTF-8"),
        (None, b"[" * 100000, "nested too deeply"),
        (Rating, b'{"user": "1"}', "Expected `int`, got `str` - at `$.user`"),
        (Rating, b'{"stars": 1}', "missing required field `user`"),
        (Rating, b"[1, 2]", "Expected `object`, got `array`"),
        (Item, b'{"name": "x", "weight": "2", "vector": [1, 2]}', "Expected `float32`, got '2'"),
        (Item, b'{"name": "x", "weight": 2, "vector": "v"}', "Expected `ndarray`, got 'v'"),
    ],
)
def test_malformed_lines(tmp_path, type_, line, reason):
    good = {None: b"0", Rating: b'{"user": 1}', Item: b'{"name": "x", "weight": 2, "vector": [1, 2]}'}[type_]
    path = write(tmp_path, good + b"\n\n" + line + b"\n" + good)
    with pytest.raises(BadRecordError) as caught:
        read(JsonLinesSource(path, type_))
    assert caught.value.message.startswith(f"{path}, line 3: ")
    assert reason in caught.value.message
    bad = []
    assert len(read(JsonLinesSource(path, type_, on_error="side_output"), bad=bad)) == 2
    assert [b.position for b in bad] == ["line 3"]
    assert len(bad[0].text) < 300


def test_lines_that_together_are_a_value_are_malformed(tmp_path):
    bad = []
    assert read(JsonLinesSource(write(tmp_path, b"[1,\n2]\n3 4\n"), on_error="side_output"), bad=bad) == []
    assert len(bad) == 3


def test_wrong_types():
    with pytest.raises(UsageError, match="not a schema"):
        JsonLinesSource("x", Schema.of(a=int))
    with pytest.raises(UsageError, match="can't be read from JSON"):
        JsonLinesSource("x", dict[str, int] | dict[int, str])


def test_encoding():
    rows = [Rating(1, 2.0), Tag("x"), {"a": np.int64(1), "b": np.arange(2)}, "é", None, [1.5]]
    expected = '{"user":1,"stars":2.0}\n{"name":"x"}\n{"a":1,"b":[0,1]}\n"é"\nnull\n[1.5]\n'
    assert encode_json_lines(rows).decode() == expected
    columns = Columns.of(a=np.arange(2), b=np.ones((2, 2)))
    assert encode_json_lines(columns) == b'{"a":0,"b":[1.0,1.0]}\n{"a":1,"b":[1.0,1.0]}\n'
    assert encode_json_lines(Columns.of(**{"a b": np.arange(1)})) == b'{"a b":0}\n'
    with pytest.raises(BadRecordError, match=r"a object has no JSON form: \{'a': <object"):
        encode_json_lines([1, {"a": object()}])
