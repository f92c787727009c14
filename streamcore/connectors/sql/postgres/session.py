"""A connection that outlives the server's restarts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg

from streamcore.connectors.sql.postgres.server import Server, is_collision, is_outage

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Session:
    """Runs work on one connection; while the server can't be reached, waits for it and does the work again.

    Args:
        waiting: is told the server's name when an outage begins, and None when it is over.
        set_up: what each new connection begins with.
    """

    def __init__(
        self,
        server: Server,
        waiting: Callable[[str | None], None],
        set_up: Callable[[psycopg.AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._server = server
        self._waiting = waiting
        self._set_up = set_up
        self._connection: psycopg.AsyncConnection | None = None

    async def run(self, work: Callable[[psycopg.AsyncConnection], Awaitable[T]], what: str) -> T:
        """Does `work`; from its beginning again, and on another connection, when the connection was lost meanwhile,
        so that it has to bear being done twice.

        Raises:
            StreamcoreError: it can't be done, for a reason that waiting doesn't help: "can't <what>: ...".
        """
        pause_s = 0.0
        collision_s = _FIRST_PAUSE_S
        while True:
            was_connected = self._connection is not None
            try:
                result = await work(await self._connected())
            except psycopg.Error as error:
                if not is_outage(error) and not is_collision(error):
                    raise self._server.explain(error, what) from error
                await self.drop()
                if is_collision(error):
                    # not at once, or two that collide do so for ever
                    await asyncio.sleep(random.uniform(0, collision_s))  # noqa: S311 - no secret
                    collision_s = min(2 * collision_s, _LONGEST_PAUSE_S)
                    continue
                if was_connected and not pause_s:
                    continue  # a connection that is stale isn't an outage yet
                self._waiting(str(self._server))
                pause_s = min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)
            else:
                if pause_s:
                    self._waiting(None)
                return result

    async def drop(self) -> None:
        """Closes the connection; what was open on it is rolled back by the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            connection = await self._server.connect_async()
            try:
                if self._set_up is not None:
                    await self._set_up(connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection
