"""Records of a stream as Kafka's records."""

import dataclasses
import io
import json
import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import Columns
from streamcore.connectors.kafka import Avro, Json, KafkaMessage, KafkaSink, Messages, Protobuf, Raw
from streamcore.connectors.kafka.batches import Records, TopicBatches
from streamcore.connectors.kafka.encode import Encoder, as_bytes, select
from streamcore.connectors.kafka.values import json_values, raw_values, values_for
from streamcore.errors import BadRecordError, UsageError


class Reading(NamedTuple):
    sensor: str
    celsius: float


@dataclasses.dataclass
class Count:
    word: str
    n: int


COLUMNS = Columns.of(word=pa.array(["a", "b"]), n=np.array([1, 2]))


@pytest.mark.parametrize(
    ("batch", "selector", "expected"),
    [
        ([Reading("s", 1.5)], "sensor", ["s"]),
        ([Reading("s", 1.5)], 1, [1.5]),
        ([Count("a", 1)], "word", ["a"]),
        ([{"word": "a"}], "word", ["a"]),
        ([("k", "v")], 0, ["k"]),
        (["ab"], len, [2]),
        (COLUMNS, "word", ["a", "b"]),
        (COLUMNS, "n", [1, 2]),
        (COLUMNS, 0, ["a", "b"]),
        ([], "word", []),
    ],
)
def test_fields_are_selected(batch, selector, expected):
    assert select(batch, selector) == expected


@pytest.mark.parametrize(("batch", "selector"), [([{"a": 1}], "b"), ([Count("a", 1)], "b"), ([(1,)], 2), ([3], 0)])
def test_a_record_without_the_field(batch, selector):
    with pytest.raises(BadRecordError, match="has no field"):
        select(batch, selector)


def test_keys_and_values_are_bytes_or_text():
    assert as_bytes([b"a", None], "key") == [b"a", None]
    assert as_bytes(["ä"], "key") == ["ä".encode()]
    assert as_bytes(["a", b"b", None, bytearray(b"c")], "key") == [b"a", b"b", None, b"c"]
    with pytest.raises(BadRecordError, match="a key for Kafka is a int"):
        as_bytes([1], "key")


def test_keys_that_are_numbers_are_written_as_text():
    def keys(*values):
        ((_, records),) = Encoder("t", json_values, key=0).encode([(value,) for value in values])
        return records.keys

    assert keys(1, -20) == [b"1", b"-20"]
    assert keys(np.int64(5), None, "a", b"b") == [b"5", None, b"a", b"b"]
    for bad in (True, 1.5, ()):
        with pytest.raises(BadRecordError, match="a key for Kafka is a"):
            keys(bad)


def test_json():
    assert json_values([{"a": 1}, None, Reading("s", 1.5)]) == [b'{"a":1}', None, b'{"sensor":"s","celsius":1.5}']
    assert json_values(COLUMNS) == [b'{"word":"a","n":1}', b'{"word":"b","n":2}']
    awkward = ["line\nbreak\r\x0b\x0c\x1c\x85\u2028", ""]
    assert [json.loads(value) for value in json_values(awkward)] == awkward
    with pytest.raises(BadRecordError):
        json_values([object()])


def test_raw_values_are_left_as_they_are():
    assert raw_values([b"a", "b", None]) == [b"a", b"b", None]
    assert raw_values(Columns.of(line=pa.array([b"x", b"y"]))) == [b"x", b"y"]
    with pytest.raises(BadRecordError, match="a value for Kafka is a float"):
        raw_values([1.5])


SCHEMA = {
    "type": "record",
    "name": "Count",
    "fields": [{"name": "word", "type": "string"}, {"name": "n", "type": "long"}],
}


@pytest.mark.parametrize(
    "batch", [[Count("a", 1), Count("b", 2)], [{"word": "a", "n": 1}, {"word": "b", "n": 2}], COLUMNS]
)
def test_avro(batch):
    import fastavro

    values = values_for(Avro(SCHEMA))(batch)
    read = [fastavro.schemaless_reader(io.BytesIO(value), fastavro.parse_schema(SCHEMA)) for value in values]
    assert read == [{"word": "a", "n": 1}, {"word": "b", "n": 2}]
    framed = values_for(Avro(schemas={258: json.dumps(SCHEMA)}))(batch)
    assert framed == [b"\0\0\0\1\2" + value for value in values]
    assert values_for(Avro(SCHEMA))([None]) == [None]
    with pytest.raises(BadRecordError, match="isn't of the Avro schema"):
        values_for(Avro(SCHEMA))([Count("a", "no number")])


