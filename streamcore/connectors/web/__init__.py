"""HTTP: a sink that posts records, and sources of WebSockets and server-sent events (extra `http`)."""

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.web.http_sink import HttpSink
from streamcore.connectors.web.sse_source import ServerSentEventsSource
from streamcore.connectors.web.websocket_source import WebSocketSource

__all__ = ["Backoff", "HttpSink", "ServerSentEventsSource", "WebSocketSource"]
