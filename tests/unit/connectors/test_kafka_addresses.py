"""Addresses, security settings and the options of a KafkaSource: what they stand for, and those that can't be."""

import inspect
import pickle
import re
import ssl
from urllib.parse import unquote

import pytest
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient

from streamcore.batch.plain import decode, encode
from streamcore.connectors.base import Split
from streamcore.connectors.kafka import Brokers, Json, KafkaSource, Security, Timestamp, parse_url
from streamcore.connectors.kafka.connection import explain, is_outage
from streamcore.connectors.kafka.positions import partition_of, split_id
from streamcore.connectors.kafka.source import CONNECTION_OPTIONS as OPTIONS_OF_CONNECTIONS
from streamcore.connectors.kafka.source import FETCH_OPTIONS as OPTIONS_OF_FETCHES
from streamcore.connectors.run_now import run_now
from streamcore.errors import ConnectorError, UsageError


def test_an_address_on_one_line():
    url = parse_url("kafka://one:9092,two:9093/ratings?start=earliest&group=g")
    assert url.brokers == Brokers("one:9092,two:9093")
    assert url.topic == "ratings"
    assert dict(url.options) == {"start": "earliest", "group": "g"}
    assert url.brokers.hosts == (("one", 9092), ("two", 9093))


def test_several_topics():
    url = parse_url("kafka://one/a,b%2Fc")
    assert url.topics == ("a", "b/c")
    assert url.brokers.hosts == (("one", 9092),)
    with pytest.raises(UsageError, match="one topic is wanted, not 2"):
        _ = url.topic


def test_a_login_in_an_address():
    url = parse_url("kafka://me:p%40ss@one:1/t?mechanism=SCRAM-SHA-256&ca_file=/ca.pem")
    assert url.brokers.security == Security(
        "SASL_SSL", mechanism="SCRAM-SHA-256", username="me", password=unquote("p%40ss"), ca_file="/ca.pem"
    )
    assert not url.options
    plain = parse_url("kafka://me:x@one:1/t?protocol=SASL_PLAINTEXT").brokers.security
    assert (plain.protocol, plain.mechanism) == ("SASL_PLAINTEXT", "PLAIN")


@pytest.mark.parametrize(
    "text",
    ["one:9092/t", "kafka://one:9092", "kafka:///t", "kafka://one:9092/", "kafka://one:x/t", "kafka://one:70000/t"],
)
def test_what_is_no_address(text):
    with pytest.raises(UsageError):
        parse_url(text)


def test_a_password_is_shown_nowhere():
    secrets = dict.fromkeys(("password", "key_password"), "secret")
    security = Security("SASL_SSL", username="me", certificate_file="c", **secrets)
    source = KafkaSource("one:9092", "t", security=security)
    assert "secret" not in repr(security) + repr(source.brokers) + str(source.brokers)
    with pytest.raises(UsageError) as caught:
        parse_url("kafka://me:secret@/t")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"protocol": "TLS"}, "protocol='TLS' is unknown"),
        ({"protocol": "SASL_SSL", "mechanism": "MD5"}, "mechanism='MD5' is unknown"),
        ({"protocol": "SASL_SSL", "username": "me"}, "needs username= and password="),
        ({"username": "me", "password": "x"}, "has no login"),
        ({"protocol": "SSL", "key_file": "k"}, "key_file= without certificate_file="),
    ],
)
def test_security_that_cannot_be(given, error):
    with pytest.raises(UsageError, match=re.escape(error)):
        Security(**given)


def test_options_of_the_client(tmp_path):
    security = Security("SASL_PLAINTEXT", "SCRAM-SHA-512", "me", "x")
    options = Brokers("one:1", security, {"client_id": "c"}).client_options()
    assert options["bootstrap_servers"] == "one:1"
    assert options["ssl_context"] is None
    assert options["client_id"] == "c"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    trusting = Brokers("one:1", Security("SSL", check_hostname=False)).client_options()["ssl_context"]
    assert trusting.verify_mode == ssl.CERT_REQUIRED
    assert not trusting.check_hostname
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in ("nowhere.pem", "ca.pem"):
        with pytest.raises(ConnectorError, match=f"can't use the certificates in .*{path}"):
            Brokers("one:1", Security("SSL", ca_file=str(tmp_path / path))).client_options()


