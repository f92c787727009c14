"""Kafka as a sink."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Literal, get_args

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient

from streamcore.connectors.base import AsyncSinkWriter, JobStart, Sink, SinkContext
from streamcore.connectors.kafka.batches import Partitioner
from streamcore.connectors.kafka.cluster import persist, refresh
from streamcore.connectors.kafka.connection import START_TIMEOUT_S, Brokers, Security, connect, explain
from streamcore.connectors.kafka.encode import Encoder, Selector
from streamcore.connectors.kafka.formats import Messages
from streamcore.connectors.kafka.partitioner import partitions_of
from streamcore.connectors.kafka.plain_writer import PlainWriter
from streamcore.connectors.kafka.session import Session, Transactional
from streamcore.connectors.kafka.settings import WriterSettings
from streamcore.connectors.kafka.source import CONNECTION_OPTIONS
from streamcore.connectors.kafka.topics import ensure_topic
from streamcore.connectors.kafka.transactional_writer import TransactionalWriter
from streamcore.connectors.kafka.url import KafkaUrl, parse_url
from streamcore.connectors.kafka.values import values_for
from streamcore.connectors.run_now import run_now
from streamcore.errors import ConnectorError, UsageError

Delivery = Literal["exactly-once", "at-least-once", "none"]

_COMPRESSIONS = (None, "gzip", "snappy", "lz4", "zstd")
_CHECK_S = 30.0
"""Seconds in which the brokers have to answer before a job starts."""
_LONGEST_TIMEOUT_S = (2**31 - 1) / 1000
_URL_OPTIONS = ("delivery", "prefix", "transaction_timeout", "compression", "on_lost", "partitions")
_MAX_TIMEOUT_CONFIG = "transaction.max.timeout.ms"


class KafkaSink(Sink[Any]):
    """Writes records to topics.

    Args:
        servers: `host:port`, or several separated by commas.
        topic: where to; or a function that says it for each record. Topics have to be there, unless `partitions` is
            given.
        partitions: how many the topic gets if there is none yet; None: it isn't made.
        key: the field, its number in a tuple, or a function of the record; bytes, text, a whole number (its text is
            written) or None. Records with the same key go to the same partition, the one where the Java client would
            put them; those without one go to one partition after the other, a batch at a time.
        value: `Json()` (the default), `Raw()` for records that are bytes or text themselves, `Avro(schema)`,
            `Protobuf(class)`, `Messages()` for `KafkaMessage`s, whose key, time and headers are written too; or a
            function of the record that gives bytes, text, or None for a tombstone.
        timestamp: the field (or number, or function) with the record's time in milliseconds; None: the time of writing.
        headers: a function of the record that gives pairs of name and bytes, or a mapping.
        delivery: `exactly-once`: one transaction per checkpoint and subtask, which is committed when the checkpoint is
            complete; readers need `isolation.level=read_committed`. `at-least-once`: a checkpoint waits until all
            before it is acknowledged. `none`: nobody waits, what can't be written is left out and logged.
        prefix: of the transactional ids, for exactly once; None: made of the job's name and the topic. Whoever starts
            with a prefix fences whoever has written with it before.
        transaction_timeout: seconds after which the brokers abort an open transaction. It has to be longer than the
            checkpoints' interval, timeout and the longest outage together, with an interval and a timeout more for
            each checkpoint that may fail before one is complete, and the brokers have to allow it
            (`transaction.max.timeout.ms`).
        partitioner: (keys, number of partitions, partition for records without key) → the partition of each.
        compression: `gzip`, `snappy`, `lz4`, `zstd` or None.
        on_lost: what to do when a prepared transaction can't be committed any more: `fail`, or `warn` and go on.
        batch_bytes: size at which a batch is sent.
        linger: seconds that records wait for others in a batch while nothing else is on its way.
        buffer_bytes: how much may be on its way before the stream has to wait, for each subtask.
        security: encryption and login.
        options: more options of aiokafka's producer, passed through; those of connections (`client_id`,
            `request_timeout_ms`, `sasl_oauth_token_provider`, ...) are for all connections of the sink.

    Raises:
        UsageError: an option is wrong.
    """

    accepts = "any"
    asynchronous = True

    def __init__(
        self,
        servers: str,
        topic: str | Callable[[Any], str],
        *,
        partitions: int | None = None,
        key: Selector | None = None,
        value: Any = None,
        timestamp: Selector | None = None,
        headers: Callable[[Any], Any] | None = None,
        delivery: Delivery = "exactly-once",
        prefix: str | None = None,
        transaction_timeout: float = 900.0,
        partitioner: Partitioner = partitions_of,
        compression: str | None = None,
        on_lost: Literal["fail", "warn"] = "fail",
        batch_bytes: int = 131_072,
        linger: float = 0.02,
        buffer_bytes: int = 16 << 20,
        security: Security | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        _one_of("delivery", delivery, get_args(Delivery))
        _one_of("compression", compression, _COMPRESSIONS)
        _one_of("on_lost", on_lost, ("fail", "warn"))
        for name, number in (
            ("transaction_timeout", transaction_timeout),
            ("batch_bytes", batch_bytes),
            ("buffer_bytes", buffer_bytes),
        ):
            if not 0 < number < math.inf:
                raise UsageError(f"{name} has to be more than 0 and finite, not {number}")
        if transaction_timeout > _LONGEST_TIMEOUT_S:
            raise UsageError(f"transaction_timeout={transaction_timeout:g} s is more than Kafka has room for")
        if partitions is not None and (partitions < 1 or not isinstance(topic, str)):
            raise UsageError(f"partitions={partitions} can't be: one or more, of one topic that has a name")
        if not 0 <= linger < math.inf:
            raise UsageError(f"linger has to be 0 or more and finite, not {linger}")
        given = dict(options or {})
        connection = {name: given.pop(name) for name in CONNECTION_OPTIONS if name in given}
        self.brokers = Brokers(servers, security or Security(), connection)
        self.topic = topic if isinstance(topic, str) else None
        self.partitions = partitions
        self.delivery = delivery
        self.prefix = prefix
        self.transaction_timeout = transaction_timeout
        if isinstance(value, Messages):
            key = "key" if key is None else key
            timestamp = "time_ms" if timestamp is None else timestamp
            headers = attrgetter("headers") if headers is None else headers
        self._encoder = Encoder(topic, values_for(value), key, timestamp, headers)
        self._partitioner = partitioner
        self._is_lenient = on_lost == "warn"
        self._linger = linger
        self._buffer_bytes = buffer_bytes
        self._producer = {
            "acks": 1 if delivery == "none" else "all",
            "enable_idempotence": delivery != "none",
            "compression_type": compression,
            "max_batch_size": batch_bytes,
            **given,
        }

    @classmethod
    def from_url(cls, url: str | KafkaUrl, **options: Any) -> KafkaSink:
        """The sink that an address like `kafka://host:port/topic?delivery=at-least-once` stands for. Its options:
        delivery, prefix, transaction_timeout (seconds), compression, on_lost, partitions.

        Args:
            options: what else the sink is to be given: key, value and so on.

        Raises:
            UsageError: the address, or an option, is wrong.
        """
        address = parse_url(url) if isinstance(url, str) else url
        address.check_options(*_URL_OPTIONS)
        said: dict[str, Any] = dict(address.options)
        for name, kind, what in (("transaction_timeout", float, "number of seconds"), ("partitions", int, "number")):
            try:
                said.update({name: kind(said[name])} if name in said else {})
            except ValueError:
                raise UsageError(f"{name} of a Kafka address is no {what}") from None
        brokers = address.brokers
        return cls(brokers.servers, address.topic, security=brokers.security, **{**options, **said})

    def writer(self, context: SinkContext) -> AsyncSinkWriter:
        """The writer of one subtask."""
        settings = WriterSettings(
            self.brokers,
            self._encoder,
            self.topic,
            self._partitioner,
            self._linger,
            self._buffer_bytes,
            self._producer,
            self._prefix_in(context.job),
            int(self.transaction_timeout * 1000),
            self._is_lenient,
        )
        if self.delivery == "exactly-once":
            return TransactionalWriter(settings, context)
        return PlainWriter(settings, context, is_safe=self.delivery == "at-least-once")

    def prepare_job(self, start: JobStart) -> None:
        """Makes the topic, if it is to, and looks whether the brokers, the topic and the rights are there, and whether
        the transactions fit.

        Raises:
            ConnectorError: the brokers can't be reached, there is no such topic, or no right to write to it.
            UsageError: exactly once without checkpoints, or a transaction timeout that is too short or too long.
        """
        if self.delivery == "exactly-once":
            self._check_times(start)
        try:
            if self.partitions is not None and self.topic is not None:
                run_now(ensure_topic(self.brokers, self.topic, self.partitions))
            run_now(self._check(start))
        except (TypeError, ValueError, RuntimeError) as error:  # of aiokafka's constructors, and what doesn't fit
            raise UsageError(f"the producer doesn't take its options: {error}") from error

    def _check_times(self, start: JobStart) -> None:
        if start.checkpoint_interval_s is None:
            raise UsageError(
                "a Kafka sink with delivery='exactly-once' in a job without checkpoints, which would never commit",
                hint="give the environment a checkpoint interval, or the sink delivery='at-least-once'",
            )
        needed = start.checkpoint_interval_s + (start.checkpoint_timeout_s or 0.0)
        if self.transaction_timeout <= needed:
            raise UsageError(
                f"transaction_timeout={self.transaction_timeout:g} s is too short: a checkpoint may be complete "
                f"{needed:g} s after its first record (interval and timeout), and the brokers would abort it before",
                hint=f"more than {needed:g} s, and time for outages",
            )

    async def _check(self, start: JobStart) -> None:
        what = f"can't write to the topic {self.topic!r}" if self.topic is not None else "can't write"
        client = await connect(self.brokers, what)
        try:
            if self.topic is not None:
                topic = self.topic
                await persist(lambda: _check_topic(client, topic), START_TIMEOUT_S)
            async with asyncio.timeout(_CHECK_S):
                await (await Session.begin(self.brokers, self._producer, self._check_transaction(start))).close()
        except kafka.InvalidTransactionTimeout as error:
            raise UsageError(
                f"transaction_timeout={self.transaction_timeout:g} s is longer than {self.brokers} allow",
                hint=f"a shorter one, or raise {_MAX_TIMEOUT_CONFIG} of the brokers (15 min if it isn't set)",
            ) from error
        except kafka.ClusterAuthorizationFailedError as error:
            raise ConnectorError(
                f"{what}: {self.brokers}: no rights to write to any topic", hint="give the user the right Write to it"
            ) from error
        except (kafka.KafkaError, OSError) as error:
            raise explain(error, self.brokers, what) from error
        finally:
            await client.close()

    def _check_transaction(self, start: JobStart) -> Transactional | None:
        """With an id of its own: one of the writers' would fence a job that runs."""
        if self.delivery != "exactly-once":
            return None
        return Transactional(f"{self._prefix_in(start.job)}-check", int(self.transaction_timeout * 1000))

    def _prefix_in(self, job: str) -> str:
        # no name of a topic has ":" or "*", so two jobs and topics never give one prefix
        return self.prefix if self.prefix is not None else f"{job}:{self.topic or '*'}"


async def _check_topic(client: AIOKafkaClient, topic: str) -> None:
    error = (await refresh(client, [topic])).get(topic)
    if error is kafka.UnknownTopicOrPartitionError:
        raise ConnectorError(
            f"can't write: there is no topic {topic!r}",
            hint="create it first, with as many partitions as it is to have",
        )
    if error is not None:
        raise error(topic)


def _one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name}={value!r} is unknown", hint=f"use one of: {', '.join(map(repr, known))}")
