"""Partitions of keys."""

from streamcore.connectors.kafka.partitioner import partitions_of

# Utils.toPositive(Utils.murmur2(key)) % 12 of the Java client
TWELVE = {b"0": 8, b"a": 4, b"ab": 2, b"abc": 3, b"abcd": 8, b"sensor-00001": 7, "日本".encode(): 3, b"": 9}


def test_keys_go_where_the_java_client_puts_them():
    assert partitions_of(list(TWELVE), 12, sticky=0) == [*TWELVE.values()]


def test_records_without_key_go_to_the_sticky_partition():
    assert partitions_of([None, b"abc", None, b"a"], 12, sticky=5) == [5, 3, 5, 4]
    assert partitions_of([None, None], 12, sticky=2) == [2, 2]


def test_no_keys():
    assert partitions_of([], 3, sticky=0) == []
