"""The command `produce`: replays a data file into a Kafka topic."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import Any

import click

from streamcore.api.app import App
from streamcore.api.environment import StreamEnvironment
from streamcore.cli.progress import progress_line
from streamcore.connectors.as_messages import UNITS_MS, AsMessages
from streamcore.connectors.data_file import open_data_file
from streamcore.connectors.replay_source import ReplaySource
from streamcore.errors import UsageError
from streamcore.job.status import JobResult
from streamcore.logs import configure_logging

_POSITIVE = click.IntRange(min=1)


@click.command()
@click.argument("file")
@click.argument("topic", metavar="kafka://HOST:PORT/TOPIC")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Records per second; 0: as many as go.")
@click.option(
    "--as-recorded", "speedup", metavar="SPEEDUP", type=click.FloatRange(min=0, min_open=True),
    help="As the event times of --time say, so many times as fast.",
)  # fmt: skip
@click.option("--partitions", type=_POSITIVE, default=12, show_default=True, help="Of the topic, if there is none yet.")
@click.option("--key", metavar="FIELD", help="Send records of one value of the field to one partition, in order.")
@click.option("--time", metavar="FIELD", help="The field of event time: it is the messages' timestamp.")
@click.option(
    "--time-unit", "unit", type=click.Choice(list(UNITS_MS)), default="ms", show_default=True,
    help="Of times that are numbers, since 1970.",
)  # fmt: skip
@click.option("--columns", metavar="A,B,C", help="The names of a CSV file's columns, if it has no header.")
@click.option("--limit", type=_POSITIVE, help="Send at most so many records.")
@click.option("--repeat", is_flag=True, help="Begin again at the end, until Ctrl-C or --limit; event times too.")
@click.option("--no-progress", is_flag=True, help="No progress line.")
def produce(file: str, topic: str, **options: Any) -> None:
    """Replays FILE into a Kafka topic, a JSON message for each record.

    FILE is CSV, JSON lines or Parquet, by its name; .gz may follow. The topic is made if there is none. Keys go to the
    partitions where every client of Kafka puts them.
    """
    configure_logging("INFO", as_json=False)
    result, partitions = _replay(file, topic, options)
    rate = result.records_read / result.run_s if result.run_s > 0 else 0.0
    click.echo(
        f"{'stopped on request: ' if result.stopped else ''}{result.records_read:,} records in {result.run_s:.2f} s "
        f"({rate:,.0f}/s) to {partitions} partitions",
        err=True,
    )


def _replay(file: str, topic: str, options: dict[str, Any]) -> tuple[JobResult, int]:
    # only here: a client of Kafka takes its time to be imported
    from streamcore.connectors.kafka.sink import KafkaSink
    from streamcore.connectors.kafka.topics import ensure_topic
    from streamcore.connectors.kafka.url import parse_url

    if options["speedup"] is not None and options["time"] is None:
        raise UsageError("--as-recorded needs the field of event time", hint="add --time FIELD")
    if options["speedup"] is not None and options["rate"]:
        raise UsageError("the pace is that of --rate or of --as-recorded, not both")
    address = parse_url(topic)
    address.check_options("compression")
    messages = AsMessages(options["key"], options["time"], options["unit"])
    source = ReplaySource(
        open_data_file(file, options["columns"] and options["columns"].split(",")),
        rate=options["rate"] or None,
        times=None if options["speedup"] is None else messages.times,
        speedup=options["speedup"] or 1.0,
        limit=options["limit"],
        repeat=options["repeat"],
        convert=messages,
    )
    time = 2 if options["time"] else None
    sink = KafkaSink.from_url(address, key=0, value=itemgetter(1), timestamp=time, delivery="at-least-once")
    partitions = asyncio.run(ensure_topic(address.brokers, address.topic, options["partitions"]))
    env = StreamEnvironment("produce")
    env.source(source, name="file").sink(sink)
    return env.execute(() if options["no_progress"] else (progress_line(App("produce", _replay)),)), partitions
