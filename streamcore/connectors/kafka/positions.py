"""Where a job begins to read each partition, and where it ends: said by the user, made offsets when the job starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from streamcore.connectors.base import Split
from streamcore.connectors.kafka.cluster import EARLIEST, LATEST, group_offsets, offsets_at
from streamcore.errors import ConnectorError, UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class Timestamp:
    """The first message at or after a time, in ms since the epoch."""

    ms: int


Offsets = Mapping[str, int]
"""An offset for each partition by its id, `topic-3`."""

Start = Literal["group", "earliest", "latest"] | Timestamp | Offsets
Stop = Literal["now"] | Timestamp | Offsets | None


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """From where to where one partition is read: `start` is an offset or EARLIEST; `stop` is the offset before which
    it ends, or None."""

    start: int
    stop: int | None

    def plain(self) -> tuple[int, int | None]:
        """As it is saved."""
        return (self.start, self.stop)


def split_id(partition: TopicPartition) -> str:
    """`topic-3`."""
    return f"{partition.topic}-{partition.partition}"


def partition_of(split: str) -> TopicPartition | None:
    """The partition with that id; None if it is none."""
    topic, dash, number = split.rpartition("-")
    if not dash or not topic or not number.isdecimal():
        return None
    return TopicPartition(topic, int(number))


def check_start(start: Any, group: str | None) -> Start:
    """`start` if it can be one.

    Raises:
        UsageError: it can't.
    """
    if isinstance(start, Timestamp) or start in ("earliest", "latest"):
        return start  # type: ignore[no-any-return]
    if start == "group":
        if group is None:
            raise UsageError("start='group' needs group=", hint="start='earliest' reads everything")
        return "group"
    if isinstance(start, Mapping):
        return _check_offsets("start", start)
    raise UsageError(
        f"start={start!r} is unknown",
        hint="use 'earliest', 'latest', 'group', Timestamp(ms) or offsets {'topic-0': 17, ...}",
    )


def check_stop(stop: Any) -> Stop:
    """`stop` if it can be one.

    Raises:
        UsageError: it can't.
    """
    if stop is None or isinstance(stop, Timestamp) or (isinstance(stop, str) and stop == "now"):
        return stop  # type: ignore[return-value]
    if isinstance(stop, Mapping):
        return _check_offsets("stop", stop)
    raise UsageError(f"stop={stop!r} is unknown", hint="use None, 'now', Timestamp(ms) or offsets {'topic-0': 17, ...}")


async def ranges(
    client: AIOKafkaClient,
    partitions: Sequence[TopicPartition],
    start: Start,
    stop: Stop,
    group: str | None,
    isolation: str,
) -> list[Split]:
    """The splits of a job that starts now. Partitions that the start says nothing of begin at their first message,
    those that the stop says nothing of end where they are now.

    Raises:
        ConnectorError: an offset is given for a partition that isn't there.
        KafkaError: a question to the brokers failed.
    """
    starts = await _starts(client, partitions, start, group, isolation)
    stops = await _stops(client, partitions, stop, isolation)
    return [Split(split_id(p), Range(starts[p], stops[p]).plain()) for p in partitions]


async def _starts(
    client: AIOKafkaClient, partitions: Sequence[TopicPartition], start: Start, group: str | None, isolation: str
) -> dict[TopicPartition, int]:
    found = dict.fromkeys(partitions, EARLIEST)
    match start:
        case "latest":
            return await offsets_at(client, dict.fromkeys(partitions, LATEST), isolation)
        case "group":
            assert group is not None, "start='group' without a group"
            return {**found, **await group_offsets(client, group, partitions)}
        case Timestamp():
            return await _at_time(client, partitions, start, isolation)
        case Mapping():
            return {**found, **_given(partitions, start, "start")}
    return found


async def _stops(
    client: AIOKafkaClient, partitions: Sequence[TopicPartition], stop: Stop, isolation: str
) -> Mapping[TopicPartition, int | None]:
    if stop is None:
        return dict.fromkeys(partitions)
    if isinstance(stop, Timestamp):
        return await _at_time(client, partitions, stop, isolation)
    ends = await offsets_at(client, dict.fromkeys(partitions, LATEST), isolation)
    return ends if stop == "now" else {**ends, **_given(partitions, stop, "stop")}


async def _at_time(
    client: AIOKafkaClient, partitions: Sequence[TopicPartition], time: Timestamp, isolation: str
) -> dict[TopicPartition, int]:
    found = await offsets_at(client, dict.fromkeys(partitions, time.ms), isolation)
    later = [partition for partition, offset in found.items() if offset < 0]  # all their messages are older
    return {**found, **await offsets_at(client, dict.fromkeys(later, LATEST), isolation)}


def _given(partitions: Sequence[TopicPartition], offsets: Any, what: str) -> dict[TopicPartition, int]:
    given = {partition_of(name): offset for name, offset in offsets.items()}
    if lost := sorted(name for name in offsets if partition_of(name) not in partitions):
        known = ", ".join(map(split_id, partitions[:3]))
        raise ConnectorError(
            f"{what}= has an offset for {lost[0]!r}, which is no partition of this source",
            hint=f"there are: {known}, …",
        )
    return {partition: given[partition] for partition in partitions if partition in given}


def _check_offsets(what: str, offsets: Mapping[Any, Any]) -> Offsets:
    for name, offset in offsets.items():
        if not isinstance(name, str) or partition_of(name) is None:
            raise UsageError(f"{what}= has {name!r}, which is no id of a partition", hint="ids are like 'ratings-3'")
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise UsageError(f"{what}= has {offset!r} for {name!r}, which is no offset")
    return dict(offsets)
