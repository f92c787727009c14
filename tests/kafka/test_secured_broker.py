"""The broker with rights lets in whom it should, and lets each do what it may and no more."""

import pytest
from broker import until
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from secured import password

SASL = [("SASL_SSL", "PLAIN"), ("SASL_SSL", "SCRAM-SHA-256"), ("SASL_PLAINTEXT", "SCRAM-SHA-256")]


def settings(broker, user, mechanism="PLAIN", protocol="SASL_SSL"):
    return {
        "bootstrap.servers": broker.servers if protocol == "SASL_SSL" else broker.sasl_plaintext,
        "security.protocol": protocol,
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password(user),
        "ssl.ca.location": str(broker.ca),
        "log_level": 0,
    }


def write(client, topic):
    """Writes a message; what the broker answers to it."""
    answers = []
    producer = Producer({**client, "message.timeout.ms": 10_000})
    producer.produce(topic, "value", on_delivery=lambda error, _: answers.append(error and error.code()))
    producer.flush(15)
    return answers[0]


def read(client, topic):
    consumer = Consumer({**client, "group.id": "a-group", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        message = consumer.poll(15)
        return message.error().code() if message.error() else message.value()
    finally:
        consumer.close()


@pytest.mark.parametrize(("protocol", "mechanism"), SASL)
def test_admin_may_write_and_read(secured_broker, topic, protocol, mechanism):
    secured_broker.create_topic(topic)
    client = settings(secured_broker, "admin", mechanism, protocol)
    assert write(client, topic) is None
    assert read(client, topic) == b"value"


def test_a_client_certificate_lets_in(secured_broker, topic):
    secured_broker.create_topic(topic)
    client = {
        "bootstrap.servers": secured_broker.ssl,
        "security.protocol": "SSL",
        "ssl.ca.location": str(secured_broker.ca),
        "ssl.certificate.location": str(secured_broker.client_certificate),
        "ssl.key.location": str(secured_broker.client_key),
        "ssl.key.password": secured_broker.key_password,
    }
    assert write(client, topic) is None
    assert [message.value for message in secured_broker.read_committed(topic)] == [b"value"]


def test_reader_reads_and_does_not_write(secured_broker, topic):
    secured_broker.create_topic(topic)
    secured_broker.produce(topic, ["value"])
    client = settings(secured_broker, "reader", "SCRAM-SHA-256")
    assert read(client, topic) == b"value"
    assert write(client, topic) == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_writer_writes_without_transactions(secured_broker, topic):
    secured_broker.create_topic(topic)
    client = settings(secured_broker, "writer")
    assert write(client, topic) is None
    with pytest.raises(KafkaException) as caught:
        Producer({**client, "transactional.id": "an-id"}).init_transactions(15)
    assert caught.value.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def test_stranger_may_do_nothing(secured_broker, topic):
    secured_broker.create_topic(topic)
    client = settings(secured_broker, "stranger")
    assert write(client, topic) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert topic not in AdminClient(client).list_topics(timeout=15).topics


def test_a_wrong_password_keeps_out(secured_broker):
    client = settings(secured_broker, "admin") | {"sasl.password": "wrong"}
    assert KafkaError._AUTHENTICATION in errors_of_connecting(client)


def test_another_authority_keeps_out(secured_broker):
    client = settings(secured_broker, "admin") | {"ssl.ca.location": str(secured_broker.other_ca)}
    assert KafkaError._SSL in errors_of_connecting(client)


def errors_of_connecting(client):
    codes = []
    producer = Producer({**client, "error_cb": lambda error: codes.append(error.code())})
    until(lambda: producer.poll(0.05) or codes, "an error")
    return codes
