"""Fetches the partitions of one subtask, each a little ahead of its reader and no further.

A partition is asked for as long as little of it lies here; one that isn't read (held back by alignment, or by
backpressure) isn't fetched. One request a broker is under way at a time. A request waits at the broker for records,
except when it leaves out partitions that have enough for now: they will soon want more, so it has to be back by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streamcore.connectors.kafka.chunks import Chunk, Fetched, end_of
from streamcore.connectors.kafka.cluster import ISOLATION, RETRY_S, ask
from streamcore.connectors.kafka.connection import is_outage
from streamcore.connectors.kafka.positions import split_id

log = logging.getLogger(__name__)

_SHORT_WAIT_MS = 20
_ALL_BUFFERED_BYTES = 64 << 20

_FATAL = (
    kafka.TopicAuthorizationFailedError,
    kafka.InvalidTopicError,
    kafka.UnsupportedVersionError,
    kafka.CorruptRecordException,
    kafka.UnsupportedCodecError,
)


@dataclasses.dataclass(frozen=True, slots=True)
class FetchSettings:
    """How to fetch; the names and defaults are those of the options of aiokafka's consumer."""

    isolation: str = "read_committed"
    wants: frozenset[str] = frozenset()
    fetch_max_wait_ms: int = 500
    fetch_min_bytes: int = 1
    fetch_max_bytes: int = 50 << 20
    max_partition_fetch_bytes: int = 1 << 20
    check_crcs: bool = True


class Partition:
    """One partition: what of it is here, and where its fetches go on. Taken from by its reader."""

    def __init__(self, partition: TopicPartition, position: int, hungry: Callable[[], None]) -> None:
        self.name = partition
        self.position = position
        """The next offset to hand out; negative: EARLIEST, not looked up yet."""
        self.fetch_at = position
        self.retry_at = 0.0
        self.error: Exception | None = None
        """Raised by the reader when what is here has been read."""
        self.is_closed = False
        self.buffered_bytes = 0
        self._fetched: deque[Fetched] = deque()
        self._hungry = hungry

    def place(self, position: int) -> None:
        """Goes on from another offset; what is here is thrown away."""
        self.position = self.fetch_at = position
        self._fetched.clear()
        self.buffered_bytes = 0

    def add(self, fetched: Fetched, fetch_at: int) -> None:
        """Takes in what a fetch has brought."""
        self._fetched.append(fetched)
        self.buffered_bytes += fetched.size_bytes
        self.fetch_at = fetch_at

    def take(self, limit: int, stop: int | None) -> Chunk | None:
        """The next messages, at most `limit` and before the offset `stop`; None when none are here.

        Raises:
            StreamcoreError: what has stopped the partition, after its last message.
            KafkaError: the messages can't be unpacked.
        """
        while self._fetched:
            fetched = self._fetched[0]
            chunk = fetched.take(limit, stop)
            self.position = fetched.position
            if fetched.is_done:
                self._fetched.popleft()
                self.buffered_bytes -= fetched.size_bytes
                self._hungry()
            if chunk is not None:
                return chunk
            if stop is not None and self.position >= stop:
                return None
        if self.error is not None:
            raise self.error
        return None

    def close(self) -> None:
        """Nothing more is wanted."""
        self.is_closed = True
        self._fetched.clear()
        self.buffered_bytes = 0


