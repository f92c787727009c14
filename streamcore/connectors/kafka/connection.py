"""Connections to Kafka: what their errors mean, and how an outage is noticed.

aiokafka waits for brokers by itself and says so in thousands of log lines; what it can't say is why it could not
connect (`bootstrap` forgets the reason). So `connect` asks again, by hand, when it has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn

from streamcore.connectors.kafka.security import Brokers, Security
from streamcore.errors import ConnectorError, StreamcoreError, UsageError

START_TIMEOUT_S = 10.0
"""Seconds in which brokers have to answer when a job starts."""
WHY_TIMEOUT_S = 3.0
"""Seconds in which each has to answer who is asked why it didn't."""

_AGAIN_S = 1.0
_OUTAGE = (
    kafka.KafkaConnectionError,
    kafka.NodeNotReadyError,
    kafka.KafkaTimeoutError,
    kafka.KafkaUnavailableError,
    kafka.NoBrokersAvailable,
    kafka.RequestTimedOutError,
    kafka.BrokerNotAvailableError,
    kafka.LeaderNotAvailableError,
    kafka.NotLeaderForPartitionError,
    kafka.ReplicaNotAvailableError,
    kafka.NotEnoughReplicasError,
    kafka.NotEnoughReplicasAfterAppendError,
    kafka.GroupCoordinatorNotAvailableError,
    kafka.GroupLoadInProgressError,
    kafka.NotCoordinatorForGroupError,
    kafka.NotControllerError,
    kafka.StaleMetadata,
    OSError,  # with TimeoutError
)

_CONNECTION_OPTIONS = (
    "client_id",
    "security_protocol",
    "ssl_context",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "sasl_oauth_token_provider",
)

_LOGIN = "are the user name, password and mechanism in Security(...) those that the brokers know?"
_RIGHTS = "an administrator has to give the user these rights (kafka-acls)"

_MEANINGS: dict[type[BaseException], tuple[str, str]] = {
    kafka.UnknownTopicOrPartitionError: (
        "there is no such topic or partition",
        "create the topic, or correct its name",
    ),
    kafka.InvalidTopicError: ("that is no name for a topic", "letters, digits, '.', '_' and '-', at most 249"),
    kafka.TopicAuthorizationFailedError: ("no rights to the topic", _RIGHTS),
    kafka.GroupAuthorizationFailedError: ("no rights to the consumer group", _RIGHTS),
    kafka.ClusterAuthorizationFailedError: ("no rights to the cluster", _RIGHTS),
    kafka.TransactionalIdAuthorizationFailed: ("no rights to the transactional id", _RIGHTS),
    kafka.SaslAuthenticationFailed: ("the login is refused", _LOGIN),
    kafka.AuthenticationFailedError: ("the login is refused", _LOGIN),
    kafka.UnsupportedSaslMechanismError: (
        "the brokers don't know this way to log in",
        "another mechanism= of Security",
    ),
    kafka.IllegalSaslStateError: (
        "this port has no such login",
        "security=Security(...) has to be as the brokers' listener wants it",
    ),
    kafka.UnsupportedCodecError: ("the compression of the messages needs a library", "pip install cramjam"),
    kafka.CorruptRecordException: (
        "the broker's data are damaged (wrong checksum)",
        "look at the broker's log and disk",
    ),
    kafka.UnsupportedVersionError: ("the brokers are too old for what is asked of them", ""),
    kafka.IncompatibleBrokerVersion: ("the brokers are too old for what is asked of them", ""),
}


def is_outage(error: BaseException) -> bool:
    """Whether the error is one of those that pass when brokers are there again: nobody answers, an answer takes too
    long, a partition has no leader now."""
    return isinstance(error, _OUTAGE) and not isinstance(error, ssl.SSLError)


def explain(error: BaseException, brokers: Brokers, what: str) -> StreamcoreError:
    """The error for the user: `what` could not be done, where, why, and what to do about it."""
    if isinstance(error, StreamcoreError):
        return error
    reason, hint = _meaning(error, brokers.security)
    return ConnectorError(f"{what}: {brokers}: {reason}", hint=hint)


def _meaning(error: BaseException, security: Security) -> tuple[str, str]:
    for kind, (reason, hint) in _MEANINGS.items():
        if isinstance(error, kind):
            said = str(error.args[0]) if error.args and isinstance(error.args[0], str) and error.args[0] else ""
            return (f"{reason}: {said}" if said else reason), hint
    match error:
        case socket.gaierror():
            return "the host name is unknown", "is the address right?"
        case ConnectionRefusedError():
            return "nobody listens there", "is the broker running, and is this its address?"
        case ssl.SSLCertVerificationError():
            return f"the broker's certificate is not trusted: {error.verify_message}", "give its signer's with ca_file="
        case ssl.SSLError():
            return f"no TLS: {error.strerror or error}", "does this port use TLS, and want a client certificate?"
        case TimeoutError() | kafka.RequestTimedOutError() | kafka.KafkaTimeoutError():
            return "no answer in time", "is this the address of a Kafka broker, and can it be reached from here?"
        case kafka.KafkaConnectionError() | ConnectionResetError():
            wants = "a login or TLS" if security.protocol == "PLAINTEXT" else "other settings"
            return "the connection was closed", f"does this port want {wants} (security=Security(...))?"
        case OSError():
            return error.strerror or str(error) or type(error).__name__, "is this the address of a Kafka broker?"
    return f"{type(error).__name__}: {error}", ""