def test_avro_needs_one_schema_to_write():
    with pytest.raises(UsageError, match="one schema is needed"):
        values_for(Avro(schemas={1: SCHEMA, 2: SCHEMA}))
    with pytest.raises(UsageError, match="schema is wrong"):
        values_for(Avro(schemas={1: {"type": "nothing"}}))


def test_protobuf():
    from google.protobuf.wrappers_pb2 import Int64Value

    assert values_for(Protobuf(Int64Value))([Int64Value(value=5), None]) == [
        Int64Value(value=5).SerializeToString(),
        None,
    ]
    with pytest.raises(BadRecordError, match="no Protobuf message"):
        values_for(Protobuf(Int64Value))([5])
    with pytest.raises(UsageError, match="not written"):
        values_for(Protobuf(Int64Value, framed=True))


def test_a_function_makes_values():
    assert values_for(lambda row: row and row.upper())(["a", None]) == [b"A", None]
    with pytest.raises(UsageError, match="is no format"):
        values_for("json")


def test_whole_messages_keep_key_time_and_headers():
    sink = KafkaSink("localhost", "t", value=Messages())
    message = KafkaMessage("other", 1, 2, 1234, b"k", b"v", (("h", None),))
    ((topic, records),) = sink._encoder.encode([message])
    assert (topic, records) == ("t", Records([b"v"], [b"k"], [1234], [[("h", None)]]))


def test_records_by_topic_keep_their_order():
    encoder = Encoder(lambda row: row[0], lambda batch: [row[1] for row in batch], key=0)
    found = dict(encoder.encode([("a", b"1"), ("b", b"2"), ("a", b"3")]))
    assert found == {"a": Records([b"1", b"3"], [b"a", b"a"]), "b": Records([b"2"], [b"b"])}
    with pytest.raises(BadRecordError, match="name of a topic"):
        list(Encoder(lambda row: row, raw_values).encode([None]))


def test_times_are_whole_milliseconds():
    def times(*values):
        ((_, records),) = Encoder("t", json_values, time_ms=0).encode([(value,) for value in values])
        return records.times_ms

    assert times(1, np.int64(2)) == [1, 2]
    assert times(-1)[0] > 1_700_000_000_000, "a message without time gets that of its writing"
    for bad in (1.5, "1", True, None):
        with pytest.raises(BadRecordError, match="no whole number"):
            times(bad)


def test_headers_that_are_none():
    encoder = Encoder("t", json_values, headers=lambda row: row)
    ((_, records),) = encoder.encode([None, {"a": "1"}, [("b", b"2"), ("b", None)]])
    assert records.headers == [[], [("a", b"1")], [("b", b"2"), ("b", None)]]
    for bad in (5, ["abc"], {"a": 1}):
        with pytest.raises(BadRecordError):
            list(encoder.encode([bad]))


class FakeBatch:
    """Has room for three records."""

    def __init__(self):
        self.records = []
        self.is_closed = False

    def append(self, *, timestamp, key, value, headers):
        if len(self.records) == 3:
            return None
        self.records.append((timestamp, key, value, headers))
        return self

    def close(self):
        self.is_closed = True

    def record_count(self):
        return len(self.records)

    def size(self):
        return 10 * len(self.records)


def test_batches_are_handed_over_when_they_are_full_and_keep_all_records_in_order():
    out = []
    batches = TopicBatches("t", FakeBatch, out.append, start=1)
    batches.add(Records([b"%d" % n for n in range(8)], times_ms=list(range(8))), partitions=3)
    batches.flush()
    assert [(one.partition, one.records, one.size_bytes) for one in out] == [(1, 3, 30), (1, 3, 30), (1, 2, 20)]
    assert [record for one in out for record in one.batch.records] == [(n, None, b"%d" % n, []) for n in range(8)]
    assert all(one.batch.is_closed for one in out)
    batches.add(Records([b"x"]), partitions=3)
    batches.flush()
    assert out[-1].partition == 2, "the next partition's turn"


