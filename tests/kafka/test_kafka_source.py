"""What a KafkaSource reads of a real broker: from where to where, in which order, and what it leaves out."""

import asyncio
import re

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from broker import Consumer, Producer, TopicPartition, until
from confluent_kafka.admin import AdminClient
from source_rig import Rig, fill, numbered, rows_of

from streamcore.connectors.kafka import KafkaSource, Messages, Timestamp
from streamcore.errors import ConnectorError


def transaction(broker, topic, values, end):
    """Writes the values in a transaction, in batches of one; `end` says what becomes of it."""
    producer = Producer(
        {"bootstrap.servers": broker.servers, "transactional.id": f"{topic}-{values[0]}", "batch.num.messages": 1}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.flush(30)
    if end == "commit":
        producer.commit_transaction(30)
    elif end == "abort":
        producer.abort_transaction(30)
    if end != "stays open":  # its marker is written a moment after the answer
        until(lambda: broker.end_offsets(topic, "read_committed") == broker.end_offsets(topic), "the marker")
    return producer


def test_several_topics_and_a_pattern(broker, topic):
    names = [f"{topic}-{which}" for which in "ab"]
    for name in names:
        fill(broker, name, 1, 3)
    broker.create_topic(f"not-{topic}-c")
    listed = asyncio.run(rows_of(KafkaSource(broker.servers, names, stop="now")))
    matched = asyncio.run(rows_of(KafkaSource(broker.servers, re.compile(f"{topic}-."), stop="now")))
    assert listed == matched == {f"{name}-0": numbered(3, "partition 0") for name in names}


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("earliest", [0, 0]),
        ("latest", [10, 10]),
        ("group", [4, 0]),
        (Timestamp(1_700_000_000_007), [7, 7]),
        (Timestamp(1_900_000_000_000), [10, 10]),
        ({"TOPIC-1": 6}, [0, 6]),
    ],
    ids=["earliest", "latest", "group", "time", "time-to-come", "offsets"],
)
def test_where_a_job_begins(broker, topic, start, first):
    broker.create_topic(topic, 2, retention_ms="-1")
    times = range(1_700_000_000_000, 1_700_000_000_010)
    for partition in range(2):
        broker.produce(topic, numbered(10), partition=partition, timestamps=times)
    group = f"group-of-{topic}"
    offset = TopicPartition(topic, 0, 4)
    committed_by_another(broker, group, offset)
    if isinstance(start, dict):
        start = {name.replace("TOPIC", topic): offset for name, offset in start.items()}
    source = KafkaSource(broker.servers, topic, Messages(), start=start, group=group, stop="now")
    rows = asyncio.run(rows_of(source))
    assert [[m.offset for m in rows[f"{topic}-{p}"]] for p in range(2)] == [list(range(at, 10)) for at in first]


def committed_by_another(broker, group, offset):
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group})
    consumer.commit(offsets=[offset], asynchronous=False)
    consumer.close()


@pytest.mark.parametrize(
    ("stop", "ends"),
    [({"TOPIC-0": 3}, [3, 10]), (Timestamp(1_700_000_000_005), [5, 5]), ({"TOPIC-0": 0, "TOPIC-1": 10}, [0, 10])],
    ids=["an-offset", "time", "offsets"],
)
def test_where_a_job_ends(broker, topic, stop, ends):
    broker.create_topic(topic, 2, retention_ms="-1")
    for partition in range(2):
        broker.produce(topic, numbered(10), partition=partition, timestamps=range(1_700_000_000_000, 1_700_000_000_010))
    if isinstance(stop, dict):
        stop = {name.replace("TOPIC", topic): offset for name, offset in stop.items()}
    rows = asyncio.run(rows_of(KafkaSource(broker.servers, topic, stop=stop)))
    assert [len(rows[f"{topic}-{p}"]) for p in range(2)] == ends


def test_a_job_ends_behind_the_marker_of_a_transaction(broker, topic):
    broker.create_topic(topic)
    transaction(broker, topic, ["a", "b"], "commit")
    source = KafkaSource(broker.servers, topic, stop="now")
    assert [split.info for split in source.splits()] == [(-2, 3)]  # two messages and a marker
    assert asyncio.run(rows_of(source)) == {f"{topic}-0": [b"a", b"b"]}


def test_an_empty_topic_ends_at_once(broker, topic):
    broker.create_topic(topic, 2)
    rows = asyncio.run(rows_of(KafkaSource(broker.servers, topic, stop="now")))
    assert rows == {f"{topic}-0": [], f"{topic}-1": []}


