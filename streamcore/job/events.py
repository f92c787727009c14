"""What reaches the coordinator's queue beside the messages of workers, and how an attempt ends early."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from streamcore.errors import StreamcoreError
from streamcore.job.config import StopMode
from streamcore.job.links import WorkerLost
from streamcore.job.queries import Queries, QueryExpired, QueryRequest
from streamcore.job.savepoints import SavepointExpired, SavepointRequest
from streamcore.runtime.messages import ToCoordinator

TickKind = Literal["checkpoint", "overtake", "timeout", "heartbeat", "wave", "align", "close"]


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment that the coordinator has set itself."""

    kind: TickKind
    epoch: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody asks for a graceful end."""

    mode: StopMode


Request = StopRequest | SavepointRequest | SavepointExpired | QueryRequest | QueryExpired
"""What comes from outside of the job, at any time."""

Event = ToCoordinator | WorkerLost | Tick | Request


def refuse_left(events: asyncio.Queue[Event], queries: Queries) -> None:
    """The job is over, nobody acts on requests any more: tells those who wait."""
    while not events.empty():
        match events.get_nowait():
            case SavepointRequest() as request:
                request.fail("the job has ended")
            case QueryRequest() as query:
                queries.request(query)
    queries.end()


class AttemptFailedError(Exception):
    """An attempt ended early; `error` says why."""

    def __init__(self, error: StreamcoreError) -> None:
        super().__init__(str(error))
        self.error = error
