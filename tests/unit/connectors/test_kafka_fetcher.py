"""What is fetched of which partition, and when: against a cluster of two brokers that answers as it is told."""

import asyncio
import re
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka
from aiokafka.structs import TopicPartition
from record_batches import batch, numbered

from streamcore.connectors.kafka.fetcher import Fetcher, FetchSettings, Partition

A, B, C = (TopicPartition("t", number) for number in range(3))


class Cluster:
    """Partitions A and B are led by broker 1, C by broker 2. A request is answered by what `answers` has for its
    partitions, once, as soon as there is something."""

    def __init__(self):
        self.leaders = {A: 1, B: 1, C: 2}
        self.cluster = SimpleNamespace(leader_for_partition=self.leaders.get)
        self.answers = {}
        self.requests = []

    async def send(self, node, request, group):
        asked = {TopicPartition(t, number): offset for t, parts in request.topics for number, offset, _ in parts}
        self.requests.append((node, asked, request._max_wait_ms))
        await asyncio.sleep(0)
        while not self.answers.keys() & asked:
            await asyncio.sleep(0.001)
        found = {name: self.answers.pop(name) for name in asked if name in self.answers}
        for answer in found.values():
            if isinstance(answer, Exception):
                raise answer
        parts = [(n.partition, code, 0, 0, 0, [], -1, data) for n, (code, data) in found.items()]
        return SimpleNamespace(topics=[("t", parts)])


class Rig:
    def __init__(self, *names, **settings):
        self.client = Cluster()
        self.woken, self.stale = 0, 0
        self.out_of_range = []
        settings = FetchSettings(**{"max_partition_fetch_bytes": 300, **settings})
        self.fetcher = Fetcher(self.client, settings, self._wake, self._lost, self._stale)
        for name in names:
            self.fetcher.partitions[name] = Partition(name, 0, self.fetcher.notify)

    def __getitem__(self, name):
        return self.fetcher.partitions[name]

    def _wake(self):
        self.woken += 1

    async def _lost(self, partition):
        self.out_of_range.append(partition.name)
        partition.place(50)

    async def _stale(self):
        self.stale += 1

    async def run(self, requests):
        """The fetcher at work, when it has sent so many requests."""
        task = asyncio.create_task(self.fetcher.run())
        await self.until(requests)
        return task

    async def until(self, requests):
        async with asyncio.timeout(10):
            while len(self.client.requests) < requests:
                await asyncio.sleep(0)

    async def end(self, task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def data(first, count):
    return batch(first, numbered(first, first + count))


def test_each_broker_is_asked_for_its_partitions_and_on_from_what_it_gave():
    async def go():
        rig = Rig(A, B, C)
        rig.client.answers = {A: (0, data(0, 3)), C: (0, data(0, 2))}
        task = await rig.run(4)
        await rig.end(task)
        return rig

    rig = asyncio.run(go())
    assert [(node, asked) for node, asked, _ in rig.client.requests] == [
        (1, {A: 0, B: 0}),
        (2, {C: 0}),
        (1, {A: 3, B: 0}),
        (2, {C: 2}),
    ]
    assert rig.woken == 2
    assert rig[A].take(10, None).values == numbered(0, 3)
    assert rig[A].position == 3
    assert rig[B].take(10, None) is None


def test_nothing_of_it_is_left_when_it_ends():
    async def go():
        rig = Rig(A, C)
        await rig.end(await rig.run(2))
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(go()) == set()


def test_a_partition_that_has_enough_is_left_out_until_it_is_read():
    async def go():
        rig = Rig(A, B)
        rig.client.answers = {A: (0, data(0, 30))}
        task = await rig.run(2)
        assert rig.client.requests[1:] == [(1, {B: 0}, 20)]  # it must not wait long: A will soon want more
        assert len(rig[A].take(29, None)) == 29
        rig.client.answers = {B: (0, data(0, 1))}
        await rig.until(3)
        assert rig.client.requests[2:] == [(1, {B: 1}, 20)]
        assert len(rig[A].take(29, None)) == 1
        rig.client.answers = {B: (0, data(1, 1))}
        await rig.until(4)
        await rig.end(task)
        return rig.client.requests[3:]

    assert asyncio.run(go()) == [(1, {A: 30, B: 2}, 500)]


def test_reading_to_the_end_of_a_fetch_asks_for_more():
    async def go():
        rig = Rig(A)
        rig.client.answers = {A: (0, data(0, 30))}
        task = await rig.run(1)
        while rig.woken == 0:
            await asyncio.sleep(0)
        for _ in range(20):  # until it has nothing to do
            await asyncio.sleep(0)
        assert len(rig.client.requests) == 1
        rig[A].take(100, None)
        await rig.until(2)
        await rig.end(task)
        return rig.client.requests

    assert [asked for _, asked, _ in asyncio.run(go())] == [{A: 0}, {A: 30}]


@pytest.mark.parametrize("code", [kafka.NotLeaderForPartitionError.errno, kafka.UnknownTopicOrPartitionError.errno, -1])
def test_what_may_pass_is_tried_again(code):
    async def go():
        rig = Rig(A, C)
        rig.client.answers = {A: (code, b"")}
        task = await rig.run(2)
        while rig.stale == 0:
            await asyncio.sleep(0)
        await rig.until(3)
        await rig.end(task)
        return [asked for _, asked, _ in rig.client.requests]

    assert asyncio.run(go()) == [{A: 0}, {C: 0}, {A: 0}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((kafka.KafkaStorageError.errno, b""), ["can't fetch t-0, which is .*: KafkaStorageError .code 56"]),
        ((-1, b""), [r"can't fetch t-0, which is .*: UnknownError .code -1"]),
        (kafka.SaslAuthenticationFailed("no"), ["can't fetch from broker 1, which is .*: SaslAuthenticationFailed"]),
        ((kafka.NotLeaderForPartitionError.errno, b""), []),
        (kafka.KafkaConnectionError("gone"), []),
    ],
)
def test_what_is_no_outage_is_told_once(answer, said, caplog):
    async def go():
        rig = Rig(A)
        task = await rig.run(1)
        for _ in range(2):
            rig.client.answers = {A: answer}
            await rig.until(len(rig.client.requests) + 1)
        await rig.end(task)

    asyncio.run(go())
    assert len(caplog.messages) == len(said)
    assert all(re.match(wanted, message) for wanted, message in zip(said, caplog.messages, strict=True))


