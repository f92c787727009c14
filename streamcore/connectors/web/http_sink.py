"""Records sent by HTTP: to a webhook one by one, or to a bulk endpoint in batches."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.base import AsyncSinkWriter, Sink, SinkContext
from streamcore.connectors.extras import need
from streamcore.connectors.options import check_choice
from streamcore.connectors.web.address import Headers, check_url
from streamcore.errors import BadRecordError, UsageError

Body = Literal["record", "array", "lines"]
OnRefused = Literal["fail", "drop"]
Getter = str | Callable[[Any], Any]

_CONTENT_TYPES = {"record": "application/json", "array": "application/json", "lines": "application/x-ndjson"}


class HttpSink(Sink[Any]):
    """Sends every record in a request, alone or with others, as JSON; many requests at a time.

    At least once: a checkpoint is complete only when all requests before it have been answered with success, and what
    was sent since the last one is sent again after a crash. A receiver that must not count twice can go by the
    `idempotency_key`: made from the record alone, it is the same when the record is sent again.

    A service that is away (no connection, no answer in time, 408, 425, 429, 502, 503, 504) is asked again until it
    answers, with growing waits and never before its `Retry-After` is over; the stream waits. Checkpoints can't be
    complete meanwhile and are given up after `Checkpointing.timeout`; more than `tolerable_failures` in a row restart
    the attempt, which sends again what came since the last complete one. Other 5xx are tried `attempts` times. What is
    refused then, and every other status (a 4xx, a redirect), is an error by `on_refused`.

    Args:
        url: `http://` or `https://`; certificates are checked against the system's (`SSL_CERT_FILE` names others).
        method: the HTTP method.
        body: `record` (one JSON value), `array` (a JSON array of up to `batch`) or `lines` (JSON lines, up to
            `batch`); dataclasses, NamedTuples and dicts become objects.
        batch: records in one request at most.
        linger_s: seconds that the first record of a batch waits at most for others.
        concurrency: requests of one subtask that are sent at the same time.
        ordered_by: a field or a function of the record: records with the same value are delivered in order, a request
            only after the one before it has been answered. None: in any order, unless `concurrency` is 1.
        headers: such as a token; their values never appear in logs, errors or `repr`.
        idempotency_key: a field or a function of the record, sent as a header; only with `body="record"`, for what is
            in one batch may be cut differently the next time.
        idempotency_header: the name of that header.
        on_refused: `fail` the job, or `drop` the request's records, which is logged and counted in the log.
        attempts: how often a request is sent that the service fails at (500 and the like).
        backoff: the waits between two attempts.
        timeout_s: seconds until a request without answer is given up and sent again.

    Raises:
        UsageError: an option is wrong, or aiohttp isn't installed.
    """

    accepts = "rows"
    asynchronous = True

    def __init__(
        self,
        url: str,
        *,
        method: str = "POST",
        body: Body = "record",
        batch: int | None = None,
        linger_s: float = 0.05,
        concurrency: int = 8,
        ordered_by: Getter | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: Getter | None = None,
        idempotency_header: str = "Idempotency-Key",
        on_refused: OnRefused = "fail",
        attempts: int = 5,
        backoff: Backoff = Backoff(),  # noqa: B008 - it can't be changed
        timeout_s: float = 30.0,
    ) -> None:
        need("aiohttp", "http", "HttpSink")
        check_choice("body", body, get_args(Body))
        check_choice("on_refused", on_refused, get_args(OnRefused))
        if body == "record" and batch not in (None, 1):
            raise UsageError(f"{batch} records don't fit a body of one", hint='use body="array" or "lines"')
        if body != "record" and idempotency_key is not None:
            raise UsageError("an idempotency key belongs to one record, not to a batch", hint='use body="record"')
        self.batch = (1 if body == "record" else 100) if batch is None else batch
        if self.batch < 1 or concurrency < 1 or attempts < 1 or linger_s < 0 or timeout_s <= 0:
            raise UsageError(
                f"batch={self.batch}, concurrency={concurrency}, attempts={attempts}, linger_s={linger_s:g}, "
                f"timeout_s={timeout_s:g}",
                hint="batch, concurrency and attempts from 1, linger_s from 0, timeout_s above 0",
            )
        self.url = check_url(url, "http", "https")
        self.method = method
        self.body = body
        self.linger_s = linger_s
        self.concurrency = concurrency
        self.ordered_by = ordered_by
        self.headers = Headers({"Content-Type": _CONTENT_TYPES[body], **Headers(headers)})
        self.idempotency_key = idempotency_key
        self.idempotency_header = idempotency_header
        self.on_refused = on_refused
        self.attempts = attempts
        self.backoff = backoff
        self.timeout_s = timeout_s

    def writer(self, context: SinkContext) -> AsyncSinkWriter:
        """The writer of one subtask."""
        from streamcore.connectors.web.http_writer import HttpWriter  # it imports the extra

        return HttpWriter(self, context)


def getter(of: Getter) -> Callable[[Any], Any]:
    """Gets a field of a record, be it an object's or a dict's, or calls the function; the result raises BadRecordError
    when a record hasn't the field."""
    if callable(of):
        return of
    attribute, item = operator.attrgetter(of), operator.itemgetter(of)

    def get(record: Any) -> Any:
        try:
            return item(record) if isinstance(record, dict) else attribute(record)
        except (AttributeError, KeyError):
            raise BadRecordError(f"a record has no field {of!r}: {record!r:.200}") from None

    return get
