"""What a KafkaSource reads of a real broker: from where to where, in which order, and what it leaves out."""

import asyncio
import re
from typing import NamedTuple

import pytest
from broker import Consumer, Producer, TopicPartition, until
from confluent_kafka.admin import AdminClient
from source_rig import Rig, rows_of

from streamcore import (
    Checkpointing,
    FixedDelay,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    seconds,
    tumbling,
)
from streamcore.connectors.kafka import Json, KafkaSource, Messages, Timestamp
from streamcore.errors import BadRecordError, ConnectorError, UserFunctionError


def numbered(count, text="message"):
    return [f"{text} {number}".encode() for number in range(count)]


def fill(broker, topic, partitions, count):
    """The values of each partition by its id, after writing them."""
    broker.create_topic(topic, partitions)
    values = {f"{topic}-{p}": numbered(count, f"partition {p}") for p in range(partitions)}
    for partition, written in enumerate(values.values()):
        broker.produce(topic, written, partition=partition)
    return values


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


def test_a_job_reads_every_message_of_every_partition(broker, topic):
    values = fill(broker, topic, 5, 3000)
    env = StreamEnvironment("kafka", parallelism=2)
    found = env.source(KafkaSource(broker.servers, topic, Messages(), stop="now")).execute_and_collect()
    for partition in range(5):
        of_it = [message for message in found if message.partition == partition]
        assert [message.value for message in of_it] == values[f"{topic}-{partition}"]
        assert [message.offset for message in of_it] == list(range(3000))


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


def test_the_groups_offsets_follow_the_checkpoints(broker, topic):
    fill(broker, topic, 2, 100)
    group = f"group-of-{topic}"
    source = KafkaSource(broker.servers, topic, group=group, max_poll=10)

    async def go():
        async with Rig(source) as rig:
            await rig.read(200)
            assert await asyncio.to_thread(broker.committed_offsets, group, topic) == {}
            rig.readers[f"{topic}-0"].committed((40, None))
            rig.readers[f"{topic}-0"].committed((50, None))
            rig.readers[f"{topic}-1"].committed((-2, None))
            await asyncio.to_thread(until, lambda: broker.committed_offsets(group, topic) == {0: 50}, "a commit")
            rig.readers[f"{topic}-1"].committed((70, None))  # the job ends right after its last checkpoint
        return await asyncio.to_thread(broker.committed_offsets, group, topic)

    assert asyncio.run(go()) == {0: 50, 1: 70}


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


class EnoughError(Exception):
    pass


class Rating(NamedTuple):
    user: int
    rating: float
    at: int = 0
    trace: str | None = None


def write_ratings(broker, topic):
    broker.create_topic(topic)
    good = [b'{"user":%d,"rating":0.5}' % user for user in range(300)]
    values = [*good[:100], b'{"user":"x"}', *good[100:200], None, *good[200:]]
    headers = [[("trace", b"t%d" % number)] for number in range(302)]
    broker.produce(topic, values, [b"key"] * 302, 0, headers=headers)


def test_messages_that_cannot_be_read(broker, topic):
    write_ratings(broker, topic)
    env = StreamEnvironment("kafka")
    ratings = Json(Rating, timestamp="at", headers={"trace": "trace"})
    stream = env.source(KafkaSource(broker.servers, topic, ratings, stop="now", on_error="side_output"))
    rows = stream.execute_and_collect()
    assert [row.user for row in rows] == list(range(300))
    assert [row.trace for row in rows][99:102] == ["t99", "t101", "t102"]
    bad = stream.bad_records().execute_and_collect()
    assert [(record.message.offset, record.message.key, record.split) for record in bad] == [
        (100, b"key", f"{topic}-0"),
        (201, b"key", f"{topic}-0"),
    ]
    assert bad[0].message.value == b'{"user":"x"}'
    assert bad[0].message.headers == (("trace", b"t100"),)
    assert bad[1].reason == "no value (a tombstone)"
    assert dict(bad[0].dead_letter_headers())["error.offset"] == b"100"


def test_the_first_message_that_cannot_be_read_fails_the_job(broker, topic):
    write_ratings(broker, topic)
    with pytest.raises(BadRecordError, match=rf"topic '{topic}', partition 0, offset 100: .*'{{\"user\":\"x\"}}'"):
        asyncio.run(rows_of(KafkaSource(broker.servers, topic, Json(Rating), stop="now")))