class Fetcher:
    """The fetches of one subtask.

    Args:
        client: connected.
        settings: how to fetch.
        wake: called when messages, or an error, have come.
        out_of_range: called with a partition whose offset isn't there (any more); until it is done, and has placed the
            partition or set its error, the partition rests.
        stale: asks for fresh leaders, at most every now and then.
    """

    def __init__(
        self,
        client: AIOKafkaClient,
        settings: FetchSettings,
        wake: Callable[[], None],
        out_of_range: Callable[[Partition], Awaitable[None]],
        stale: Callable[[], Awaitable[None]],
    ) -> None:
        self.partitions: dict[TopicPartition, Partition] = {}
        self._client = client
        self._settings = settings
        self._wake = wake
        self._out_of_range = out_of_range
        self._stale = stale
        self._hungry = asyncio.Event()
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._turn = itertools.count()
        self._resting: set[TopicPartition] = set()
        self._told: set[tuple[str, str]] = set()

    def notify(self) -> None:
        """Something has changed: a partition is new, or has room."""
        self._hungry.set()

    async def run(self) -> None:
        """Fetches until it is cancelled."""
        loop = asyncio.get_running_loop()
        hungry: asyncio.Task[Any] | None = None
        try:
            while True:
                self._hungry.clear()
                retry_at = self._send_due(loop.time())
                hungry = loop.create_task(self._hungry.wait())
                timeout_s = None if retry_at is None else max(0.0, retry_at - loop.time())
                waits = {hungry, *self._requests.values()}
                done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                hungry.cancel()
                for node, task in list(self._requests.items()):
                    if task in done:
                        del self._requests[node]
                        task.result()
        finally:
            left = [*self._requests.values(), *([] if hungry is None else [hungry])]
            for task in left:
                task.cancel()
            for task in left:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _send_due(self, now: float) -> float | None:
        """Begins a request to each broker that has none under way and leads a partition that wants more; the time at
        which the next partition may be tried again."""
        wanted: dict[int, list[Partition]] = defaultdict(list)
        left_out: set[int] = set()
        retries: list[float] = []
        total = sum(partition.buffered_bytes for partition in self.partitions.values())
        for name, partition in self.partitions.items():
            if partition.is_closed or partition.error is not None or partition.fetch_at < 0 or name in self._resting:
                continue
            leader = self._client.cluster.leader_for_partition(name)
            if leader is None or leader == -1:
                self._retry(partition, now)
            if partition.retry_at > now:
                retries.append(partition.retry_at)
            elif leader in self._requests:
                continue
            elif self._has_enough(partition, total):
                left_out.add(leader)
            else:
                wanted[leader].append(partition)
        for leader, partitions in wanted.items():
            request = self._fetch(leader, partitions, may_wait=leader not in left_out)
            self._requests[leader] = asyncio.get_running_loop().create_task(request)
        return min(retries, default=None)

    def _has_enough(self, partition: Partition, total: int) -> bool:
        """Whether a fetch lies here beside the one that is being read."""
        limit = self._settings.max_partition_fetch_bytes if total < _ALL_BUFFERED_BYTES else 0
        return partition.buffered_bytes > limit

    def _retry(self, partition: Partition, now: float) -> None:
        if partition.retry_at <= now:
            partition.retry_at = now + RETRY_S

    async def _fetch(self, leader: int, partitions: list[Partition], *, may_wait: bool) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        first = next(self._turn) % len(partitions)  # the first in a request gets its records even if they are many
        positions = {partition.name: partition.fetch_at for partition in partitions}
        topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for partition in partitions[first:] + partitions[:first]:
            entry = (partition.name.partition, partition.fetch_at, settings.max_partition_fetch_bytes)
            topics[partition.name.topic].append(entry)
        request = FetchRequest(
            settings.fetch_max_wait_ms if may_wait else min(_SHORT_WAIT_MS, settings.fetch_max_wait_ms),
            settings.fetch_min_bytes,
            settings.fetch_max_bytes,
            ISOLATION[settings.isolation],
            list(topics.items()),
        )
        try:
            response = await ask(self._client, leader, request, ConnectionGroup.DEFAULT)
        except (kafka.KafkaError, OSError) as error:
            if not is_outage(error):
                self._tell(f"can't fetch from broker {leader}, which is asked again and again", repr(error))
            log.debug("fetch from node %s failed: %r", leader, error)
            for partition in partitions:
                self._retry(partition, loop.time())
            await self._stale()
            return
        found = stale = False
        for topic, parts in response.topics:
            for number, code, _, *rest in parts:
                name = TopicPartition(topic, number)
                owner = self.partitions.get(name)
                if owner is None or owner.is_closed or owner.fetch_at != positions[name]:
                    continue
                if code:
                    failed = await self._failed(owner, code)
                    found, stale = found or failed, stale or not failed
                elif rest[-1]:
                    found |= self._add(owner, rest)
        if found:
            self._wake()
        if stale:
            await self._stale()

    def _add(self, partition: Partition, rest: list[Any]) -> bool:
        """Takes in the data of one partition; false when no whole batch is in them."""
        settings, data, at = self._settings, rest[-1], partition.fetch_at
        end = end_of(data, at)
        if end == at:
            return False
        aborted = rest[2] if len(rest) > 2 and settings.isolation == "read_committed" else None
        name = partition.name
        fetched = Fetched(
            name.topic, name.partition, at, data, aborted or (), settings.wants, check_crcs=settings.check_crcs
        )
        partition.add(fetched, end)
        return True

    def _tell(self, what: str, why: str) -> None:
        """Warns, once, of what may pass but is no outage, which is told of elsewhere."""
        if (what, why) not in self._told:
            self._told.add((what, why))
            log.warning("%s: %s", what, why)

    async def _failed(self, partition: Partition, code: int) -> bool:
        """Sees to a partition that could not be fetched; false when that may pass by itself."""
        error: type[kafka.KafkaError] = kafka.for_code(code)
        if error is kafka.OffsetOutOfRangeError:
            self._resting.add(partition.name)
            try:
                await self._out_of_range(partition)
            finally:
                self._resting.discard(partition.name)
                self._retry(partition, asyncio.get_running_loop().time())
            return True
        if issubclass(error, _FATAL):
            partition.error = error(partition.name.topic)
            return True
        if not is_outage(error()) and error is not kafka.UnknownTopicOrPartitionError:  # that is seen to if it lasts
            what = f"can't fetch {split_id(partition.name)}, which is tried again and again"
            self._tell(what, f"{error.__name__} (code {code})")
        self._retry(partition, asyncio.get_running_loop().time())
        return False
