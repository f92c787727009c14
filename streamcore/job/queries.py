"""Questions about the state of a running job, on their way to the subtask that knows and back.

A question that meets a restart is asked again of the next attempt; so it is answered late, or its time is over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from streamcore.errors import JobUnavailableError
from streamcore.runtime.messages import Answer, Query, Subtask


@dataclass(slots=True, eq=False)
class QueryRequest:
    """One question: what has state `name` of operator `uid` for `key`? Without a name: what states are there?

    Attributes:
        subtask: who has the key.
        timeout_s: how long the answer may take.
        outcome: the value as JSON, None if there is nothing for the key; or why there is no answer.
    """

    subtask: Subtask
    uid: str
    name: str | None
    key: Any
    timeout_s: float = 10.0
    outcome: Future[bytes | None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class QueryExpired:
    """A question has had all its time."""

    request: QueryRequest


class Queries:
    """The questions that have not been answered."""

    def __init__(self) -> None:
        self._open: dict[int, QueryRequest] = {}
        self._numbers = itertools.count(1)
        self._send: Callable[[Subtask, Query], None] | None = None
        self._epoch = 0

    def start(self, epoch: int, send: Callable[[Subtask, Query], None]) -> None:
        """An attempt runs: its subtasks are asked what is open."""
        self._epoch, self._send = epoch, send
        for number, request in self._open.items():
            self._ask(number, request)

    def end_attempt(self) -> None:
        """There is nobody to ask."""
        self._send = None

    def request(self, request: QueryRequest) -> None:
        """Somebody asks."""
        number = next(self._numbers)
        self._open[number] = request
        self._ask(number, request)

    def answer(self, answer: Answer) -> None:
        """A subtask has answered."""
        request = self._open.pop(answer.number, None)
        if request is None:
            return
        if answer.error is not None:
            request.outcome.set_exception(answer.error)
        else:
            request.outcome.set_result(answer.value)

    def expire(self, request: QueryRequest, state: str) -> None:
        """A question has had all its time; `state`: that of the job."""
        for number in [number for number, other in self._open.items() if other is request]:
            del self._open[number]
            request.outcome.set_exception(
                JobUnavailableError(f"no answer within {request.timeout_s:g} s: the job is {state}")
            )

    def end(self) -> None:
        """The job is over."""
        for request in self._open.values():
            request.outcome.set_exception(JobUnavailableError("the job has ended"))
        self._open = {}

    def _ask(self, number: int, request: QueryRequest) -> None:
        if self._send is not None:
            self._send(
                request.subtask, Query(self._epoch, number, request.subtask, request.uid, request.name, request.key)
            )
