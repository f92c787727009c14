"""Functions that wait: look-ups in services and databases, many at a time (as Flink's asynchronous I/O)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from streamcore.errors import TopologyError

In = TypeVar("In")
Out = TypeVar("Out")


class AsyncFunction(Generic[In, Out]):
    """A coroutine per record, with a client that is opened once per subtask.

    A record that was in flight at a snapshot is asked for again after a restore: calls must bear repetition. Calls must
    not change the record.

    Example:
        >>> class Country(AsyncFunction[str, str]):
        ...     async def open(self) -> None:
        ...         self.table = {"Paris": "FR"}  # or a client session
        ...
        ...     async def call(self, record: str) -> str:
        ...         return self.table.get(record, "?")
        >>> from streamcore import StreamEnvironment
        >>> StreamEnvironment().from_values(["Paris", "Rome"]).async_map(Country()).execute_and_collect()
        ['FR', '?']
    """

    async def open(self) -> None:
        """Opens what the calls need, once in each subtask, before the first call."""

    async def call(self, record: In) -> Out:
        """The result for one record."""
        raise NotImplementedError

    def timed_out(self, record: In) -> Out:
        """The result when no answer has come in time; without an implementation the job fails.

        Raises:
            TimeoutError: by default.
        """
        raise TimeoutError("no answer in time")

    async def close(self) -> None:
        """Closes what `open` took; called after failures too."""


@dataclass(frozen=True)
class Retry:
    """How often a call that raises is made again.

    Attributes:
        attempts: calls in all.
        delay: seconds before the second call; `backoff` times as long before each that follows.
        on: the exceptions after which it's worth it.
    """

    attempts: int = 3
    delay: float = 0.1
    backoff: float = 2.0
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0 or self.backoff < 1:
            raise TopologyError(
                f"{self.attempts} attempts, {self.delay} s apart, growing by {self.backoff}",
                hint="attempts from 1, a delay from 0 s, a backoff from 1",
            )
