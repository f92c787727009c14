"""A reader of an HTTP service that pushes: connects, reads until the connection ends, and connects again."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import aiohttp

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.outage import Outage
from streamcore.connectors.paths import OnError
from streamcore.connectors.push_reader import PushReader
from streamcore.connectors.web.answers import Verdict, reason, retry_after_s, verdict
from streamcore.connectors.web.failures import explain, is_outage
from streamcore.errors import ConnectorError

CONNECT_S = 30.0
"""Seconds within which a connection is made and the server answers."""


class Away(Exception):  # noqa: N818 - an outage, no error of anyone
    """The service can't be read now. `wait_s`: how long it asks to be left alone, in seconds."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Ended(Exception):  # noqa: N818
    """The service says that there is no more."""


class ReconnectingReader(PushReader):
    """A subclass reads one connection."""

    def __init__(
        self,
        name: str,
        decode: Callable[[bytes], Any],
        on_error: OnError,
        context: ReaderContext,
        offset: Any,
        backoff: Backoff,
    ) -> None:
        super().__init__(name, decode, on_error, context, offset)
        self._backoff = backoff
        self._outage = Outage(context.waiting, name)
        self._failures = 0

    @abstractmethod
    async def read_connection(self, session: aiohttp.ClientSession) -> None:
        """Connects, calls `connected`, and reads until the connection ends.

        Raises:
            Away: it can't be read now.
            Ended: there is no more.
            ConnectorError: it never can be.
        """

    def connected(self) -> None:
        """The service is there."""
        self._outage.end()

    def received(self) -> None:
        """Something has come: the next failure is a first one."""
        self._failures = 0

    def delay_s(self, failures: int) -> float:
        """Seconds to wait before connecting again."""
        return self._backoff.delay_s(failures)

    async def receive(self) -> None:
        """Reads one connection after the other.

        Raises:
            ConnectorError: the service refuses, in a way that waiting doesn't change.
        """
        # connections last for as long as they may; making one has `CONNECT_S`
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            while True:
                try:
                    await self.read_connection(session)
                    asked_s = 0.0
                except Ended:
                    return
                except Away as away:
                    self._outage.begin(str(away))
                    asked_s = away.wait_s
                except (aiohttp.ClientError, OSError) as error:
                    if not is_outage(error):
                        # its own text may be the URL
                        raise ConnectorError(f"can't read {self.name}: {explain(error)}") from None
                    self._outage.begin(explain(error))
                    asked_s = 0.0
                self._failures += 1
                await asyncio.sleep(max(self.delay_s(self._failures), asked_s))


def refusal(name: str, status: int, retry_after: str | None) -> Away | ConnectorError:
    """What to raise when the service answers with something else than what was asked for."""
    if verdict(status) in (Verdict.LATER, Verdict.AGAIN):
        return Away(reason(status), retry_after_s(retry_after))
    hint = "check the address, and the rights that the headers give"
    return ConnectorError(f"{name} answers {reason(status)}", hint=hint)
