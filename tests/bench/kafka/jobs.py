"""What is measured, one of them per process: `python -m tests.bench.kafka.jobs NAME SERVERS TOPIC DIRECTORY [OPTIONS]`.

Each prints one line of JSON. Those beginning with `bare` are the loops that streamcore is compared with: aiokafka as
fast as it goes, without an engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streamcore import Checkpointing, StreamEnvironment
from streamcore.apps.online_mf.topology import learn
from streamcore.batch import Batch
from streamcore.connectors.base import Sink, SinkContext, SinkWriter
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.kafka import Json, KafkaSink, KafkaSource, Raw
from streamcore.job.status import JobStatus
from streamcore.operators.online_mf import Hyperparameters

PARTITIONS = 12
ITEMS = 160_000
DIFFERENT = 10_000
SAMPLE_S = 0.5
LINGER_MS, BATCH_BYTES = 20, 131_072


def readings() -> list[bytes]:
    """Small events as JSON, about 90 bytes each."""
    made = (
        {
            "id": n,
            "sensor": f"sensor-{n:05}",
            "temp": 20 + n % 17 * 0.25,
            "ts": 1_700_000_000_000 + n * 37,
            "ok": n % 7 != 0,
        }
        for n in range(DIFFERENT)
    )
    return [json.dumps(reading).encode() for reading in made]


class Rating(NamedTuple):
    """What the main job learns from."""

    user: np.int64
    item: np.int64
    rating: np.float32


class Discard(Sink[Any]):
    """Takes everything and keeps nothing."""

    accepts = "any"

    def writer(self, context: SinkContext) -> SinkWriter:
        """One that does nothing."""
        return _Discarding()


class _Discarding(SinkWriter):
    def write(self, batch: Batch) -> None:
        pass


def values(start: int, stop: int) -> list[bytes]:
    """So many of the readings."""
    made = _READINGS
    return [made[n % DIFFERENT] for n in range(start, stop)]


_READINGS = readings()


# --- streamcore ------------------------------------------------------------------------------------------


def source(servers: str, topic: str, directory: str) -> dict[str, float]:
    """Every message of the topic, as bytes, through the engine."""
    env = StreamEnvironment("source")
    env.source(KafkaSource(servers, topic, Raw(), stop="now")).sink(Discard())
    return _rate(env)


def typed_source(servers: str, topic: str, directory: str) -> dict[str, float]:
    """Ratings in JSON, into columns."""
    env = StreamEnvironment("typed source")
    env.source(KafkaSource(servers, topic, Json(Rating), stop="now")).sink(Discard())
    return _rate(env)


def sink(servers: str, topic: str, directory: str, records: int = 2_000_000) -> dict[str, float]:
    """Made-up messages into a topic, a transaction a second."""
    env = StreamEnvironment("sink", checkpoint=Checkpointing(directory, interval=1.0))
    env.source(GeneratorSource(values, records)).sink(KafkaSink(servers, topic, value=Raw()))
    return _rate(env)


def mf(servers: str, topic: str, directory: str, workers: int = 1, checkpoints: int = 1) -> dict[str, Any]:
    """The main job on all ratings of the topic; with it (seconds, ratings read) as time goes on."""
    env = _mf(servers, topic, directory, workers, restore=False, checkpoints=bool(checkpoints))
    samples: list[tuple[float, int]] = []

    async def watch(status: JobStatus) -> None:
        begun = time.monotonic()
        while True:
            samples.append((time.monotonic() - begun, status.records_read))
            await asyncio.sleep(SAMPLE_S)

    result = env.execute((watch,))
    return {"records": result.records_read, "seconds": result.run_s, "start_s": result.start_s, "samples": samples}


def mf_batch(servers: str, topic: str, directory: str, workers: int = 1, batch_s: float = 5.0) -> dict[str, Any]:
    """One mini-batch of the main job: starts, takes up the model, learns for so long, saves the model, ends."""
    restore = (Path(directory) / "checkpoints").exists()
    begun = time.monotonic()
    env = _mf(servers, topic, directory, int(workers), restore=restore, checkpoints=True)

    async def stop(status: JobStatus) -> None:
        while status.records_read == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(batch_s)
        os.kill(os.getpid(), signal.SIGTERM)

    result = env.execute((stop,))
    return {"records": result.records_read, "seconds": time.monotonic() - begun, "ended": not result.stopped}


def _mf(
    servers: str, topic: str, directory: str, workers: int, *, restore: bool, checkpoints: bool
) -> StreamEnvironment:
    kept = Checkpointing(f"{directory}/checkpoints", interval=10.0) if checkpoints else None
    env = StreamEnvironment("mf", workers=workers, checkpoint=kept, restore="latest" if restore else None)
    ratings = KafkaSource(servers, topic, Json(Rating), stop="now")
    learn(env, ratings, Hyperparameters(), f"{directory}/out", 1_000_000)
    return env


def _rate(env: StreamEnvironment) -> dict[str, float]:
    result = env.execute()
    return {"records": result.records_read, "seconds": result.run_s}


# --- bare loops --------------------------------------------------------------------------------------------


def bare_getmany(servers: str, topic: str, directory: str) -> dict[str, float]:
    """aiokafka's `getmany(max_records=500)` until the end of the topic."""
    return asyncio.run(_getmany(servers, topic))