def test_aborted_and_open_transactions_are_left_out(broker, topic):
    broker.create_topic(topic)
    broker.produce(topic, ["first"])
    transaction(broker, topic, ["a1", "a2"], "abort")
    transaction(broker, topic, ["b1", "b2"], "commit")
    transaction(broker, topic, ["c1"], "abort")
    still_open = transaction(broker, topic, ["d1"], "stays open")
    broker.produce(topic, ["behind it"])
    committed = asyncio.run(rows_of(KafkaSource(broker.servers, topic, stop="now")))
    everything = asyncio.run(rows_of(KafkaSource(broker.servers, topic, stop="now", isolation="read_uncommitted")))
    still_open.abort_transaction(30)
    assert committed == {f"{topic}-0": [b"first", b"b1", b"b2"]}
    names = ["first", "a1", "a2", "b1", "b2", "c1", "d1", "behind it"]
    assert everything == {f"{topic}-0": [name.encode() for name in names]}


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_messages(broker, topic, codec):
    broker.create_topic(topic)
    producer = Producer({"bootstrap.servers": broker.servers, "compression.type": codec, "linger.ms": 20})
    for value in numbered(2000):
        producer.produce(topic, value)
    producer.flush(30)
    assert asyncio.run(rows_of(KafkaSource(broker.servers, topic, stop="now"))) == {f"{topic}-0": numbered(2000)}


def test_a_reader_goes_on_at_its_offset_to_the_message(broker, topic):
    fill(broker, topic, 1, 1000)
    source = KafkaSource(broker.servers, topic, Messages(), stop="now", max_poll=7)

    async def go():
        offsets, seen = {}, []
        for _ in range(5):
            async with Rig(source, offsets) as rig:
                await rig.until(lambda rig=rig: rig.count >= 63 or rig.exhausted)
                seen += [message.offset for message in rig.rows[f"{topic}-0"]]
                offsets = {split_id: reader.offset for split_id, reader in rig.readers.items()}
        return seen, offsets

    seen, offsets = asyncio.run(go())
    assert seen == list(range(5 * 63))
    assert offsets == {f"{topic}-0": (5 * 63, 1000)}


def test_now_is_when_the_job_was_first_started(broker, topic):
    fill(broker, topic, 1, 10)
    first = KafkaSource(broker.servers, topic, stop="now").splits()
    broker.produce(topic, ["later"])
    source = KafkaSource(broker.servers, topic, stop="now")
    restored = {split.id: (4, split.info[1]) for split in first}
    assert asyncio.run(rows_of(source, restored)) == {f"{topic}-0": numbered(10, "partition 0")[4:]}
    assert len(asyncio.run(rows_of(source))[f"{topic}-0"]) == 11


def test_new_partitions_and_topics_are_found(broker, topic):
    fill(broker, f"{topic}-a", 1, 2)
    source = KafkaSource(broker.servers, re.compile(f"{topic}-."), discover_every=0.05)

    async def go():
        async with Rig(source) as rig:
            await rig.read(2)
            await asyncio.to_thread(broker.add_partitions, f"{topic}-a", 2)
            await asyncio.to_thread(fill, broker, f"{topic}-b", 1, 3)
            await asyncio.to_thread(broker.produce, f"{topic}-a", ["new"], partition=1)
            await rig_found(rig, f"{topic}-a-1", f"{topic}-b-0")
            for split in {split.id: split for split in rig.found}.values():
                if split.id not in rig.readers:
                    assert split == source.split(split.id)
                    rig.read_split(split, source.offset_of_new)
            return await rig.read(6)

    rows = asyncio.run(go())
    assert rows[f"{topic}-a-1"] == [b"new"]
    assert rows[f"{topic}-b-0"] == numbered(3, "partition 0")


def test_a_search_for_new_partitions_that_is_refused_is_told_once(broker, topic, monkeypatch, caplog):
    fill(broker, topic, 1, 2)
    asked = []

    async def refused(*_):
        asked.append(1)
        raise TopicAuthorizationFailedError(topic)

    async def go():
        async with Rig(KafkaSource(broker.servers, topic, discover_every=0.01)) as rig:
            monkeypatch.setattr("streamcore.connectors.kafka.client.find_partitions", refused)
            await rig.read(2)
            async with asyncio.timeout(20):
                while len(asked) < 3:
                    await asyncio.sleep(0.01)

    asyncio.run(go())
    assert caplog.text.count(f"can't look for new partitions: Kafka at {broker.servers}: no rights to the topic") == 1


