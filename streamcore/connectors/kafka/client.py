"""What the readers of one subtask share: the connection, the fetches, the search for new partitions, and the group's
offsets that follow the snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from re import Pattern
from typing import TYPE_CHECKING, Any

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from streamcore.connectors.base import ReaderContext, SourceClient, Split
from streamcore.connectors.kafka.cluster import (
    EARLIEST,
    LATEST,
    RETRY_S,
    commit_offsets,
    find_partitions,
    offsets_at,
    persist,
    refresh,
)
from streamcore.connectors.kafka.connection import OutageWatch, connect_patiently, explain, is_outage
from streamcore.connectors.kafka.fetcher import Fetcher, Partition
from streamcore.connectors.kafka.positions import Range, Start, split_id
from streamcore.errors import ConnectorError, StreamcoreError

if TYPE_CHECKING:
    from streamcore.connectors.kafka.source import KafkaSource

log = logging.getLogger(__name__)

_GONE_AFTER_S = 10.0
_LAST_COMMIT_S = 2.0
_FOREVER_S = float("inf")


class KafkaClient(SourceClient):
    """Connects in the background, waits for brokers that are down, and goes on by itself when they are back."""

    def __init__(self, source: KafkaSource[Any], context: ReaderContext) -> None:
        self._source = source
        self._brokers = source.brokers
        self._context = context
        self._client: AIOKafkaClient | None = None
        self._fetcher: Fetcher | None = None
        self._watch: OutageWatch | None = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._error: Exception | None = None
        self._new = asyncio.Event()
        self._commits: dict[TopicPartition, int] = {}
        self._to_commit = asyncio.Event()
        self._committing = asyncio.Lock()
        self._gone_since: float | None = None
        self._may_refresh_at = 0.0
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name=f"{self._brokers}, subtask {context.subtask}")

    def partition(self, name: TopicPartition, position: int) -> Partition:
        """Begins to fetch a partition from `position` on (or EARLIEST)."""
        partition = self._partitions[name] = Partition(name, position, self._notify)
        partition.error = self._error
        self._new.set()
        return partition

    def leave(self, name: TopicPartition) -> None:
        """A partition isn't read any more."""
        if (partition := self._partitions.pop(name, None)) is not None:
            partition.close()
        if self._fetcher is not None:
            self._fetcher.partitions.pop(name, None)

    def commit(self, name: TopicPartition, offset: int) -> None:
        """The group is to stand at `offset`, some time soon."""
        if self._source.group is not None and offset >= 0:
            self._commits[name] = offset
            self._to_commit.set()

    async def close(self) -> None:
        """Commits what is left to commit, if the brokers answer at once, and hangs up."""
        is_out = self._watch is not None and self._watch.is_out
        if self._source.group is not None and self._client is not None and not is_out:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_COMMIT_S):
                    await self._commit(self._client)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # --- in the background -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            self._client = await connect_patiently(self._brokers, self._context.waiting)
            await self._work(self._client)
        except ExceptionGroup as group:
            self._fail(group.exceptions[0])
        except Exception as error:  # noqa: BLE001 - raised by the readers
            self._fail(error)
        finally:
            client, self._client = self._client, None
            if client is not None:
                await client.close()

    async def _work(self, client: AIOKafkaClient) -> None:
        source, context = self._source, self._context
        watch = self._watch = OutageWatch(client, self._brokers, context.waiting, ask=self._refresh)
        self._fetcher = Fetcher(client, source.fetching, context.wake, self._out_of_range, self._stale)
        await persist(self._refresh, _FOREVER_S)
        watch.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fetcher.run())
                tasks.create_task(self._place_new(client, self._fetcher))
                if source.group is not None:
                    tasks.create_task(self._commit_all(client))
                if source.discovers and source.discover_every is not None:
                    tasks.create_task(self._discover(client, source.discover_every))
        finally:
            await watch.close()

    async def _refresh(self) -> None:
        """Asks for the leaders of this subtask's partitions; fails the job when one, or its topic, is gone and stays
        so."""
        assert self._client is not None, "not connected"
        loop = asyncio.get_running_loop()
        topics = {name.topic for name in self._partitions}
        if not topics:
            await refresh(self._client, [])
            return
        lasting = self._lasting(await refresh(self._client, topics))
        if lasting is None:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = loop.time()
        elif loop.time() >= self._gone_since + _GONE_AFTER_S:
            self._fail(lasting)
        self._notify()

    def _lasting(self, errors: Mapping[str, type[kafka.KafkaError]]) -> StreamcoreError | None:
        """What doesn't pass by itself, of the errors of topics and of partitions that their topics don't have."""
        for topic, error in errors.items():
            if not is_outage(error()):
                return explain(error(topic), self._brokers, f"can't read {topic!r} any more")
        assert self._client is not None, "not connected"
        for name in self._partitions:
            there = self._client.cluster.partitions_for_topic(name.topic)
            if there and name.partition not in there:
                return ConnectorError(
                    f"can't read {split_id(name)!r}: {self._brokers}: the topic has no such partition: "
                    "it was deleted and made anew with fewer",
                    hint="a job that is to read the new topic starts without --restore",
                )
        return None

    async def _stale(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._may_refresh_at:
            self._may_refresh_at = loop.time() + RETRY_S
            with contextlib.suppress(kafka.KafkaError, OSError):
                await self._refresh()

    async def _place_new(self, client: AIOKafkaClient, fetcher: Fetcher) -> None:
        """Looks up where new partitions begin that are to be read from their first message."""
        while True:
            await self._new.wait()
            self._new.clear()
            added = [p for name, p in self._partitions.items() if name not in fetcher.partitions]
            fetcher.partitions.update({partition.name: partition for partition in added})
            if any(client.cluster.leader_for_partition(partition.name) is None for partition in added):
                await persist(self._refresh, _FOREVER_S)
            if unplaced := [partition for partition in added if partition.fetch_at == EARLIEST]:
                await self._place(client, unplaced)
            fetcher.notify()

    async def _place(self, client: AIOKafkaClient, partitions: list[Partition]) -> None:
        async def question() -> dict[TopicPartition, int]:
            await refresh(client, {partition.name.topic for partition in self._partitions.values()})
            return await offsets_at(client, {partition.name: EARLIEST for partition in partitions})

        found = await persist(question, _FOREVER_S)
        for partition in partitions:
            partition.place(found[partition.name])
        self._context.wake()  # a bounded partition may have ended

    async def _out_of_range(self, partition: Partition) -> None:
        """A partition's offset isn't there: says what was lost, or goes on at its first message."""
        assert self._client is not None, "not connected"
        client, name = self._client, partition.name

        async def question() -> tuple[int, int]:
            return tuple(  # type: ignore[return-value]
                [(await offsets_at(client, {name: time}))[name] for time in (EARLIEST, LATEST)]
            )

        first, end = await persist(question, _FOREVER_S)
        at = partition.fetch_at
        if first <= at <= end:
            return  # the broker was behind
        what = lost_text(split_id(name), at, first, end, self._source.start)
        if self._source.on_lost == "earliest":
            log.warning("%s: %s; reading goes on at offset %d", self._brokers, what, first)
            partition.fetch_at = first
            if partition.buffered_bytes == 0:
                partition.place(first)
        else:
            partition.error = ConnectorError(
                f"{self._brokers}: {what}",
                hint="on_lost='earliest' goes on with the first message there is; longer retention keeps more",
            )

    async def _discover(self, client: AIOKafkaClient, every_s: float) -> None:
        known = set(self._partitions)
        told: set[str] = set()
        while True:
            await asyncio.sleep(every_s)
            try:
                partitions = await find_partitions(client, self._source.topics)
            except (kafka.KafkaError, OSError) as error:
                said = explain(error, self._brokers, "can't look for new partitions").message
                if not is_outage(error) and said not in told:
                    told.add(said)
                    log.warning("%s", said)
                continue
            if not known.issuperset(partitions):
                known.update(partitions)
                self._context.found([Split(split_id(p), Range(EARLIEST, None).plain()) for p in partitions])

    async def _commit_all(self, client: AIOKafkaClient) -> None:
        while True:
            await self._to_commit.wait()
            self._to_commit.clear()
            await self._commit(client)

    async def _commit(self, client: AIOKafkaClient) -> None:
        assert self._source.group is not None, "nothing to commit to"
        async with self._committing:  # who closes waits for what is on its way
            offsets, self._commits = self._commits, {}
            if not offsets:
                return
            try:
                await commit_offsets(client, self._source.group, offsets)
            except (kafka.KafkaError, OSError) as error:
                self._commits = {**offsets, **self._commits}  # with the next checkpoint's
                if not is_outage(error):
                    what = f"can't commit offsets of group {self._source.group!r}; the job's own are in its snapshots"
                    log.warning("%s", explain(error, self._brokers, what).message)

    def _fail(self, error: Exception) -> None:
        """Lets the readers raise it."""
        is_known = isinstance(error, kafka.KafkaError | OSError)
        self._error = explain(error, self._brokers, self._what) if is_known else error
        for partition in self._partitions.values():
            partition.error = partition.error or self._error
        self._context.wake()

    def _notify(self) -> None:
        if self._fetcher is not None:
            self._fetcher.notify()

    @property
    def _what(self) -> str:
        topics = self._source.topics
        return f"can't read {topics.pattern if isinstance(topics, Pattern) else ', '.join(topics)}"


def lost_text(split: str, at: int, first: int, end: int, start: Start) -> str:
    """What has happened to a partition whose next offset `at` is not between its `first` and its `end`."""
    if at < first:
        return f"{first - at} messages of {split} were deleted before they were read (offsets {at} to {first - 1})"
    if isinstance(start, Mapping) and start.get(split) == at:
        return f"{split} ends at offset {end}, before the {at} of start="
    return (
        f"{split} ends at offset {end}, but has been read up to {at} before: "
        "it was deleted and made anew, or has lost its last messages"
    )
