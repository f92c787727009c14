"""What formats make of messages, and which they say are none."""

import dataclasses
import datetime
import io
import json
from typing import Annotated, NamedTuple

import fastavro
import msgspec
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from streamcore import Schema, Vector
from streamcore.batch import to_rows
from streamcore.connectors.kafka import Avro, Json, Messages, Protobuf, Raw
from streamcore.connectors.kafka.chunks import Chunk
from streamcore.errors import TopologyError, UsageError


def chunk_of(values, keys=None, headers=None):
    count = len(values)
    keys = keys or [None] * count
    return Chunk(None, range(count), list(values), keys, [1000 + n for n in range(count)], headers or [()] * count)


def decoded(format_, *values, **parts):
    """The rows, and the indices of the messages that are none with why."""
    batch, bad = format_.decoder()(chunk_of(values, **parts))
    return to_rows(batch), bad


class Rating(NamedTuple):
    user: int
    rating: float
    item: str = "none"


def test_raw_hands_out_the_values():
    assert decoded(Raw(), b"a", None, b"b") == ([b"a", None, b"b"], [])
    assert Raw().schema is None


def test_messages_have_everything():
    class Fetched:
        topic, partition = "t", 2

    chunk = chunk_of([b"v", None], [b"k", None], [(("h", b"1"),), ()])
    chunk.fetched = Fetched
    first, second = Messages().decoder()(chunk).batch
    assert first == ("t", 2, 0, 1000, b"k", b"v", (("h", b"1"),))
    assert second.value is second.key is None


def test_json_without_a_type_gives_rows():
    rows, bad = decoded(Json(), b'{"a":1}', b"[2]", b'"x"', b"{", b"\xff")
    assert rows == [{"a": 1}, [2], "x"]
    assert [index for index, _ in bad] == [3, 4]


def test_json_of_another_type_gives_rows_of_it():
    rows, bad = decoded(Json(list[int]), b"[1,2]", b'["a"]')
    assert rows == [[1, 2]]
    assert bad[0][0] == 1


def test_json_of_a_record_type_gives_columns():
    format_ = Json(Rating)
    assert str(format_.schema) == "(user: int64, rating: double, item: string)"
    rows, bad = decoded(format_, b'{"user":1,"rating":2.5,"item":"a"}', b'{"rating":3,"user":2,"more":[]}')
    assert rows == [Rating(1, 2.5, "a"), Rating(2, 3.0, "none")]
    assert bad == []


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b'{"user":1}', "required field `rating`"),
        (b'{"user":1.5,"rating":1}', "Expected `int`"),
        (b'{"user":"1","rating":1}', "Expected `int`"),
        (b'{"user":123456789012345678901,"rating":1}', "too large"),
        (b'{"user":9223372036854775808,"rating":1}', "too large"),
        (b"not JSON", "malformed"),
        (b"", "truncated"),
        (b"\xff", "malformed"),
        (b'"\xff"', "not UTF-8|Expected"),
        (b"[" * 5000, "nested too deeply|Expected"),
        (None, "no value"),
        (b'{"user":1,"rating":1},{"user":2,"rating":1}', "trailing"),
    ],
)
def test_a_malformed_json_message_is_left_out_alone(value, why):
    good = b'{"user":1,"rating":2}'
    rows, bad = decoded(Json(Rating), good, value, good)
    assert rows == [Rating(1, 2.0)] * 2
    assert [index for index, _ in bad] == [1]
    assert any(part in bad[0][1] for part in why.split("|")), bad


def test_json_fields_of_every_type():
    @dataclasses.dataclass
    class Everything:
        small: np.int16
        single: np.float32
        flag: bool
        when: datetime.datetime
        day: datetime.date
        data: bytes
        maybe: int | None
        vector: Annotated[np.ndarray, Vector(2, "f4")]
        made: list = dataclasses.field(default_factory=list)

    del Everything.__dataclass_fields__["made"]
    good = {
        "small": 7,
        "single": 0.5,
        "flag": True,
        "when": "2024-01-02T03:04:05",
        "day": "2024-01-02",
        "data": "AAE=",
        "maybe": None,
        "vector": [1, 2],
    }
    bad = [{"small": 70_000}, {"vector": [1]}, {"vector": [1, "x"]}, {"when": "yesterday"}, {"flag": 1}]
    values = [json.dumps({**good, **change}).encode() for change in ({}, *bad)]
    batch, failed = Json(Everything).decoder()(chunk_of(values))
    assert [index for index, _ in failed] == [1, 2, 3, 4, 5]
    assert batch["small"].dtype == np.int16
    assert batch["single"].dtype == np.float32
    assert batch["vector"].tolist() == [[1.0, 2.0]]
    assert batch["when"].to_pylist() == [datetime.datetime(2024, 1, 2, 3, 4, 5)]  # noqa: DTZ001
    assert batch["data"].to_pylist() == [b"\0\1"]
    assert batch["maybe"].to_pylist() == [None]