@pytest.mark.parametrize(
    ("error", "outage", "said"),
    [
        (kafka.KafkaConnectionError("x"), True, "the connection was closed"),
        (TimeoutError(), True, "no answer in time"),
        (ConnectionRefusedError(), True, "nobody listens there"),
        (kafka.NotLeaderForPartitionError(), True, "NotLeaderForPartitionError"),
        (kafka.UnknownTopicOrPartitionError("t"), False, "there is no such topic or partition: t"),
        (kafka.TopicAuthorizationFailedError("t"), False, "no rights to the topic: t"),
        (kafka.SaslAuthenticationFailed("bad"), False, "the login is refused: bad"),
        (kafka.UnsupportedCodecError(), False, "needs a library"),
        (ssl.SSLError(1, "wrong version"), False, "no TLS"),
        (OSError(5, "broken disk"), True, "broken disk"),
    ],
)
def test_errors_say_what_they_mean(error, outage, said):
    assert is_outage(error) == outage
    explained = explain(error, Brokers("one:1"), "can't read t")
    assert isinstance(explained, ConnectorError)
    assert explained.message.startswith("can't read t: Kafka at one:1: ")
    assert said in explained.message
    ours = ConnectorError("ours")
    assert explain(ours, Brokers("one:1"), "what") is ours


def test_ids_of_splits():
    for name, partition in (("ratings-3", ("ratings", 3)), ("a-1-2", ("a-1", 2))):
        assert partition_of(name) == partition
        assert split_id(partition_of(name)) == name
    for name in ("ratings", "-3", "ratings-", "ratings-x"):
        assert partition_of(name) is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"topics": []}, "no topic to read"),
        ({"topics": ["a", ""]}, "no topic to read"),
        ({"servers": "one:x"}, "no address of Kafka brokers"),
        ({"start": "begin"}, "start='begin' is unknown"),
        ({"start": "group"}, "start='group' needs group="),
        ({"start": {"t": 1}}, "'t', which is no id of a partition"),
        ({"start": {"t-0": -1}}, "-1 for 't-0', which is no offset"),
        ({"stop": "end"}, "stop='end' is unknown"),
        ({"stop": {"t-0": "1"}}, "'1' for 't-0', which is no offset"),
        ({"isolation": "dirty"}, "isolation='dirty' is unknown"),
        ({"on_error": "ignore"}, "on_error='ignore' is unknown"),
        ({"on_lost": "latest"}, "on_lost='latest' is unknown"),
        ({"discover_every": 0}, "discover_every=0 can't be"),
        ({"max_poll": 0}, "max_poll=0 can't be"),
        ({"options": {"group_id": "g"}}, "options= has 'group_id', which is unknown"),
        ({"options": {"request_timeout_ms": "abc"}}, "options= has 'abc' for 'request_timeout_ms'"),
        ({"options": {"fetch_max_bytes": 2**31}}, "options= has 2147483648 for 'fetch_max_bytes'"),
        ({"options": {"fetch_max_wait_ms": None}}, "options= has None for 'fetch_max_wait_ms'"),
    ],
)
def test_options_that_cannot_be(given, error):
    with pytest.raises(UsageError, match=re.escape(error)):
        KafkaSource(**{"servers": "one:1", "topics": "t", **given})


def test_settings_that_the_client_does_not_take():
    source = KafkaSource("127.0.0.1:1", "t", security=Security("SASL_PLAINTEXT", "OAUTHBEARER"))
    with pytest.raises(UsageError, match=r"can't read t: Kafka at 127.0.0.1:1: .* its settings: .*token_provider"):
        source.splits()