async def _getmany(servers: str, topic: str) -> dict[str, float]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    total = sum((await consumer.end_offsets(partitions)).values())
    read, begun = 0, time.perf_counter()
    while read < total:
        read += sum(map(len, (await consumer.getmany(timeout_ms=1000, max_records=500)).values()))
    seconds = time.perf_counter() - begun
    await consumer.stop()
    return {"records": read, "seconds": seconds}


def bare_send_batch(servers: str, topic: str, directory: str, records: int = 2_000_000) -> dict[str, float]:
    """aiokafka's `create_batch` and `send_batch`, no transactions."""
    return asyncio.run(_send_batch(servers, topic, values(0, DIFFERENT), [None] * DIFFERENT, int(records)))


def fill_ratings(servers: str, topic: str, directory: str, records: int = 30_000_000, users: int = 45_000) -> Any:
    """Ratings of a shape like Last.fm's listenings: a user's activity is log-normal, the most active one has about
    0.2 % of all, as has the best known of 160,000 items. A user's ratings are in one partition."""
    count, chance = int(records), np.random.default_rng(1)
    activity = np.cumsum(chance.lognormal(sigma=1.2, size=int(users)))
    fame = np.cumsum(1 / (np.arange(ITEMS) + 50.0))
    seconds = 0.0
    for start in range(0, count, 1_000_000):
        size = min(1_000_000, count - start)
        who = np.searchsorted(activity, chance.random(size) * activity[-1])
        what = np.searchsorted(fame, chance.random(size) * fame[-1])
        rows = zip(who.tolist(), what.tolist(), (chance.integers(1, 11, size) / 2).tolist(), strict=True)
        lines = [b'{"user":%d,"item":%d,"rating":%.1f}' % row for row in rows]
        sent = asyncio.run(_send_batch(servers, topic, lines, (who % PARTITIONS).tolist(), size))
        seconds += sent["seconds"]
    return {"records": count, "seconds": seconds}


async def _send_batch(
    servers: str, topic: str, messages: Sequence[bytes], partitions: Sequence[int | None], count: int
) -> dict[str, float]:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks=1, linger_ms=LINGER_MS, max_batch_size=BATCH_BYTES)
    await producer.start()
    await producer.partitions_for(topic)
    begun = time.perf_counter()
    builders = [producer.create_batch() for _ in range(PARTITIONS)]
    sent = []
    for number in range(count):
        at = number % len(messages)
        given = partitions[at]
        partition = at % PARTITIONS if given is None else given
        builder, value = builders[partition], messages[at]
        if builder.append(key=None, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(builder, topic, partition=partition))
            builder = builders[partition] = producer.create_batch()
            builder.append(key=None, value=value, timestamp=None)
    for partition, builder in enumerate(builders):
        if builder.record_count():
            sent.append(await producer.send_batch(builder, topic, partition=partition))
    await producer.flush()
    for future in sent:
        await future
    seconds = time.perf_counter() - begun
    await producer.stop()
    return {"records": count, "seconds": seconds}


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job for job in (source, typed_source, sink, mf, mf_batch, bare_getmany, bare_send_batch, fill_ratings)
}

if __name__ == "__main__":
    job, *places = sys.argv[1:5]
    options = [float(option) if "." in option else int(option) for option in sys.argv[5:]]
    begun_s = time.process_time()
    print(json.dumps({**JOBS[job](*places, *options), "cpu_s": time.process_time() - begun_s}))
