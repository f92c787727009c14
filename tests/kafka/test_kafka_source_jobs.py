"""Whole jobs over a KafkaSource: what they make of messages, how they end and restart, where they leave their group."""

import asyncio
import time
import zlib
from typing import NamedTuple

import pytest
from broker import Consumer, until
from source_rig import Rig, fill, rows_of

from streamcore import (
    Checkpointing,
    FixedDelay,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    seconds,
    tumbling,
)
from streamcore.connectors.kafka import Decoded, Format, Json, KafkaSource, Messages
from streamcore.errors import BadRecordError, UserFunctionError
from streamcore.testing import MemorySink


def test_a_job_reads_every_message_of_every_partition(broker, topic):
    values = fill(broker, topic, 5, 3000)
    env = StreamEnvironment("kafka", parallelism=2)
    found = env.source(KafkaSource(broker.servers, topic, Messages(), stop="now")).execute_and_collect()
    for partition in range(5):
        of_it = [message for message in found if message.partition == partition]
        assert [message.value for message in of_it] == values[f"{topic}-{partition}"]
        assert [message.offset for message in of_it] == list(range(3000))


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


class Fragile(Format):
    """Partition and offset of messages; fails once, in the last hundred."""

    has_failed = False

    def decoder(self):
        return self._decode

    def _decode(self, chunk):
        rows = [(chunk.message(index).partition, chunk.message(index).offset) for index in range(len(chunk))]
        time.sleep(0.01)  # checkpoints are to see that the other subtask has ended
        if rows[-1][1] >= 900 and not Fragile.has_failed:
            Fragile.has_failed = True
            raise EnoughError
        return Decoded(rows, [])


@pytest.mark.parametrize("ended", [0, 1])
def test_a_job_restarts_when_one_of_its_subtasks_had_ended(broker, topic, tmp_path, ended, monkeypatch):
    """The first partition is read by the second subtask: that depends on the topic's name."""
    topic = next(name for n in range(100) if zlib.crc32((name := f"{topic}-{n}").encode()) % 2)
    fill(broker, topic, 2, 1000)
    monkeypatch.setattr(Fragile, "has_failed", False)
    checkpoint = Checkpointing(str(tmp_path), interval=0.02)
    env = StreamEnvironment("kafka", parallelism=2, checkpoint=checkpoint, restart=FixedDelay(1, 0.01))
    source = KafkaSource(broker.servers, topic, Fragile(), stop={f"{topic}-{ended}": 5}, max_poll=20)
    found = env.source(source).map(tuple, compiled=False).start_new_chain().execute_and_collect()
    wanted = [(ended, offset) for offset in range(5)] + [(1 - ended, offset) for offset in range(1000)]
    assert sorted(found) == sorted(wanted)
    assert Fragile.has_failed


@pytest.mark.parametrize(("stop", "ends"), [({0: 10, 1: 950}, [10, 950]), ({1: 950}, [5, 950])])
def test_a_restored_job_whose_stop_was_moved(broker, topic, tmp_path, stop, ends):
    """No message between the old stop and the new one is left out; one subtask, and a partition had ended."""
    fill(broker, topic, 2, 1000)
    seen, sink, is_restored = set(), MemorySink(), False

    def look(message):
        row = message.partition, message.offset
        time.sleep(0.0005)
        if len(seen) == 800 and not is_restored:
            raise EnoughError
        seen.add(row)

    def job(stop, restore=None):
        checkpoint = Checkpointing(str(tmp_path), interval=0.02)
        env = StreamEnvironment("kafka", checkpoint=checkpoint, restore=restore, restart=FixedDelay(0, 0.01))
        stop = {f"{topic}-{partition}": offset for partition, offset in stop.items()}
        source = KafkaSource(broker.servers, topic, Messages(), stop=stop, max_poll=20)
        env.source(source).uid("source").map(look, compiled=False).sink(sink)
        env.execute()

    with pytest.raises(UserFunctionError, match="EnoughError"):
        job({0: 5, 1: 900})
    is_restored = True
    job(stop, "latest")
    assert seen == {(partition, offset) for partition, end in enumerate(ends) for offset in range(end)}


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