def test_keyed_records_fill_a_batch_for_each_partition():
    out = []
    batches = TopicBatches(
        "t", FakeBatch, out.append, partitioner=lambda keys, count, sticky: [len(k) % count for k in keys]
    )
    batches.add(Records([b"1", b"2", b"3"], keys=[b"", b"a", b""], headers=[[], [("h", b"1")], []]), partitions=2)
    assert out == []
    batches.flush()
    assert {one.partition: [record[1:] for record in one.batch.records] for one in out} == {
        0: [(b"", b"1", []), (b"", b"3", [])],
        1: [(b"a", b"2", [("h", b"1")])],
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("delivery", "twice"),
        ("compression", "zip"),
        ("on_lost", "ignore"),
        ("transaction_timeout", 0),
        ("batch_bytes", 0),
        ("buffer_bytes", -1),
        ("linger", -0.1),
        ("linger", math.nan),
        ("transaction_timeout", math.inf),
        ("transaction_timeout", math.nan),
        ("transaction_timeout", 3e6),
        ("value", 5),
    ],
)
def test_wrong_options(option, value):
    with pytest.raises(UsageError):
        KafkaSink("localhost:9092", "t", **{option: value})


def test_a_sink_on_one_line():
    url = "kafka://me:secret@one:1,two/t?delivery=at-least-once&transaction_timeout=60&prefix=p&compression=lz4"
    sink = KafkaSink.from_url(url, key="user")
    assert (sink.brokers.servers, sink.topic, sink.delivery) == ("one:1,two", "t", "at-least-once")
    assert (sink.transaction_timeout, sink.prefix, sink.brokers.security.username) == (60.0, "p", "me")
    for wrong in ("kafka://one/t?start=latest", "kafka://one/t?transaction_timeout=long", "kafka://one/t,u"):
        with pytest.raises(UsageError):
            KafkaSink.from_url(wrong)


def test_two_jobs_and_topics_never_have_one_default_prefix():
    def prefix(job, topic):
        return KafkaSink("localhost:9092", topic)._prefix_in(job)

    assert prefix("a", "b") == "a:b"
    assert prefix("a-b", "c") != prefix("a", "b-c")
    assert prefix("a", lambda row: "b") != prefix("a", "topics")


def test_formats_are_picked_by_name():
    for value in (None, Json(), Raw()):
        KafkaSink("localhost:9092", "t", value=value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([0, 3], "gave 3 as a partition of 3"),
        ([-1, 0], "gave -1 as a partition of 3"),
        ([0, 1.5], "gave 1.5 as a partition of 3"),
        ([None, 0], "gave None as a partition of 3"),
        ([0], "gave 1 partitions for 2 keys"),
    ],
)
def test_a_partitioner_that_gives_no_partition_of_the_topic(given, said):
    batches = TopicBatches("t", FakeBatch, [].append, lambda keys, count, sticky: given)
    with pytest.raises(UsageError, match=said):
        batches.add(Records([b"1", b"2"], [b"a", b"b"]), 3)


@pytest.mark.parametrize(
    ("option", "record", "said"),
    [
        ({"key": 0}, ("k\ud800", 1), r"a key for Kafka has no form in UTF-8: 'k\\ud800'"),
        ({"key": 0}, (np.str_("k\ud800"), 1), "a key for Kafka has no form"),
        ({"time_ms": 0}, (2**70, 1), f"a timestamp .* more than 64 bits: {2**70}"),
        ({"time_ms": 0}, (np.uint64(2**63), 1), "a timestamp .* more than 64 bits"),
        ({"headers": lambda record: {record[0]: b""}}, ("h\ud800", 1), "a header's name for Kafka has no form"),
        ({"headers": lambda record: {"h": record[0]}}, ("h\ud800", 1), "a header for Kafka has no form"),
    ],
)
def test_what_has_no_form_in_kafka_is_a_bad_record(option, record, said):
    encoder = Encoder("t", lambda batch: [b"1"] * len(batch), **option)
    with pytest.raises(BadRecordError, match=said):
        list(encoder.encode([record]))