def test_a_source_from_an_address():
    text = "kafka://one:1/a,b?start=1700000000000&stop=now&group=g&on_error=skip&discover_every=2"
    source = KafkaSource.from_url(text, Json(dict))
    assert source.topics == ("a", "b")
    assert (source.start, source.stop, source.group) == (Timestamp(1_700_000_000_000), "now", "g")
    assert (source.on_error, source.discover_every) == ("skip", 2.0)
    with pytest.raises(UsageError, match="unknown option 'key'"):
        KafkaSource.from_url("kafka://one:1/a?key=x")
    with pytest.raises(UsageError, match="no number of seconds"):
        KafkaSource.from_url("kafka://one:1/a?discover_every=x")


def test_what_a_source_says_of_itself():
    unbounded = KafkaSource("one:1", re.compile("t.*"), options={"fetch_max_bytes": 1000, "client_id": "me"})
    assert (unbounded.bounded, unbounded.discovers) == (False, True)
    assert (unbounded.fetching.fetch_max_bytes, unbounded.brokers.client_options()["client_id"]) == (1000, "me")
    bounded = KafkaSource("one:1", "t", stop={})
    assert (bounded.bounded, bounded.discovers) == (True, False)
    assert not KafkaSource("one:1", "t", discover_every=None).discovers
    assert decode(encode(unbounded.offset_of_new)) == unbounded.offset_of_new
    assert pickle.loads(pickle.dumps(unbounded)).topics == unbounded.topics  # noqa: S301


def test_options_are_passed_on_by_their_names():
    source = KafkaSource("one:1", "t", options=dict.fromkeys(OPTIONS_OF_CONNECTIONS + OPTIONS_OF_FETCHES, 7))
    taken = inspect.signature(AIOKafkaClient).parameters
    assert {name for name, value in source.brokers.client_options().items() if value == 7} == {*OPTIONS_OF_CONNECTIONS}
    assert taken.keys() >= source.brokers.client_options().keys()
    assert [getattr(source.fetching, name) for name in OPTIONS_OF_FETCHES] == [7] * len(OPTIONS_OF_FETCHES)


def test_a_topic_that_is_named_twice_is_read_once():
    assert KafkaSource("one:1", ("t", "u", "t")).topics == ("t", "u")


def test_a_partition_has_one_subtask_and_a_topics_partitions_are_spread():
    source = KafkaSource("one:1", "t")
    owners = [source.subtask_of(Split(f"t-{partition}"), 4) for partition in range(8)]
    assert sorted(owners) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert owners == [KafkaSource("one:1", ["u", "t"]).subtask_of(Split(f"t-{p}"), 4) for p in range(8)]


@pytest.mark.parametrize(
    ("stop", "saved", "new", "goes_on"),
    [
        (None, (5, 5), None, True),
        ("now", (5, 5), 9, False),
        ({"t-0": 9}, (5, 5), 9, True),
        ({"t-0": 5}, (5, 5), 5, False),
        ({"t-0": 5}, (6, 5), 5, False),  # a batch's end
        ({"t-1": 3}, (5, 5), 9, False),  # now
        (Timestamp(1), (5, 5), 9, True),
        (Timestamp(1), (5, 5), None, False),  # a partition that isn't there any more
    ],
)
def test_a_partition_that_had_ended_goes_on_if_its_stop_was_moved(stop, saved, new, goes_on):
    assert KafkaSource("one:1", "t", stop=stop).resumes(Split("t-0", (-2, new)), saved) == goes_on


def test_a_coroutine_is_run_to_its_end_also_inside_a_loop():
    async def inner(value):
        return value + 1

    async def outer():
        return run_now(inner(1))

    async def failing():
        raise ConnectorError("no")

    assert run_now(inner(2)) == 3
    assert run_now(outer()) == 2
    with pytest.raises(ConnectorError, match="no"):
        run_now(failing())
