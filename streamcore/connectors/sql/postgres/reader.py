"""Reads the pages of a polled table, one ahead of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from streamcore.batch import Batch, Columns, Field, Schema, to_columns
from streamcore.connectors.base import ReaderContext, SourceClient, SplitReader
from streamcore.connectors.sql.postgres.pages import Pages, Polling
from streamcore.connectors.sql.postgres.server import Server
from streamcore.connectors.sql.postgres.session import Session

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
        self._columns = _with_cursor(pages.polling)
        self._page = to_columns([], self._columns)
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
        rows = self._page.slice(self._done, min(self._done + limit, len(self._page)))
        self._done += len(rows)
        self.offset = self._cursor_at(self._done - 1)
        self.exhausted = self._polling.bounded and self._is_last and self._done == len(self._page)
        return Columns(self._polling.schema, rows.arrays)

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
        self._page, self._done = to_columns(task.result(), self._columns), 0
        self._is_last = len(self._page) < self._polling.page_rows
        if self._is_last and self._polling.bounded:
            self.exhausted = len(self._page) == 0
        elif self._is_last:
            self._fetch_at = self._context.now() + self._polling.every_s
            if len(self._page) == 0:
                self.wake_at = self._fetch_at
        else:
            self._fetch(self._cursor_at(len(self._page) - 1))
        return len(self._page) > 0

    def _cursor_at(self, row: int) -> list[str]:
        return [self._page[name][row].as_py() for name in _cursor_names(self._polling)]

    def _fetch(self, last: list[str] | None) -> None:
        query = self._pages.after(last)
        fetching = self._client.fetch(query, self._polling.what)
        self._task = asyncio.get_running_loop().create_task(fetching, name=f"postgres {self._polling.name}")
        self._task.add_done_callback(lambda _: self._context.wake())


def _with_cursor(polling: Polling) -> Schema:
    """The columns of a page: those of the rows, and those of the cursor as texts."""
    return Schema((*polling.schema.fields, *(Field(name, pa.string()) for name in _cursor_names(polling))))


def _cursor_names(polling: Polling) -> list[str]:
    """What the cursor's columns are called in a page."""
    return [f"streamcore_{index}" for index in range(len(polling.cursor))]