@pytest.mark.parametrize("error", [kafka.KafkaConnectionError("gone"), TimeoutError(), KeyError()])
def test_a_broker_that_does_not_answer_is_asked_again(error):
    async def go():
        rig = Rig(A)
        rig.client.answers = {A: error}
        task = await rig.run(2)
        await rig.end(task)
        return rig

    rig = asyncio.run(go())
    assert rig.stale == 1
    assert rig[A].take(1, None) is None


def test_a_partition_without_a_leader_is_waited_for():
    async def go():
        rig = Rig(A)
        rig.client.leaders[A] = -1
        task = await rig.run(0)
        await asyncio.sleep(0)
        assert rig.client.requests == []
        rig.client.leaders[A] = 2
        await rig.until(1)
        await rig.end(task)
        return rig.client.requests

    assert asyncio.run(go()) == [(2, {A: 0}, 500)]


def test_no_rights_stop_a_partition_after_what_has_come():
    async def go():
        rig = Rig(A)
        rig.client.answers = {A: (0, data(0, 1))}
        task = await rig.run(2)
        rig.client.answers = {A: (kafka.TopicAuthorizationFailedError.errno, b"")}
        while rig.woken < 2:
            await asyncio.sleep(0)
        await rig.end(task)
        return rig

    rig = asyncio.run(go())
    assert rig[A].take(10, None).values == [b"v0"]
    with pytest.raises(kafka.TopicAuthorizationFailedError):
        rig[A].take(10, None)
    assert len(rig.client.requests) == 2


def test_an_offset_that_is_not_there_is_looked_into():
    async def go():
        rig = Rig(A)
        rig.client.answers = {A: (kafka.OffsetOutOfRangeError.errno, b"")}
        task = await rig.run(2)
        await rig.end(task)
        return rig

    rig = asyncio.run(go())
    assert rig.out_of_range == [A]
    assert [asked for _, asked, _ in rig.client.requests] == [{A: 0}, {A: 50}]


def test_an_answer_for_another_offset_is_thrown_away():
    async def go():
        rig = Rig(A)
        task = await rig.run(1)
        rig[A].place(7)
        rig.client.answers = {A: (0, data(0, 10))}
        await rig.until(2)
        await rig.end(task)
        return rig

    rig = asyncio.run(go())
    assert rig[A].take(10, None) is None
    assert [asked for _, asked, _ in rig.client.requests] == [{A: 0}, {A: 7}]