async def rig_found(rig, *wanted):
    async with asyncio.timeout(20):
        while not {split.id for split in rig.found} >= set(wanted):
            await asyncio.sleep(0.01)


def test_no_partition_runs_ahead_and_one_that_is_held_is_not_fetched(broker, topic):
    broker.create_topic(topic, 2)
    for partition in range(2):
        values = numbered(30_000, f"partition {partition}")
        for first in range(0, 30_000, 1000):  # each in a batch of its own, of 25 kB
            broker.produce(topic, values[first : first + 1000], partition=partition)
    source = KafkaSource(broker.servers, topic, stop="now", max_poll=100, options={"max_partition_fetch_bytes": 20_000})

    async def go():
        async with Rig(source) as rig:
            rig.held = {f"{topic}-1"}
            await rig.until(lambda: len(rig.rows[f"{topic}-0"]) == 30_000)
            held = rig.readers[f"{topic}-1"]._partition.buffered_bytes
            rig.held = set()
            return held, await rig.read(), rig.polls

    held, rows, polls = asyncio.run(go())
    assert rows[f"{topic}-1"] == numbered(30_000, "partition 1")
    assert max(map(max, polls.values())) == 100
    assert held <= 100_000
    assert held > 0


def test_deleted_messages_are_missed(broker, topic, caplog):
    fill(broker, topic, 1, 100)
    at_ten = {f"{topic}-0": (10, None)}
    (deleted,) = broker.admin.delete_records([TopicPartition(topic, 0, 60)]).values()
    deleted.result(30)
    with pytest.raises(ConnectorError, match=r"50 messages of .*-0 were deleted .*\(offsets 10 to 59\)"):
        asyncio.run(rows_of(KafkaSource(broker.servers, topic), at_ten))
    source = KafkaSource(broker.servers, topic, on_lost="earliest")
    assert asyncio.run(rows_of(source, at_ten, 40)) == {f"{topic}-0": numbered(100, "partition 0")[60:]}
    assert "50 messages" in caplog.text


def test_a_topic_made_anew_is_told_from_a_long_one(broker, topic):
    fill(broker, topic, 1, 100)
    broker.delete_topic(topic)
    until(
        lambda: topic not in AdminClient({"bootstrap.servers": broker.servers}).list_topics(timeout=10).topics, "gone"
    )
    fill(broker, topic, 1, 5)
    with pytest.raises(ConnectorError, match="ends at offset 5, but has been read up to 70 before: it was deleted"):
        asyncio.run(rows_of(KafkaSource(broker.servers, topic), {f"{topic}-0": (70, None)}))


def test_a_start_behind_the_end(broker, topic):
    fill(broker, topic, 1, 5)
    source = KafkaSource(broker.servers, topic, start={f"{topic}-0": 1_000_000})
    with pytest.raises(ConnectorError, match=f"{topic}-0 ends at offset 5, before the 1000000 of start="):
        asyncio.run(rows_of(source))


def test_a_topic_deleted_while_the_job_runs(broker, topic, monkeypatch):
    monkeypatch.setattr("streamcore.connectors.kafka.client._GONE_AFTER_S", 0.2)
    fill(broker, topic, 1, 3)

    async def go():
        async with Rig(KafkaSource(broker.servers, topic)) as rig:
            await rig.read(3)
            await asyncio.to_thread(broker.delete_topic, topic)
            with pytest.raises(ConnectorError, match=f"can't read '{topic}' any more: .*there is no such topic"):
                await rig.read(4)
            rig.held = set(rig.readers)
            rig.read_split(rig.source.split(f"{topic}-1"), rig.source.offset_of_new)  # one that was found meanwhile
            with pytest.raises(ConnectorError, match="there is no such topic"):
                await rig.read(4)

    asyncio.run(go())


def test_a_partition_that_its_topic_does_not_have_any_more(broker, topic, monkeypatch):
    """A snapshot's, of a topic that was made anew with fewer while the job was down."""
    monkeypatch.setattr("streamcore.connectors.kafka.client._GONE_AFTER_S", 0.2)
    fill(broker, topic, 1, 3)

    async def go():
        async with Rig(KafkaSource(broker.servers, topic)) as rig:
            await rig.read(3)
            rig.read_split(rig.source.split(f"{topic}-1"), (5, None))
            with pytest.raises(ConnectorError, match=f"can't read '{topic}-1': .*the topic has no such partition"):
                await rig.read(4)

    asyncio.run(go())
