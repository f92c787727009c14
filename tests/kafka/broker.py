"""A real Kafka broker for a test, and what the test does with it through another client library than streamcore's."""

import fcntl
import random
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions as GroupPartitions
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "kafka"
CACHE = ROOT / "build" / "kafka"
CLUSTER = "streamcoreTestsKafka_g"
TIMEOUT_S = 30.0
PAUSE_S = 0.005
BUFFERS = {"queue.buffering.max.messages": 1_000_000, "fetch.queue.backoff.ms": 10, "fetch.wait.max.ms": 50}
NOT_YET = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
ISOLATION = {
    "read_committed": IsolationLevel.READ_COMMITTED,
    "read_uncommitted": IsolationLevel.READ_UNCOMMITTED,
}


class Message(NamedTuple):
    """A message as it lies in a topic; its time is in milliseconds."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int
    headers: list[tuple[str, bytes | None]]


def jars() -> Path:
    """The folder of Kafka's jars, fetched by whichever process comes first."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run([DEPLOY / "kafka.sh", "fetch"], check=False, capture_output=True, text=True)
    # Never skipped: exactly-once delivery is shown on a real broker or not at all.
    assert result.returncode == 0, f"these tests need a Kafka broker\n{result.stderr}"
    return Path(result.stdout.strip())


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, below those that the system gives to outgoing connections.

    With a port of those, a client that tries again and again to reach a dead broker can get the broker's port as
    its own, is then connected to itself, and the broker can't start any more.
    """
    found: list[int] = []
    with ExitStack() as open_sockets:
        while len(found) < count:
            one = open_sockets.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = random.SystemRandom().randrange(20_000, 32_000)
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for `condition()` to give something true, and returns it."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT_S:g} s"
        time.sleep(PAUSE_S)
    return result


class Broker:
    """One broker on free ports, which keeps its address and its data when it is started again.

    `settings` are added to those of `deploy/kafka/server.properties`, `format_arguments` to the command that prepares
    the storage; `ports` are the broker's and its controller's.
    """

    def __init__(
        self,
        directory: Path,
        settings: dict[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        ports: tuple[int, int] | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._jars = jars()
        self._format_arguments = format_arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._formatted = False
        self.port, self._controller_port = ports or free_ports(2)
        self._client = {"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": 0}
        self._admin: AdminClient | None = None
        self._write_properties(settings or {})

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    # The process

    def start(self) -> "Broker":
        """Starts the broker, also one that was killed, and waits until it answers."""
        self.launch()
        return self.wait()

    def launch(self) -> None:
        """Starts the process and doesn't wait until it answers."""
        assert self._process is None, "the broker runs already"
        if not self._formatted:
            arguments = ["format", "--cluster-id", CLUSTER, "--config", str(self._properties), *self._format_arguments]
            command = self._java("kafka.tools.StorageTool", *arguments)
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            self._formatted = True
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        # When the tests are killed, this one's input ends, and the broker doesn't stay behind.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f"read line; kill -9 {self._process.pid}"], stdin=subprocess.PIPE
        )

    def wait(self) -> "Broker":
        """Waits until the broker answers: its port opens only when it is ready."""
        assert self._process is not None, "the broker was not launched"
        until(self._listens, "the broker answers")
        return self

    def stop(self) -> None:
        """Ends it as an operator does; takes about two seconds."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def kill9(self) -> None:
        """kill -9. What it had acknowledged is in the files, and `start()` finds it there."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    @property
    def log(self) -> Path:
        return self._directory / "broker.log"

    # Topics

    def create_topic(self, name: str, partitions: int = 1, **settings: str) -> str:
        """Makes a topic and waits until it can be written; underscores in the names of settings stand for dots."""
        config = {key.replace("_", "."): value for key, value in settings.items()}
        self._do(self.admin.create_topics([NewTopic(name, partitions, 1, config=config)]))
        self._until_writable(name, partitions)
        return name

    def add_partitions(self, name: str, partitions: int) -> None:
        """Gives the topic more partitions: so many in all."""
        self._do(self.admin.create_partitions([NewPartitions(name, partitions)]))
        self._until_writable(name, partitions)

    def delete_topic(self, name: str) -> None:
        self._do(self.admin.delete_topics([name]))

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._client)
        return self._admin

    # Messages

    def produce(
        self,
        topic: str,
        values: Sequence[bytes | str | None],
        keys: Sequence[bytes | str | None] | None = None,
        partition: int | None = None,
        timestamps: Sequence[int] | None = None,
        headers: Sequence[list[tuple[str, bytes]]] | None = None,
    ) -> None:
        """Writes messages and waits until all are acknowledged; keys go where the Java client would put them."""
        errors: list[KafkaError] = []
        producer = Producer({**self._client, "partitioner": "murmur2_random", "linger.ms": 5})
        for number, value in enumerate(values):
            extra: dict[str, Any] = {}
            if partition is not None:
                extra["partition"] = partition
            if keys is not None:
                extra["key"] = keys[number]
            if timestamps is not None:
                extra["timestamp"] = timestamps[number]
            if headers is not None:
                extra["headers"] = headers[number]
            producer.produce(topic, value, on_delivery=lambda error, _: error and errors.append(error), **extra)
            if number % 10_000 == 0:
                producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0, f"not all messages were acknowledged in {TIMEOUT_S:g} s"
        assert not errors, errors[0]

    def read_committed(self, topic: str) -> list[Message]:
        """What a reader sees now that leaves out open and aborted transactions, by partition and offset."""
        return self._read(topic, "read_committed")

    def read_uncommitted(self, topic: str) -> list[Message]:
        """All that lies in the topic now, by partition and offset."""
        return self._read(topic, "read_uncommitted")

    def end_offsets(self, topic: str, isolation: str = "read_uncommitted") -> dict[int, int]:
        """The end of each partition; for `read_committed`, where the first open transaction begins."""
        asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in self._partitions(topic)}
        found = self.admin.list_offsets(asked, isolation_level=ISOLATION[isolation])
        return {partition.partition: future.result(TIMEOUT_S).offset for partition, future in found.items()}

    def committed_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Where the group's committed offsets are; a partition without one is left out."""
        (future,) = self.admin.list_consumer_group_offsets([GroupPartitions(group)]).values()
        found = future.result(TIMEOUT_S).topic_partitions
        return {one.partition: one.offset for one in found if one.topic == topic and one.offset >= 0}

    def _read(self, topic: str, isolation: str) -> list[Message]:
        open_partitions = set(self._partitions(topic))
        consumer = Consumer(
            {
                **self._client,
                **BUFFERS,
                "group.id": "tests",
                "enable.auto.commit": False,
                "isolation.level": isolation,
                "enable.partition.eof": True,
            }
        )
        messages = []
        deadline = time.monotonic() + TIMEOUT_S
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in open_partitions])
            while open_partitions:
                assert time.monotonic() < deadline, f"no end of {topic} {sorted(open_partitions)} in {TIMEOUT_S:g} s"
                for message in consumer.consume(1000, timeout=0.1):
                    error = message.error()
                    if error is None:
                        messages.append(_message(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        open_partitions.discard(message.partition())
                    else:
                        raise KafkaException(error)
        finally:
            consumer.close()
        return sorted(messages, key=lambda message: (message.partition, message.offset))

    # Its parts

    def _write_properties(self, settings: dict[str, str]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        lines = (DEPLOY / "server.properties").read_text()
        for name, value in {
            "PORT": self.port,
            "CONTROLLER_PORT": self._controller_port,
            "DATA": self._directory / "data",
        }.items():
            lines = lines.replace(f"@{name}@", str(value))
        # The last one of two lines for a setting counts.
        lines += "".join(f"\n{name}={value}" for name, value in settings.items())
        self._properties.write_text(lines + "\n")

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    def _java(self, *arguments: str) -> list[str]:
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        logging = f"-Dlog4j2.configurationFile={DEPLOY / 'log4j2.properties'}"
        return ["java", *options, logging, "-cp", f"{self._jars}/*", *arguments]

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the broker ended\n{self.log.read_text(errors='replace')[-3000:]}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _ended(self) -> None:
        assert self._process is not None
        assert self._guard is not None
        self._guard.kill()  # before the broker's process id is free for another process
        self._guard.communicate()
        self._process.wait(TIMEOUT_S)
        self._process = None

    def _do(self, futures: dict[Any, Any]) -> None:
        for future in futures.values():
            future.result(TIMEOUT_S)

    def _partitions(self, topic: str) -> list[int]:
        metadata = self.admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return sorted(metadata.partitions)

    def _until_writable(self, topic: str, partitions: int) -> None:
        """A topic is known, with its leaders, a moment before its partitions can be written."""

        def writable() -> bool:
            try:
                return len(self.end_offsets(topic)) == partitions
            except KafkaException as error:
                if error.args[0].code() not in NOT_YET:
                    raise
                return False

        until(writable, f"{topic} has {partitions} partitions")


def _message(message: Any) -> Message:
    headers = message.headers() or []
    time_ms = message.timestamp()[1]
    return Message(message.partition(), message.offset(), message.key(), message.value(), time_ms, headers)
