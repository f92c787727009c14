"""Messages of a WebSocket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.base import ReaderContext, Source, SourceClient, Split, SplitReader
from streamcore.connectors.extras import need
from streamcore.connectors.messages import Format, MessageFormat
from streamcore.connectors.paths import OnError, check_on_error
from streamcore.connectors.push_reader import Connections
from streamcore.connectors.web.address import Headers, check_url, shown
from streamcore.errors import UsageError

MAX_MESSAGE_BYTES = 16 << 20


class WebSocketSource(Source[Any]):
    """The messages that a WebSocket server sends, text or binary, each a record; it never ends.

    At most once: nothing that was sent can be asked for again, so what was in the job since the restored snapshot is
    gone after a failure, and what is sent while there's no connection never comes. When the connection ends, it is
    made again, after waits that grow while there is no answer. A job that is slower than the server stops reading, so
    that the server has to wait.

    Args:
        url: `ws://` or `wss://`.
        type: the type of the JSON messages (a dataclass, a NamedTuple, a msgspec Struct, or what else msgspec
            decodes), which gives the stream its columns; objects become dicts when None.
        format: `json`, `text` (`str`) or `bytes`.
        subscribe: what is sent after each connecting: text as it is, anything else as JSON.
        headers: of the request that opens the WebSocket; their values never appear in logs, errors or `repr`.
        on_error: what becomes of a malformed message: `fail`, `skip` (counted) or `side_output`.
        heartbeat_s: when nothing has come for so many seconds, a ping is sent; after as many more without an answer
            the connection is taken to be broken.
        backoff: the waits before connecting again.
        max_message_bytes: a message that is longer is an error.

    Raises:
        UsageError: an option is wrong, or aiohttp isn't installed.
    """

    bounded = False

    def __init__(
        self,
        url: str,
        type: Any = None,  # noqa: A002 - the usual names
        *,
        format: Format = "json",  # noqa: A002
        subscribe: Sequence[Any] = (),
        headers: Mapping[str, str] | None = None,
        on_error: str = "fail",
        heartbeat_s: float = 20.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - it can't be changed
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        need("aiohttp", "http", "WebSocketSource")
        if heartbeat_s <= 0 or max_message_bytes < 1:
            raise UsageError(f"heartbeat_s={heartbeat_s:g}, max_message_bytes={max_message_bytes} can't be")
        if isinstance(subscribe, str | bytes | Mapping):
            raise UsageError("subscribe is a list of messages", hint=f"subscribe=[{subscribe!r:.80}]")
        self.url = check_url(url, "ws", "wss")
        self.format = MessageFormat(format, type)
        self.schema = self.format.schema
        try:
            self.subscribe = [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in subscribe]
        except (TypeError, ValueError) as error:
            raise UsageError(f"a message of subscribe can't be written as JSON: {error}") from error
        self.headers = Headers(headers)
        self.on_error: OnError = check_on_error(on_error)
        self.heartbeat_s = heartbeat_s
        self.backoff = backoff
        self.max_message_bytes = max_message_bytes

    @property
    def name(self) -> str:
        """The service, for messages."""
        return f"WebSocket at {shown(self.url)}"

    def splits(self) -> Sequence[Split]:
        """The one split."""
        return [Split(shown(self.url))]

    def client(self, context: ReaderContext) -> SourceClient:
        """What waits for the connection's end."""
        return Connections()

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader that connects at its first poll; its offset is the number of messages handed out in total."""
        from streamcore.connectors.web.websocket_reader import WebSocketReader  # it imports the extra

        return WebSocketReader(self, int(offset or 0), context)
