"""The writer of `HttpSink`: workers that send requests beside the stream, each until it has been answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from streamcore.batch import Batch, to_rows
from streamcore.connectors.base import AsyncSinkWriter, SinkContext
from streamcore.connectors.blocks import shorten
from streamcore.connectors.json_source import encode_json_lines
from streamcore.connectors.outage import Outage
from streamcore.connectors.progress import Progress
from streamcore.connectors.web.address import shown
from streamcore.connectors.web.answers import Verdict, blames_content, reason, retry_after_s, verdict
from streamcore.connectors.web.failures import explain, is_outage
from streamcore.connectors.web.http_sink import HttpSink, getter
from streamcore.connectors.web.lanes import Lane, Request
from streamcore.errors import BadRecordError, ConnectorError, UsageError

logger = logging.getLogger("streamcore.connectors")

_QUEUED_REQUESTS = 4
"""Requests that wait for each one that is being sent: enough that no worker is ever without one."""
_SHOWN_BYTES = 200
_SHORT_S = 1.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of sending a request once; `why` has no secret of ours in it."""

    verdict: Verdict
    why: str = ""
    wait_s: float = 0.0
    blames_content: bool = False


class HttpWriter(AsyncSinkWriter):
    """Delivers the records of one subtask; see `HttpSink`."""

    def __init__(self, sink: HttpSink, context: SinkContext) -> None:
        self._sink = sink
        self._context = context
        self._shown = shown(sink.url)
        self._outage = Outage(context.waiting, f"HTTP service at {self._shown}")
        self._progress = Progress()
        self._room = sink.concurrency * sink.batch * _QUEUED_REQUESTS
        self._was_full = False
        self._key = getter(sink.idempotency_key) if sink.idempotency_key is not None else None
        self._order = getter(sink.ordered_by) if sink.ordered_by is not None else None
        self._lanes: list[Lane] = []
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._resume_at = 0.0
        self._away = 0  # requests that wait for the service
        self._dropped = 0

    async def open(self, prepared: Sequence[Any]) -> None:
        """Starts the workers; nothing is connected before there's something to send."""
        sink, loop = self._sink, asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=sink.concurrency),
            timeout=aiohttp.ClientTimeout(total=sink.timeout_s),
            headers=sink.headers,
        )
        count = sink.concurrency if self._order is not None else 1
        self._lanes = [Lane(sink.batch, sink.linger_s, loop.call_later) for _ in range(count)]
        for number in range(sink.concurrency):
            worker = loop.create_task(self._work(self._lanes[number % count]), name=f"{self._shown} {number}")
            worker.add_done_callback(self._ended)
            self._workers.append(worker)

    def write(self, batch: Batch) -> None:
        """Queues the records.

        Raises:
            BadRecordError: a record has no JSON form, or lacks a field that is asked for.
        """
        records = to_rows(batch)
        for record, encoded in zip(records, encode_json_lines(records).split(b"\n"), strict=False):
            key = str(self._key(record)) if self._key is not None else None
            if key is not None and not (key.isascii() and key.isprintable()):
                raise BadRecordError(f"the idempotency key {key!r:.200} can't be sent in a header", hint="use ASCII")
            self._lanes[self._lane_of(record)].add(encoded, self._progress.begin(), key)

    @property
    def is_full(self) -> bool:
        """Whether enough is queued."""
        self._was_full = self._progress.pending >= self._room
        return self._was_full

    def prepare(self) -> asyncio.Future[Sequence[Any]]:
        """Done when all that was written has been answered; there is nothing to commit."""
        for lane in self._lanes:
            lane.seal()
        return asyncio.ensure_future(self._answered(self._progress.cut()))

    async def close(self) -> None:
        """Drops what hasn't been sent, and the connections."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._dropped:
            logger.warning("%s refused %d records in all, which were dropped", self._shown, self._dropped)

    def _lane_of(self, record: Any) -> int:
        if self._order is None:
            return 0
        value = self._order(record)
        try:
            return hash(value) % len(self._lanes)
        except TypeError:
            raise UsageError(f"records can't be ordered by {value!r:.200}", hint="use a text or a number") from None

    @staticmethod
    async def _answered(cut: asyncio.Future[None]) -> Sequence[Any]:
        await cut
        return []

    def _ended(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and isinstance(error := worker.exception(), Exception):
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._progress.fail(error)
        self._context.fail(error)

    async def _work(self, lane: Lane) -> None:
        while True:
            request = await lane.next()
            await self._deliver(request)
            for number in request.numbers:
                self._progress.answered(number)
            if self._was_full and not self.is_full:
                self._context.wake()

    async def _deliver(self, request: Request) -> None:
        away = failures = 0
        while True:
            await self._wait_for_turn()
            answer = await self._send(request)
            if answer.verdict is Verdict.LATER:
                self._away += away == 0
                away += 1
                if away > 1 or answer.wait_s > _SHORT_S:  # one request of many that is sent again is no outage
                    self._outage.begin(answer.why)
                await asyncio.sleep(self._hold(self._sink.backoff.delay_s(away), answer.wait_s))
                continue
            self._away -= away > 0
            away = 0
            if self._away == 0:  # else others would begin it again at once
                self._outage.end()
            if answer.verdict is Verdict.DONE:
                return
            failures += 1
            if answer.verdict is Verdict.REFUSED or failures >= self._sink.attempts:
                self._refused(request, answer, failures)
                return
            await asyncio.sleep(self._hold(self._sink.backoff.delay_s(failures), answer.wait_s))

    def _hold(self, delay_s: float, asked_s: float) -> float:
        """Seconds that a request waits; what the service asks for holds all requests back."""
        if asked_s > 0:
            self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + asked_s)
        return max(delay_s, asked_s)

    async def _wait_for_turn(self) -> None:
        while (left := self._resume_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)

    async def _send(self, request: Request) -> _Answer:
        assert self._session is not None, "a request before the writer was open"
        headers = {} if request.key is None else {self._sink.idempotency_header: request.key}
        try:
            async with self._session.request(
                self._sink.method, self._sink.url, data=self._body(request), headers=headers, allow_redirects=False
            ) as response:
                found = verdict(response.status)
                if found is Verdict.DONE:
                    return _Answer(found)
                wait_s = retry_after_s(response.headers.get("Retry-After"))
                why = reason(response.status)
                if found is not Verdict.LATER and (text := shorten(await response.content.read(_SHOWN_BYTES))):
                    why += f": {text}"
                return _Answer(found, why, wait_s, blames_content(response.status))
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            if not is_outage(error):
                # its own text may be the URL
                raise ConnectorError(f"can't send to {self._shown}: {explain(error)}") from None
            return _Answer(Verdict.LATER, explain(error))

    def _body(self, request: Request) -> bytes:
        match self._sink.body:
            case "record":
                return request.records[0]
            case "array":
                return b"[" + b",".join(request.records) + b"]"
            case "lines":
                return b"\n".join(request.records) + b"\n"

    def _refused(self, request: Request, answer: _Answer, times: int) -> None:
        first = shorten(request.records[0])
        what = f"{self._shown} refused {len(request.records)} record(s) with {answer.why}"
        if self._sink.on_refused == "fail":
            sent = f" (sent {times} times)" if times > 1 else ""
            kind = BadRecordError if answer.blames_content else ConnectorError
            raise kind(f"{what}{sent}; the first: {first}", hint='on_refused="drop" leaves such records out')
        before, self._dropped = self._dropped, self._dropped + len(request.records)
        # the first one, and then each time there are ten times as many
        if len(str(before)) < len(str(self._dropped)) or before == 0:
            logger.warning("%s, dropped, %d so far; the first: %s", what, self._dropped, first)
