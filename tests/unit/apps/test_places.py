"""Where apps read from and write to: the settings, before any broker is asked."""

from __future__ import annotations

import pytest

from streamcore import StreamEnvironment, bounded_out_of_orderness, seconds
from streamcore.apps.conventions import is_topics, messages, patient, place, where_results_are, write
from streamcore.cli.targets import load_app
from streamcore.connectors.iterable_source import IterableSource
from streamcore.errors import UsageError

URL = "kafka://localhost:9092/results"


def test_a_place_is_an_address_or_a_path():
    assert place("", "out/x") == "out/x"
    assert place(URL, "out/x") == URL
    assert (is_topics(URL), is_topics("out/x")) == (True, False)
    for wrong in ("results.csv", "kafka://localhost:9092", "kafka:///results"):
        with pytest.raises(UsageError, match="Kafka address"):
            place(wrong, "out/x")


def test_messages_take_the_options_of_a_source():
    source = messages(f"{URL}?start=latest&group=g&stop=now", dict)
    assert (source.topics, source.start, source.group, source.on_error) == (("results",), "latest", "g", "side_output")
    assert messages(f"{URL}?on_error=skip", dict).on_error == "skip"
    assert messages(URL, dict, on_error="fail").on_error == "fail"
    with pytest.raises(UsageError, match="unknown option 'begin'"):
        messages(f"{URL}?begin=now", dict)


def test_partitions_that_fall_silent_are_not_waited_for_long():
    order = bounded_out_of_orderness("time", seconds(1))
    assert patient(order, URL) == order.with_idleness(seconds(30))
    assert patient(order, "readings.csv") == order


def sink_of(address, name, key=None):
    env = StreamEnvironment("job")
    written = []
    stream = env.source(IterableSource([1]))
    stream.sink = lambda sink: written.append(sink) or stream
    write(stream, address, name, key)
    return written[0]


def test_each_output_has_a_topic_of_its_own(tmp_path):
    sink = sink_of(f"{URL}?delivery=at-least-once&partitions=3", "rmse")
    assert (sink.topic, sink.partitions, sink.delivery) == ("results-rmse", 3, "at-least-once")
    assert (sink_of(URL, "rmse").partitions, sink_of(URL, "rmse").delivery) == (12, "exactly-once")
    assert [sink_of(f"{URL}?prefix=p", name).prefix for name in ("a", "b")] == ["p-a", "p-b"]
    assert sink_of(str(tmp_path), "rmse").directory == f"{tmp_path}/rmse"
    assert where_results_are(URL) == "results are in the topics results-… of Kafka at localhost:9092"
    for options, problem in [
        ("start=now", "unknown option 'start'"),
        ("partitions=many", "partitions of a Kafka address is no number"),
        ("partitions=0", "partitions=0 can't be"),
        ("delivery=twice", "delivery='twice' is unknown"),
    ]:
        with pytest.raises(UsageError, match=problem):
            sink_of(f"{URL}?{options}", "rmse")


@pytest.mark.parametrize("name", ["online_mf", "sensors", "trending", "fraud"])
def test_apps_are_built_over_topics_without_a_broker(name):
    app = load_app(name)
    app.make(StreamEnvironment(name), app.settings({"source": "kafka://nowhere:1/in", "sink": "kafka://nowhere:1/out"}))
    with pytest.raises(UsageError, match=r"'ratings.csv' is no Kafka address"):
        app.make(StreamEnvironment(name), app.settings({"source": "ratings.csv"}))
    with pytest.raises(UsageError, match="'out' is no Kafka address"):
        app.make(StreamEnvironment(name), app.settings({"sink": "out"}))