async def connect(brokers: Brokers, what: str = "can't connect") -> AIOKafkaClient:
    """A client that has spoken with a broker; its `close` is up to the caller.

    Raises:
        ConnectorError: no broker can be reached; says why, and has the reason as its cause.
        UsageError: aiokafka doesn't take the options.
    """
    quiet()
    try:
        return await _connect(brokers, what)
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"{what}: {brokers}: the client doesn't take its settings: {error}",
            hint="look at security=Security(...) and options=",
        ) from error


async def connect_patiently(
    brokers: Brokers, waiting: Callable[[str | None], None], what: str = "can't connect"
) -> AIOKafkaClient:
    """The same for a job that runs: it was refused at its start if there were no brokers, and waits for those that are
    away when a subtask begins, of which it tells `waiting`."""
    has_waited = False
    while True:
        try:
            client = await connect(brokers, what)
        except ConnectorError as error:
            if error.__cause__ is None or not is_outage(error.__cause__):
                raise
        else:
            if has_waited:
                waiting(None)
            return client
        has_waited = True
        waiting(str(brokers))
        await asyncio.sleep(_AGAIN_S)


async def _connect(brokers: Brokers, what: str) -> AIOKafkaClient:
    client = AIOKafkaClient(**brokers.client_options())
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await client.bootstrap()
            node = client.get_random_node()
            if node is None or await client.ready(node):
                return client
            broker = client.cluster.broker_metadata(node)
    except (kafka.KafkaError, OSError) as error:
        await client.close()
        reason = await _why_not(brokers, brokers.hosts) or error
        raise explain(reason, brokers, what) from reason
    except BaseException:
        await client.close()
        raise
    await client.close()
    reason = await _why_not(brokers, [(broker.host, broker.port)]) or kafka.KafkaConnectionError("closed")
    explained = explain(reason, Brokers(f"{broker.host}:{broker.port}", brokers.security), f"{what} to {brokers}")
    explained.hint = "advertised.listeners of the brokers has to be an address that can be reached from here"
    raise explained from reason


async def _why_not(brokers: Brokers, hosts: Iterable[tuple[str, int]]) -> BaseException | None:
    """Tries each host once: what is wrong with the last one that fails."""
    options = brokers.client_options()
    given = {name: options[name] for name in _CONNECTION_OPTIONS if name in options}
    given["request_timeout_ms"] = round(WHY_TIMEOUT_S * 1000)
    reason: BaseException | None = None
    for host, port in hosts:
        try:
            connection = await create_conn(host, port, **given)
        except (kafka.KafkaError, OSError) as error:
            reason = error
        else:
            connection.close()
    return reason


class OutageWatch:
    """Notices, beside a client, when no broker answers any more, and when one does again.

    A dead broker is noticed within `every_s`, a silent one within `every_s + patience_s`: twice 1 s.

    Args:
        client: asked for its metadata again and again.
        waiting: called with the brokers' name when nobody answers, and with None when somebody does again.
        ask: asks a broker for something instead, and raises KafkaError or TimeoutError when none answers.
    """

    def __init__(
        self,
        client: AIOKafkaClient,
        brokers: Brokers,
        waiting: Callable[[str | None], None],
        *,
        ask: Callable[[], Awaitable[object]] | None = None,
        every_s: float = 1.0,
        patience_s: float = 1.0,
    ) -> None:
        self.is_out = False
        self._ask = ask or self._update
        self._client = client
        self._name = str(brokers)
        self._waiting = waiting
        self._every_s = every_s
        self._patience_s = patience_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name=f"watch {self._name}")

    async def close(self) -> None:
        """Ends the watch; the client is left as it is."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            answered = await self._answered()
            if answered == self.is_out:
                self.is_out = not answered
                self._waiting(None if answered else self._name)

    async def _answered(self) -> bool:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._ask()
        except (OSError, kafka.KafkaError):
            return False
        return True

    async def _update(self) -> None:
        if not await self._client.force_metadata_update():
            raise kafka.KafkaConnectionError("no broker answers")


def quiet() -> None:
    """Keeps aiokafka's own thousand lines of an outage out of the log, where ours says it once; unless the user has
    set the level of its logger."""
    logger = logging.getLogger("aiokafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


__all__ = ["Brokers", "OutageWatch", "Security", "connect", "explain", "is_outage", "quiet"]
