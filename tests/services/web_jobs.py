"""The topologies of the crash tests with web services."""

from streamcore import StreamEnvironment
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.mqtt import Backoff, MqttSink, MqttSource
from streamcore.connectors.web import HttpSink, ServerSentEventsSource

QUICK = Backoff(first_s=0.01, longest_s=0.1)


def rows(start, stop):
    return [{"n": n} for n in range(start, stop)]


def posts(env: StreamEnvironment, *, output: str, url: str, records: int, rate: float) -> None:
    """Every number in a request of its own; nothing in files."""
    sink = HttpSink(url, idempotency_key="n", concurrency=4, backoff=QUICK)
    env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source").sink(sink).uid("posts")


def events(env: StreamEnvironment, *, output: str, url: str) -> None:
    """The events of a server, in files."""
    source = ServerSentEventsSource(url, backoff=QUICK)
    env.source(source).uid("source").sink(FileSink(f"{output}/events", if_exists="replace")).uid("files")


def relay(env: StreamEnvironment, *, output: str, broker: str) -> None:
    """What comes in is published again."""
    source = MqttSource(broker, "in", format="bytes", client_id="relay", backoff=QUICK)
    sink = MqttSink(broker, "out", value="bytes", backoff=QUICK)
    env.source(source).uid("source").sink(sink).uid("sink")
