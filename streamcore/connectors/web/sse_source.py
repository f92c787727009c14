"""Server-sent events (`text/event-stream`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.base import ReaderContext, Source, SourceClient, Split, SplitReader
from streamcore.connectors.extras import need
from streamcore.connectors.messages import Format, MessageFormat
from streamcore.connectors.paths import OnError, check_on_error
from streamcore.connectors.push_reader import Connections
from streamcore.connectors.web.address import Headers, check_url, shown
from streamcore.errors import UsageError


class ServerSentEventsSource(Source[Any]):
    """The data of the events that a server sends, each a record, until it answers 204 (No Content).

    The id of the last event is the offset in the snapshot, and is sent as `Last-Event-ID` whenever the source connects
    again. A server that gives every event an id of its own, and goes on after the one it is told, thus has each event
    counted exactly once through failures; what was sent in between is not lost. A server without ids makes it at most
    once, as `WebSocketSource`; one that gives an id only to some events sends those between them again or not, as
    it likes.

    When the connection ends, it is made again after a wait: what the stream has set by `retry:`, or the backoff's, and
    longer while there is no answer. A job that is slower than the server stops reading, so that the server has to wait.

    Args:
        url: `http://` or `https://`.
        type: the type of the JSON data (a dataclass, a NamedTuple, a msgspec Struct, or what else msgspec decodes),
            which gives the stream its columns; objects become dicts when None.
        format: `json`, `text` (`str`) or `bytes`.
        events: take only the events of these types; those without a type are of the type `message`.
        last_event_id: the id after which a job begins that isn't restored.
        headers: of the request; their values never appear in logs, errors or `repr`.
        on_error: what becomes of malformed data: `fail`, `skip` (counted) or `side_output`.
        silence_s: when nothing, not even a comment, has come for so many seconds, the connection is taken to be broken
            and made again; None: never.
        backoff: the waits before connecting again.

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
        events: Iterable[str] | None = None,
        last_event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        on_error: str = "fail",
        silence_s: float | None = 300.0,
        backoff: Backoff = Backoff(first_s=1.0),  # noqa: B008 - it can't be changed
    ) -> None:
        need("aiohttp", "http", "ServerSentEventsSource")
        if silence_s is not None and silence_s <= 0:
            raise UsageError(f"silence_s={silence_s:g} can't be", hint="seconds above 0, or None")
        if isinstance(events, str):
            raise UsageError("events is a list of types", hint=f"events=[{events!r}]")
        self.url = check_url(url, "http", "https")
        self.format = MessageFormat(format, type)
        self.schema = self.format.schema
        self.events = None if events is None else frozenset(events)
        self.last_event_id = last_event_id
        self.headers = Headers(headers)
        self.on_error: OnError = check_on_error(on_error)
        self.silence_s = silence_s
        self.backoff = backoff

    @property
    def name(self) -> str:
        """The service, for messages."""
        return f"event stream at {shown(self.url)}"

    def splits(self) -> Sequence[Split]:
        """The one split."""
        return [Split(shown(self.url))]

    def client(self, context: ReaderContext) -> SourceClient:
        """What waits for the connection's end."""
        return Connections()

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader that connects at its first poll; its offset is the last event id."""
        from streamcore.connectors.web.sse_reader import EventsReader  # it imports the extra

        return EventsReader(self, self.last_event_id if offset is None else str(offset), context)
