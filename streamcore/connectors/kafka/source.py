"""Kafka topics as a source."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, cast, get_args

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from streamcore.connectors.base import ReaderContext, Source, SourceClient, Split, SplitReader
from streamcore.connectors.kafka.client import KafkaClient
from streamcore.connectors.kafka.cluster import EARLIEST, ISOLATION, find_partitions, persist
from streamcore.connectors.kafka.connection import Brokers, Security, connect, explain
from streamcore.connectors.kafka.fetcher import FetchSettings
from streamcore.connectors.kafka.formats import Format, Raw
from streamcore.connectors.kafka.positions import (
    Range,
    Start,
    Stop,
    Timestamp,
    check_start,
    check_stop,
    partition_of,
    ranges,
)
from streamcore.connectors.kafka.reader import KafkaReader
from streamcore.connectors.kafka.url import KafkaUrl, parse_url
from streamcore.connectors.options import check_choice
from streamcore.connectors.paths import OnError, check_on_error
from streamcore.connectors.run_now import run_now
from streamcore.errors import ConnectorError, UsageError

T = TypeVar("T")

OnLost = Literal["fail", "earliest"]

_ANSWER_S = 10.0
_MOST = 2**31 - 1
FETCH_OPTIONS = (
    "fetch_max_wait_ms",
    "fetch_min_bytes",
    "fetch_max_bytes",
    "max_partition_fetch_bytes",
    "check_crcs",
)
CONNECTION_OPTIONS = (
    "client_id",
    "request_timeout_ms",
    "retry_backoff_ms",
    "connections_max_idle_ms",
    "metadata_max_age_ms",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "sasl_oauth_token_provider",
)
_URL_OPTIONS = ("start", "stop", "group", "isolation", "on_error", "on_lost", "discover_every")


class KafkaSource(Source[T]):
    """The messages of Kafka topics. Each partition is a split, read in order by one subtask.

    Exactly once: the next offset of each partition is part of the snapshot. Offsets committed for `group` only follow,
    for those who watch its lag, and for a later job that starts there; the job is no member of the group, and
    partitions aren't dealt out by the brokers.

    While no broker answers, the job waits and goes on by itself. When a job starts they have to be there.

    Args:
        servers: `host:port`, or several separated by commas.
        topics: a topic, several, or a compiled pattern that a topic's whole name has to match.
        format: what is made of a message: `Raw()` (its value), `Messages()`, `Json(type)`, `Avro(...)`,
            `Protobuf(...)`.
        start: where a job that isn't restored begins: `"earliest"`, `"latest"`, `Timestamp(ms)`, `"group"` (where the
            group stands; partitions it has never read: earliest), or offsets `{"topic-0": 17}` (others: earliest).
        stop: where it ends: never (None), `"now"` (at the end that the partitions have when the job starts),
            `Timestamp(ms)`, or before offsets `{"topic-0": 17}` (others: now). A restored job keeps what "now" was;
            times are looked up anew, and offsets may be moved: a partition that had ended then goes on.
        group: the consumer group whose offsets follow.
        isolation: `"read_committed"`, or `"read_uncommitted"` to see messages of open and aborted transactions.
        discover_every: seconds after which new partitions and topics are looked for, and read from their first
            message; None: never. A source with a `stop` doesn't.
        on_error: what becomes of a message that can't be read: `fail`, `skip` (counted) or `side_output`
            (`BadMessage`).
        on_lost: when messages that were still to be read have been deleted (or a topic was made anew): `"fail"`, or
            go on at the first message there is (`"earliest"`), with a warning.
        security: encryption and login.
        max_poll: messages of a partition that are read before it is another's turn; so far a partition may run ahead.
        options: more options of aiokafka's client and consumer, by their names there.

    Raises:
        UsageError: an option is wrong.
    """

    def __init__(
        self,
        servers: str,
        topics: str | Sequence[str] | re.Pattern[str],
        format: Format[T] | None = None,  # noqa: A002 - the usual name
        *,
        start: Start = "earliest",
        stop: Stop = None,
        group: str | None = None,
        isolation: str = "read_committed",
        discover_every: float | None = 30.0,
        on_error: str = "fail",
        on_lost: str = "fail",
        security: Security = Security(),  # noqa: B008 - plain data
        max_poll: int = 2000,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        given = dict(options or {})
        if unknown := given.keys() - {*FETCH_OPTIONS, *CONNECTION_OPTIONS}:
            known = ", ".join((*FETCH_OPTIONS, *CONNECTION_OPTIONS))
            raise UsageError(f"options= has {min(unknown)!r}, which is unknown", hint=f"known: {known}")
        for name, value in given.items():
            _check_number(name, value)
        check_choice("isolation", isolation, tuple(ISOLATION))
        check_choice("on_lost", on_lost, get_args(OnLost))
        if discover_every is not None and discover_every <= 0:
            raise UsageError(f"discover_every={discover_every} can't be", hint="seconds, or None for never")
        if max_poll < 1:
            raise UsageError(f"max_poll={max_poll} can't be: it is a number of messages")
        self.brokers = Brokers(servers, security, {name: given[name] for name in CONNECTION_OPTIONS if name in given})
        self.topics = _topics(topics)
        self.format: Format[T] = format if format is not None else cast("Format[T]", Raw())
        self.schema = self.format.schema
        self.start = check_start(start, group)
        self.stop = check_stop(stop)
        self.group = group
        self.isolation = isolation
        self.discover_every = discover_every
        self.on_error: OnError = check_on_error(on_error)
        self.on_lost: OnLost = "fail" if on_lost == "fail" else "earliest"
        self.max_poll = max_poll
        self.fetching = FetchSettings(
            isolation, self.format.wants, **{name: given[name] for name in FETCH_OPTIONS if name in given}
        )
        self.bounded = self.stop is not None
        self.discovers = self.stop is None and discover_every is not None
        self.offset_of_new = Range(EARLIEST, None).plain()

    @classmethod
    def from_url(cls, url: str | KafkaUrl, format: Format[T] | None = None) -> KafkaSource[T]:  # noqa: A002
        """The source that an address like `kafka://host:port/topic?start=latest&group=g` stands for. Its options:
        start (earliest, latest, group, or a time in ms), stop (now, or a time in ms), group, isolation, on_error,
        on_lost, discover_every.

        Raises:
            UsageError: the address, or an option, is wrong.
        """
        address = parse_url(url) if isinstance(url, str) else url
        address.check_options(*_URL_OPTIONS)
        options: dict[str, Any] = dict(address.options)
        for name in ("start", "stop"):
            if options.get(name, "").isdecimal():
                options[name] = Timestamp(int(options[name]))
        if "discover_every" in options:
            try:
                options["discover_every"] = float(options["discover_every"])
            except ValueError:
                raise UsageError("discover_every of a Kafka address is no number of seconds") from None
        brokers = address.brokers
        return cls(brokers.servers, address.topics, format, security=brokers.security, **options)

    def splits(self) -> Sequence[Split]:
        """The partitions there are, each with where it is read from and to.

        Raises:
            ConnectorError: no broker answers, a topic isn't there or may not be read, the login is refused, an offset
                is given for a partition that isn't there.
        """
        return run_now(self._splits())

    def client(self, context: ReaderContext) -> SourceClient:
        """The connection that the readers of one subtask share."""
        return KafkaClient(self, context)

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one partition; its offset is `(next offset, stop or None)`."""
        name = partition_of(split.id)
        assert name is not None, f"{split.id!r} is no partition"
        assert isinstance(context.client, KafkaClient), "the readers' client is missing"
        start, stop = split.info if offset is None else (offset[0], self._stop_of(split, offset))
        return KafkaReader(self, name, Range(start, stop), context.client, context)

    def resumes(self, split: Split, offset: Any) -> bool:
        """A partition that had ended goes on when the user has moved its stop."""
        stop = self._stop_of(split, offset)
        return stop is None or stop > offset[0]

    def _stop_of(self, split: Split, offset: Any) -> int | None:
        """Where a restored partition ends: where the user says, but what "now" was stays that of the first start."""
        saved, stop = offset[1], split.info[1]
        is_now = self.stop == "now" or (isinstance(self.stop, Mapping) and split.id not in self.stop)
        is_gone = self.bounded and stop is None
        return cast("int | None", saved if saved is not None and (is_now or is_gone) else stop)

    def subtask_of(self, split: Split, parallelism: int) -> int | None:
        """Partitions of a topic are dealt out in turn, beginning at a subtask that its name says."""
        name = partition_of(split.id)
        assert name is not None, f"{split.id!r} is no partition"
        first: int = zlib.crc32(name.topic.encode())
        return (first + int(name.partition)) % parallelism

    def split(self, split_id: str) -> Split | None:
        """A partition that was found while the job ran."""
        name = partition_of(split_id)
        return Split(split_id, self.offset_of_new) if name is not None and self._has(name.topic) else None

    def hint_for_lost(self, split_id: str, splits: Sequence[Split]) -> str | None:
        """A topic that isn't read any more."""
        name = partition_of(split_id)
        if name is None or not self._has(name.topic):
            return "the source doesn't read this topic now: give it the same topics as when the snapshot was taken"
        return None

    def _has(self, topic: str) -> bool:
        topics = self.topics
        return bool(topics.fullmatch(topic)) if isinstance(topics, re.Pattern) else topic in topics

    async def _splits(self) -> list[Split]:
        what = "can't read " + (self.topics.pattern if isinstance(self.topics, re.Pattern) else ", ".join(self.topics))
        client = await connect(self.brokers, what)
        try:
            return cast("list[Split]", await persist(lambda: self._ask(client), _ANSWER_S))
        except (KafkaError, OSError) as error:
            raise explain(error, self.brokers, what) from error
        finally:
            await client.close()

    async def _ask(self, client: AIOKafkaClient) -> list[Split]:
        partitions = await find_partitions(client, self.topics)
        if not partitions and not self.discovers:
            raise ConnectorError(f"{self.brokers}: no topic matches", hint="create one, or let the source look for it")
        return await ranges(client, partitions, self.start, self.stop, self.group, self.isolation)


def _check_number(name: str, value: Any) -> None:
    """aiokafka doesn't look at them before it needs them."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    is_never = value is None and name == "connections_max_idle_ms"
    if name.endswith(("_ms", "_bytes")) and not (is_number or is_never):
        raise UsageError(f"options= has {value!r} for {name!r}, which is a whole number")


def _topics(topics: str | Sequence[str] | re.Pattern[str]) -> tuple[str, ...] | re.Pattern[str]:
    if isinstance(topics, re.Pattern):
        return topics
    names = (topics,) if isinstance(topics, str) else tuple(dict.fromkeys(topics))
    if not names or not all(names):
        raise UsageError("no topic to read", hint="give its name, several, or re.compile('name.*')")
    return names
