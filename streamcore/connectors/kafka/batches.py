"""Records put into batches, one open batch a partition."""

from __future__ import annotations

import dataclasses
import operator
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from streamcore.connectors.kafka.outbox import Outgoing
from streamcore.connectors.kafka.partitioner import partitions_of
from streamcore.errors import UsageError

Partitioner = Callable[[Sequence[bytes | None], int, int], Sequence[int]]
"""(keys, number of partitions, the partition for records without key) → the partition of each."""


@dataclasses.dataclass(slots=True)
class Records:
    """Records as Kafka has them, column by column; a column is None if no record has that part."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None] | None = None
    times_ms: Sequence[int] | None = None
    headers: Sequence[list[tuple[str, bytes | None]]] | None = None


class TopicBatches:
    """The open batches of one topic. Records without key go to one partition until its batch is full, then to the next.

    Args:
        create_batch: makes an empty batch.
        put: takes a full one.
        start: the first partition for records without key.
    """

    def __init__(
        self,
        topic: str,
        create_batch: Callable[[], Any],
        put: Callable[[Outgoing], None],
        partitioner: Partitioner = partitions_of,
        start: int = 0,
    ) -> None:
        self._topic = topic
        self._create_batch = create_batch
        self._put = put
        self._partitioner = partitioner
        self._sticky = start
        self._open: dict[int, Any] = {}
        self._appends: dict[int, Callable[..., Any]] = {}

    def add(self, records: Records, partitions: int) -> None:
        """Adds the records, in the order they are in; the topic has so many `partitions`.

        Raises:
            UsageError: the partitioner gives something else than a partition for each record.
            TypeError: a key or value isn't bytes, a time no int.
        """
        keys: Any = records.keys
        sticky = self._sticky = self._sticky % partitions
        targets: Any = repeat(sticky) if keys is None else self._partitioner(keys, partitions, sticky)
        if keys is not None and len(targets) != len(keys):
            raise UsageError(f"the partitioner= gave {len(targets)} partitions for {len(keys)} keys")
        headers: Any = records.headers
        columns = zip(
            targets,
            repeat(None) if keys is None else keys,
            records.values,
            repeat(int(time.time() * 1000)) if records.times_ms is None else records.times_ms,
            repeat([]) if headers is None else headers,
            strict=False,
        )
        appends = self._appends
        for partition, key, value, time_ms, header in columns:
            try:
                added = appends[partition](timestamp=time_ms, key=key, value=value, headers=header)
            except KeyError:
                added = None
            if added is None:
                append = self._next_batch(_checked(partition, partitions))
                append(timestamp=time_ms, key=key, value=value, headers=header)

    def flush(self) -> None:
        """Hands over the batches that aren't full."""
        for partition in list(self._open):
            self._hand_over(partition)

    def _next_batch(self, partition: int) -> Callable[..., Any]:
        self._hand_over(partition)
        batch = self._open[partition] = self._create_batch()
        append: Callable[..., Any] = batch.append
        self._appends[partition] = append
        return append

    def _hand_over(self, partition: int) -> None:
        batch = self._open.pop(partition, None)
        if batch is None:
            return
        del self._appends[partition]
        batch.close()
        if partition == self._sticky:
            self._sticky += 1
        self._put(Outgoing(self._topic, partition, batch, batch.record_count(), batch.size()))


def _checked(partition: Any, count: int) -> int:
    try:
        number = operator.index(partition)
    except TypeError:
        number = -1
    if not 0 <= number < count:
        raise UsageError(
            f"the partitioner= gave {partition!r} as a partition of {count}", hint=f"a number from 0 to {count - 1}"
        )
    return number