def test_a_snapshot_of_another_topic(broker, topic):
    source = KafkaSource(broker.servers, topic)
    assert source.split("another-0") is None
    assert "same topics" in source.hint_for_lost("another-0", [])
    assert source.hint_for_lost(f"{topic}-7", []) is None


def test_a_job_that_ends_leaves_its_group_at_the_end_and_the_next_one_goes_on_there(broker, topic, tmp_path):
    fill(broker, topic, 3, 50)
    source = KafkaSource(broker.servers, topic, Messages(), start="group", group=f"group-of-{topic}", stop="now")

    def job():
        env = StreamEnvironment("kafka", parallelism=2, checkpoint=Checkpointing(str(tmp_path), interval=60))
        return env.source(source).execute_and_collect()

    assert len(job()) == 150
    assert broker.committed_offsets(source.group, topic) == {0: 50, 1: 50, 2: 50}
    broker.produce(topic, ["new"], partition=1)
    assert [message.value for message in job()] == [b"new"]


def test_a_job_that_fails_and_restarts_reads_each_message_once(broker, topic, tmp_path):
    fill(broker, topic, 3, 2000)
    failures = iter([1500, 2500])
    at = next(failures)
    seen = 0

    def fragile(message):
        nonlocal seen, at
        seen += 1
        if seen == at:
            at = next(failures, 0)
            raise RuntimeError("now and then")
        return message.partition, message.offset

    checkpoint = Checkpointing(str(tmp_path), interval=0.02)
    env = StreamEnvironment("kafka", parallelism=2, checkpoint=checkpoint, restart=FixedDelay(5, 0.01))
    source = KafkaSource(broker.servers, topic, Messages(), stop="now", max_poll=50)
    found = env.source(source).map(fragile, compiled=False).execute_and_collect()
    assert sorted(found) == [(partition, offset) for partition in range(3) for offset in range(2000)]
    assert seen > 6000 or at == 0


def test_a_partition_without_messages_does_not_hold_up_event_time(broker, topic):
    broker.create_topic(topic, 3, retention_ms="-1")
    for partition in (0, 1):
        values = [b'{"user":%d,"rating":1,"at":%d}' % (partition, number * 1000) for number in range(100)]
        broker.produce(topic, values, partition=partition)
    env = StreamEnvironment("kafka", parallelism=2)
    strategy = bounded_out_of_orderness("at", seconds(1)).with_idleness(seconds(0.2))
    seen = []

    def look(row):
        seen.append(row)
        if len(seen) == 18:
            raise EnoughError
        return row

    source = KafkaSource(broker.servers, topic, Json(Rating))
    windows = env.source(source, watermarks=strategy).key_by("user").window(tumbling(seconds(10))).aggregate(count())
    windows.map(look, compiled=False).print()
    with pytest.raises(UserFunctionError, match="EnoughError"):
        env.execute()
    counted = sorted((row.user, row.window_start, row.count) for row in seen)
    assert counted == [(user, start * 10_000, 10) for user in (0, 1) for start in range(9)]


def test_offsets_that_cannot_be_committed_are_logged_and_committed_with_the_next(broker, topic, caplog):
    """They are refused as long as the group has members."""
    fill(broker, topic, 2, 10)
    group = f"group-of-{topic}"
    member = Consumer({"bootstrap.servers": broker.servers, "group.id": group})
    member.subscribe([topic])
    until(lambda: member.poll(0.05) or member.assignment(), "a member of the group")

    async def go():
        async with Rig(KafkaSource(broker.servers, topic, group=group)) as rig:
            await rig.read(20)
            rig.readers[f"{topic}-0"].committed((3, None))
            await asyncio.to_thread(until, lambda: "can't commit offsets of group" in caplog.text, "a warning")
            await asyncio.to_thread(member.close)
            rig.readers[f"{topic}-1"].committed((4, None))
            wanted = {0: 3, 1: 4}
            await asyncio.to_thread(until, lambda: broker.committed_offsets(group, topic) == wanted, "both")

    asyncio.run(go())
