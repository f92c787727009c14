"""Reads the pages of a polled table, one ahead of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from streamcore.batch import Batch, to_columns
from streamcore.connectors.base import ReaderContext, SourceClient, SplitReader
from streamcore.connectors.sql.postgres_pages import Pages
from streamcore.connectors.sql.postgres_server import Server
from streamcore.connectors.sql.postgres_session import Session

Row = tuple[Any, ...]


class SharedSession(SourceClient):
    """One connection for all readers of a subtask, who use it in turn."""

    def __init__(self, server: Server, waiting: Callable[[str | None], None]) -> None:
        self._session = Session(server, waiting)
        self._turn = asyncio.Lock()

    async def fetch(self, query: sql.Composed, what: str) -> list[Row]:
        """The rows of a query; waits for a server that can't be reached.

        Raises:
            StreamcoreError: the server refuses.
        """

        async def rows(connection: psycopg.AsyncConnection) -> list[Row]:
            cursor = connection.cursor(binary=True)
            await cursor.execute(query)
            return await cursor.fetchall()

        async with self._turn:
            return await self._session.run(rows, what)

    async def close(self) -> None:
        """Closes the connection."""
        await self._session.drop()


class PollingReader(SplitReader):
    """Reads one part; while a page is handed out, the next is fetched."""

    def __init__(self, pages: Pages, offset: Any, context: ReaderContext, client: SharedSession) -> None:
        self.offset: list[str] | None = offset
        self._pages = pages
        self._polling = pages.polling
        self._context = context
        self._client = client
        self._page: list[Row] = []
        self._done = 0  # rows of the page
        self._is_last = False  # the page is the last one there is now
        self._task: asyncio.Task[list[Row]] | None = None
        self._fetch_at = context.now()

    def poll(self, limit: int) -> Batch | None:
        """The next rows.

        Raises:
            BadRecordError: a value isn't of the type.
            StreamcoreError: the server refuses.
        """
        self.wake_at = None
        if self._pages.is_empty:
            self.exhausted = True
            return None
        if self._done == len(self._page) and not self._turn_page():
            return None
        rows = self._page[self._done : self._done + limit]
        self._done += len(rows)
        width = len(self._polling.schema.fields)
        self.offset = list(rows[-1][width:])
        self.exhausted = self._polling.bounded and self._is_last and self._done == len(self._page)
        return to_columns([row[:width] for row in rows], self._polling.schema)

    def close(self) -> None:
        """Stops fetching."""
        if self._task is not None:
            self._task.cancel()

    def _turn_page(self) -> bool:
        """Goes on to the next page if it has come; else sees to it that it will."""
        if self._task is None:
            if self._context.now() < self._fetch_at:
                self.wake_at = self._fetch_at
            else:
                self._fetch(self.offset)
            return False
        if not self._task.done():
            return False
        task, self._task = self._task, None
        self._page, self._done = task.result(), 0
        self._is_last = len(self._page) < self._polling.page_rows
        if self._is_last and self._polling.bounded:
            self.exhausted = not self._page
        elif self._is_last:
            self._fetch_at = self._context.now() + self._polling.every_s
            if not self._page:
                self.wake_at = self._fetch_at
        else:
            self._fetch(list(self._page[-1][len(self._polling.schema.fields) :]))
        return bool(self._page)

    def _fetch(self, last: list[str] | None) -> None:
        query = self._pages.after(last)
        fetching = self._client.fetch(query, self._polling.what)
        self._task = asyncio.get_running_loop().create_task(fetching, name=f"postgres {self._polling.name}")
        self._task.add_done_callback(lambda _: self._context.wake())