def test_a_structs_names_limits_and_defaults_are_kept():
    class Order(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
        order_id: Annotated[int, msgspec.Meta(gt=0)]
        text: str = "-"
        at_ms: int = 0

    values = [b'{"orderId":1}', b'{"orderId":0}', b'{"orderId":1,"x":1}', b'{"order_id":1}']
    rows, bad = decoded(Json(Order), *values)
    assert rows == [Order(1)]
    assert [index for index, _ in bad] == [1, 2, 3]
    rows, bad = decoded(Json(Order, timestamp="at_ms"), *values)
    assert rows == [Order(1, "-", 1000), Order(1, "-", 1002)]


def test_a_schema_is_a_type_too():
    rows, bad = decoded(Json(Schema.of(a=int, b=str)), b'{"a":1,"b":"x"}', b'{"a":"1","b":"x"}')
    assert [tuple(row) for row in rows] == [(1, "x")]
    assert bad[0][0] == 1


class Reading(NamedTuple):
    sensor: str
    at: int
    value: float
    trace: str | None
    try_: int


PARTS = {"key": "sensor", "timestamp": "at", "headers": {"trace": "trace-id", "try_": "try"}}


def test_parts_of_a_message_become_fields():
    headers = [(("trace-id", b"old"), ("trace-id", b"t1"), ("try", b"3")), (("try", b"4"),), (("try", b"x"),), ()]
    rows, bad = decoded(
        Json(Reading, **PARTS), *[b'{"value":1}'] * 4, keys=[b"s1", b"s2", b"s3", b"s4"], headers=headers
    )
    assert rows == [Reading("s1", 1000, 1.0, "t1", 3), Reading("s2", 1001, 1.0, None, 4)]
    assert [index for index, _ in bad] == [2, 3]
    assert "nothing for the field 'try_'" in bad[1][1]


def test_a_message_without_its_key():
    rows, bad = decoded(Json(Reading, key="sensor"), b'{"at":1,"value":1,"trace":null,"try_":1}', keys=[None])
    assert rows == []
    assert bad == [(0, "nothing for the field 'sensor'")]


def test_parts_of_a_message_in_json_objects():
    rows, bad = decoded(
        Json(key="k", timestamp="t", headers={"h": "H"}),
        b'{"a":1}',
        b"[1]",
        keys=[b"x", b"y"],
        headers=[(("H", b"1"),), ()],
    )
    assert rows == [{"a": 1, "k": "x", "t": 1000, "h": "1"}]
    assert bad == [(1, "not a JSON object")]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Json(Rating, key="sensor"), "no field 'sensor'"),
        (lambda: Json(Schema.of(v=Vector(2), x=int), key="v"), "can't be a message's key"),
        (lambda: Json(list[int], key="x"), "need a type with fields"),
        (lambda: Json(object()), "can't be read from JSON"),
        (Avro, "needs schema=, or schemas="),
        (lambda: Avro({"type": "record"}), "Avro schema is wrong"),
        (lambda: Avro("{"), "Avro schema is wrong"),
        (lambda: Protobuf(int), "no class of Protobuf messages"),
        (lambda: Protobuf(MESSAGE, type=Schema.of(nothing=int)), "has no field 'nothing'"),
        (lambda: Protobuf(MESSAGE, key="user"), "need a type with fields"),
    ],
)
def test_formats_that_cannot_be(make, error):
    with pytest.raises(UsageError, match=error):
        make()


def test_a_field_without_a_column_form():
    with pytest.raises(TopologyError, match="has no column form"):
        Json(dataclasses.make_dataclass("T", [("a", dict[str, int])]))


AVRO = {
    "type": "record",
    "name": "Rating",
    "fields": [
        {"name": "user", "type": "long"},
        {"name": "rating", "type": "double"},
        {"name": "item", "type": "string"},
    ],
}
NEWER = {**AVRO, "fields": [*AVRO["fields"], {"name": "more", "type": ["null", "int"], "default": None}]}


def avro(value, schema=AVRO):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()


def framed(number, data):
    return b"\0" + number.to_bytes(4, "big") + data


RATINGS = [{"user": 1, "rating": 0.5, "item": "a"}, {"user": 2, "rating": 1.5, "item": "b"}]


@pytest.mark.parametrize("schema", [AVRO, json.dumps(AVRO)], ids=["object", "text"])
def test_avro_of_a_given_schema(schema):
    written = [avro(value) for value in RATINGS]
    rows, bad = decoded(Avro(schema), *written, written[0][:-1], b"", written[0] + b"x", None, b"\xff" * 12)
    assert rows == RATINGS
    assert [index for index, _ in bad] == [2, 3, 4, 5, 6]


def test_avro_to_columns():
    rows, bad = decoded(Avro(AVRO, type=Rating), *[avro(value) for value in RATINGS])
    assert rows == [Rating(1, 0.5, "a"), Rating(2, 1.5, "b")]
    assert bad == []


def test_avro_numbers_are_not_bent_into_a_columns_type():
    rows, bad = decoded(Avro(AVRO, type=Schema.of(rating=int)), avro(RATINGS[0]))
    assert rows == []
    assert bad == [(0, "'rating' is not int64")]
    assert decoded(Avro(AVRO, type=Schema.of(item=int)), avro({**RATINGS[0], "item": "5"}))[1]


def test_avro_framed_for_a_registry():
    asked = []

    def schema_of(number):
        asked.append(number)
        return {5: AVRO, 6: NEWER}[number]

    values = [framed(5, avro(RATINGS[0])), framed(6, avro(RATINGS[1], NEWER)), framed(5, avro(RATINGS[1]))]
    rows, bad = decoded(Avro(schemas=schema_of, reader_schema=AVRO), *values)
    assert rows == [*RATINGS, RATINGS[1]]
    assert asked == [5, 6]
    rows, bad = decoded(Avro(schemas={5: AVRO}), *values, avro(RATINGS[0]), b"\0")
    assert rows == [RATINGS[0], RATINGS[1]]
    assert [(index, why.split(" ")[0]) for index, why in bad] == [(1, "no"), (3, "not"), (4, "not")]


def message_class():
    file = descriptor_pb2.FileDescriptorProto(name="rating.proto", package="test", syntax="proto3")
    message = file.message_type.add(name="Rating")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (name, kind) in enumerate(
        [("user", kinds.TYPE_INT64), ("rating", kinds.TYPE_DOUBLE), ("item", kinds.TYPE_STRING)], 1
    ):
        message.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    message.oneof_decl.add(name="_note")
    message.field.add(
        name="note",
        number=4,
        type=kinds.TYPE_STRING,
        label=kinds.LABEL_OPTIONAL,
        oneof_index=0,
        proto3_optional=True,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Rating"))


MESSAGE = message_class()


class Noted(NamedTuple):
    user: int
    rating: float
    item: str
    note: str | None


def test_protobuf_messages_and_columns():
    written = [MESSAGE(**value).SerializeToString() for value in RATINGS]
    rows, bad = decoded(Protobuf(MESSAGE), *written, b"\xff", None)
    assert [(row.user, row.item) for row in rows] == [(1, "a"), (2, "b")]
    assert [index for index, _ in bad] == [2, 3]
    written.append(MESSAGE(note="", item="c").SerializeToString())
    rows, bad = decoded(Protobuf(MESSAGE, type=Noted), *written, b"\xff")
    assert rows == [Noted(1, 0.5, "a", None), Noted(2, 1.5, "b", None), Noted(0, 0.0, "c", "")]
    assert [index for index, _ in bad] == [3]


@pytest.mark.parametrize("indexes", [b"\0", b"\x02\x00", b"\x04\x02\x80\x01"], ids=["first", "listed", "nested"])
def test_protobuf_framed_for_a_registry(indexes):
    data = MESSAGE(**RATINGS[0]).SerializeToString()
    format_ = Protobuf(MESSAGE, type=Noted, framed=True, key="item")
    rows, bad = decoded(format_, framed(9, indexes + data), data, framed(9, b"\x80"), keys=[b"key"] * 3)
    assert rows == [Noted(1, 0.5, "key", None)]
    assert [index for index, _ in bad] == [1, 2]
