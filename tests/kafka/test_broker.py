"""The broker that the other tests stand on: what they read of it is what was written."""

import socket

import pytest
from broker import Broker, free_ports
from confluent_kafka import KafkaException, Producer


def test_messages_are_read_as_they_were_written(broker, topic):
    broker.create_topic(topic, 3)
    broker.produce(
        topic, ["a", b"b"], keys=["k", None], partition=1, timestamps=[1000, 2000], headers=[[("h", b"1")], []]
    )
    broker.produce(topic, [None], partition=2)
    first, second, third = broker.read_committed(topic)
    assert first == (1, 0, b"k", b"a", 1000, [("h", b"1")])
    assert second[:5] == (1, 1, None, b"b", 2000)
    assert (third.partition, third.value) == (2, None)
    assert broker.end_offsets(topic) == {0: 0, 1: 2, 2: 1}


def test_keys_go_where_the_java_client_puts_them(broker, topic):
    broker.create_topic(topic, 4)
    broker.produce(topic, ["x"] * 3, keys=["21", "foobar", "a-little-bit-long-string"])
    # murmur2 of these is known from Kafka's own tests: -973932308, -790332482, -985981536.
    expected = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    found = {message.key: message.partition for message in broker.read_committed(topic)}
    assert found == {key: (value & 0x7FFFFFFF) % 4 for key, value in expected.items()}


def test_open_and_aborted_transactions_are_not_read(broker, topic):
    broker.create_topic(topic)
    for name, end in (("aborted", "abort_transaction"), ("committed", "commit_transaction"), ("open", None)):
        producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": f"{topic}-{name}"})
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(topic, name)
        producer.flush()
        if end is not None:
            getattr(producer, end)()
    assert [message.value for message in broker.read_committed(topic)] == [b"committed"]
    assert [message.value for message in broker.read_uncommitted(topic)] == [b"aborted", b"committed", b"open"]
    # Two messages and the two marks of the ends; then the open one.
    assert broker.end_offsets(topic, "read_committed") == {0: 4}
    assert broker.end_offsets(topic) == {0: 5}


def test_topics_grow_and_go(broker, topic):
    broker.create_topic(topic, 1, cleanup_policy="compact")
    broker.add_partitions(topic, 3)
    assert sorted(broker.end_offsets(topic)) == [0, 1, 2]
    broker.delete_topic(topic)
    with pytest.raises(KafkaException):
        broker.end_offsets(topic)


def test_what_was_acknowledged_outlives_kill_9(fresh_broker):
    fresh_broker.create_topic("kept")
    fresh_broker.produce("kept", [str(number) for number in range(1000)])
    address = fresh_broker.servers
    fresh_broker.kill9()
    fresh_broker.start()
    assert fresh_broker.servers == address
    assert [int(message.value) for message in fresh_broker.read_committed("kept")] == list(range(1000))
    fresh_broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", fresh_broker.port))


def test_a_broker_that_does_not_start_says_why(tmp_path):
    broken = Broker(tmp_path, settings={"num.io.threads": "0"})
    with pytest.raises(AssertionError, match=r"num\.io\.threads"):
        broken.start()
    broken.kill9()


def test_free_ports_are_none_of_outgoing_connections():
    assert all(port < 32_000 for port in free_ports(20))
