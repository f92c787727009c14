"""What is asked of the brokers about transactions, each question repeated until somebody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.transaction import EndTxnRequest, InitProducerIdRequest

from streamcore.connectors.kafka.cluster import ask
from streamcore.connectors.kafka.connection import is_outage
from streamcore.connectors.kafka.protocol import (
    TRANSACTIONAL_ID_NOT_FOUND,
    DescribeTransactions,
    ListTransactions,
    Transaction,
    described,
    listed_ids,
)

_PAUSE_S = 0.2
_SHORT_PAUSE_S = 0.02
"""Before a question that met a transaction which is just ending is asked again."""

_REFUSED = (
    kafka.InvalidProducerEpoch,
    kafka.ProducerFenced,
    kafka.InvalidProducerIdMapping,
    kafka.InvalidTxnState,
)


class Coordinator:
    """Ends, describes and fences transactions of any ids over one connection. Outages are waited for.

    EndTxn is sent in its version 0, which every broker takes, whatever its transaction protocol. It names a session
    (id, producer id, epoch), not a transaction: so a session must have one transaction only.
    """

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def begin_session(self, transactional_id: str, timeout_ms: int) -> tuple[int, int]:
        """(producer id, epoch) of a new session: all earlier ones of the id are fenced, an open transaction is aborted.

        Raises:
            KafkaError: no rights to the id, or a longer timeout than the brokers allow.
        """
        response = await self._ask(
            transactional_id, InitProducerIdRequest(transactional_id, timeout_ms), lambda answer: answer.error_code
        )
        return response.producer_id, response.producer_epoch

    async def end(self, transactional_id: str, producer_id: int, epoch: int, *, commit: bool) -> bool:
        """Commits or aborts a session's transaction, also when it was done before; False: the brokers refuse to.

        Raises:
            KafkaError: no rights to the id.
        """
        request = EndTxnRequest(transactional_id, producer_id, epoch, commit)
        try:
            await self._ask(transactional_id, request, lambda answer: answer.error_code)
        except _REFUSED:
            return False
        return True

    async def describe(self, transactional_id: str) -> Transaction | None:
        """What has become of an id; None: it is unknown, or has expired.

        Raises:
            KafkaError: no rights to the id, or brokers older than 3.0.
        """
        response = await self._ask(
            transactional_id,
            DescribeTransactions(transactional_id),
            lambda answer: 0 if described(answer)[0] == TRANSACTIONAL_ID_NOT_FOUND else described(answer)[0],
        )
        code, transaction = described(response)
        return None if code == TRANSACTIONAL_ID_NOT_FOUND else transaction

    async def ids(self) -> list[str]:
        """All transactional ids that there are, and that the user may see.

        Raises:
            KafkaError: brokers older than 3.0.
        """
        while True:
            found: set[str] = set()
            try:
                for broker in self._client.cluster.brokers():
                    answer = await ask(self._client, broker.nodeId, ListTransactions())
                    _check(answer.error_code)
                    found.update(listed_ids(answer))
            except (kafka.KafkaError, OSError) as error:
                if not is_outage(error):
                    raise
            else:
                return sorted(found)
            await asyncio.sleep(_PAUSE_S)
            await self._client.force_metadata_update()  # a broker that is gone for good isn't asked again

    async def _ask(self, transactional_id: str, request: Any, error_code: Callable[[Any], int]) -> Any:
        while True:
            try:
                response = await ask(self._client, await self._coordinator_of(transactional_id), request)
                _check(error_code(response))
            except kafka.ConcurrentTransactions:
                await asyncio.sleep(_SHORT_PAUSE_S)
            except (kafka.KafkaError, OSError) as error:
                if not is_outage(error):
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return response

    async def _coordinator_of(self, transactional_id: str) -> int:
        try:
            node: int = await self._client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        except KeyError:  # as in `ask`
            raise kafka.KafkaConnectionError("the connection was dropped") from None
        return node


def _check(code: int) -> None:
    error = kafka.for_code(code)
    if error is not kafka.NoError:
        raise error
