"""Two requests of Kafka's protocol that aiokafka doesn't have: which transactional ids there are, and what has become
of one's transaction (KIP-664, Kafka ≥ 3.0)."""

from __future__ import annotations

import dataclasses
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

TRANSACTIONAL_ID_NOT_FOUND = 105

_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


@dataclasses.dataclass(frozen=True, slots=True)
class Transaction:
    """What the brokers know of a transactional id: its newest session, and the state of its newest transaction
    (`Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`, `CompleteAbort`, `PrepareEpochFence`)."""

    state: str
    producer_id: int
    epoch: int
    timeout_ms: int


class _ListTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(_TEXT)),
        ("states", CompactArray(("transactional_id", _TEXT), ("producer_id", Int64), ("state", _TEXT), _TAGS)),
        _TAGS,
    )


class _ListTransactionsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ListTransactionsResponse
    SCHEMA = Schema(("state_filters", CompactArray(_TEXT)), ("producer_id_filters", CompactArray(Int64)), _TAGS)


class ListTransactions(Request[_ListTransactionsRequest]):  # type: ignore[misc]
    """All ids of which a broker is the coordinator, in any state. Every broker has to be asked."""

    API_KEY = 66

    def build(self, request_struct_class: type[_ListTransactionsRequest]) -> _ListTransactionsRequest:
        return request_struct_class([], [], {})


class _DescribeTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _TEXT),
                ("state", _TEXT),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("epoch", Int16),
                ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeTransactionsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), _TAGS)


class DescribeTransactions(Request[_DescribeTransactionsRequest]):  # type: ignore[misc]
    """What the coordinator of one id knows of it."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[_DescribeTransactionsRequest]) -> _DescribeTransactionsRequest:
        return request_struct_class([self._transactional_id], {})


def listed_ids(response: Any) -> list[str]:
    """The transactional ids of an answer to `ListTransactions`."""
    return [row[0] for row in response.states]


def described(response: Any) -> tuple[int, Transaction]:
    """(error code, transaction) of an answer to `DescribeTransactions`."""
    code, _, state, timeout_ms, _, producer_id, epoch, *_ = response.states[0]
    return code, Transaction(state, producer_id, epoch, timeout_ms)
