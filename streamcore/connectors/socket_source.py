"""Lines from a TCP or Unix socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamcore.batch import Batch
from streamcore.connectors.base import BadRecord, ReaderContext, Source, Split, SplitReader
from streamcore.connectors.blocks import shorten
from streamcore.connectors.paths import OnError, check_on_error
from streamcore.errors import BadRecordError, ConnectorError, UsageError

BUFFER_LINES = 65_536
MAX_LINE_BYTES = 16 << 20
_READ_BYTES = 1 << 16


class SocketSource(Source[str]):
    """The lines that a server sends, in UTF-8, as `str` rows without their ends, until it closes.

    At most once: a socket can't be read again, so after a restart the source connects anew, and what was
    read since the restored snapshot is gone. When the job is slower than the peer, the source stops reading
    (it holds about 64k lines), so that the peer has to wait.

    Args:
        host: the server's name or address.
        port: its TCP port.
        on_error: what becomes of a line that isn't UTF-8: `fail`, `skip` (counted) or `side_output`.
        connect_timeout_s: how long to wait for a connection, in seconds.

    Raises:
        UsageError: an option is wrong.
    """

    bounded = False

    def __init__(self, host: str, port: int, *, on_error: str = "fail", connect_timeout_s: float = 10.0) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"{port} is not a port: ports are 0 to 65535")
        self.host = host
        self.port = port
        self.path: str | None = None
        self.on_error: OnError = check_on_error(on_error)
        self.connect_timeout_s = connect_timeout_s

    @classmethod
    def unix(cls, path: str, *, on_error: str = "fail", connect_timeout_s: float = 10.0) -> SocketSource:
        """The same from a Unix socket."""
        source = cls("", 0, on_error=on_error, connect_timeout_s=connect_timeout_s)
        source.path = path
        return source

    @property
    def address(self) -> str:
        """Where the lines come from, for messages."""
        return f"{self.host}:{self.port}" if self.path is None else f"unix:{self.path}"

    def splits(self) -> Sequence[Split]:
        """The one split."""
        return [Split(self.address)]

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader that connects at its first poll; its offset is the number of lines handed out in total."""
        return _SocketReader(self, int(offset or 0), context)


class _SocketReader(SplitReader):
    def __init__(self, source: SocketSource, offset: int, context: ReaderContext) -> None:
        self.offset = offset
        self._source = source
        self._context = context
        self._lines: deque[bytes] = deque()
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: ConnectorError | None = None
        self._is_closed = False
        self._line = 0

    def poll(self, limit: int) -> Batch | None:
        """The next lines.

        Raises:
            ConnectorError: the connection can't be made or broke; after the lines that came before that.
            BadRecordError: a line isn't UTF-8 and the policy is `fail`.
        """
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._receive(), name=f"socket {self._source.address}")
        rows: list[Any] = []
        while self._lines and not rows:
            taken = [self._lines.popleft() for _ in range(min(limit, len(self._lines)))]
            rows = self._decode(taken)
        if len(self._lines) < BUFFER_LINES:
            self._has_room.set()
        self.offset += len(rows)
        if not self._lines:
            if self._error is not None and not rows:
                raise self._error
            self.exhausted = self._is_closed and self._error is None
        return rows

    def close(self) -> None:
        """Closes the connection."""
        if self._task is not None:
            self._task.cancel()

    def _decode(self, lines: list[bytes]) -> list[Any]:
        rows: list[Any] = []
        for line in lines:
            self._line += 1
            try:
                rows.append(line.decode())
            except UnicodeDecodeError:
                self._report(line)
        return rows

    def _report(self, line: bytes) -> None:
        address, text = self._source.address, shorten(line)
        if self._source.on_error == "fail":
            raise BadRecordError(f"{address}, line {self._line}: not UTF-8: {text!r}")
        self._context.report_bad(BadRecord(text, "not UTF-8", address, f"line {self._line}"))

    async def _receive(self) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._source.connect_timeout_s):
                reader, writer = await self._connect()
            await self._read_lines(reader)
        except OSError as error:
            what = f"can't connect to {self._source.address}" if writer is None else f"{self._source.address} broke off"
            why = error.strerror or str(error) or f"no answer in {self._source.connect_timeout_s:g} s"
            self._error = ConnectorError(f"{what}: {why}", hint="is the server there, and is this its address?")
        finally:
            if writer is not None:
                writer.close()
        # not reached when `close` cancels: then nobody polls any more
        self._is_closed = True
        self._context.wake()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._source.path is not None:
            return await asyncio.open_unix_connection(self._source.path)
        return await asyncio.open_connection(self._source.host, self._source.port)

    async def _read_lines(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(_READ_BYTES):
            *lines, last = chunk.split(b"\n")
            if not lines:
                rest += last
                if len(rest) > MAX_LINE_BYTES:
                    raise OSError(f"a line has more than {MAX_LINE_BYTES >> 20} MiB")
                continue
            lines[0], rest = rest + lines[0], last
            self._lines.extend(line.removesuffix(b"\r") for line in lines)
            self._context.wake()
            while len(self._lines) >= BUFFER_LINES:
                self._has_room.clear()
                await self._has_room.wait()
        if rest:
            self._lines.append(rest.removesuffix(b"\r"))
