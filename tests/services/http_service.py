"""An HTTP server of the tests' own, in a thread: it answers as a test says, and can be stopped and started again."""

import asyncio
import inspect
import threading
from dataclasses import dataclass

from aiohttp import web

DROP = object()
"""An answer: the connection is closed without one."""


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict
    body: bytes


class HttpService:
    """`answer(received)` gives a status, (status, headers), (status, headers, text) or DROP; it may be a coroutine,
    which runs in the server's loop. `stream(request)`, if it is set, handles requests itself."""

    def __init__(self, tls=None):
        self.received = []
        self.answer = lambda _: 200
        self.stream = None
        self.port = 0
        self.running, self.most_running = 0, 0
        self._tls = tls
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner = None
        self._handling = set()

    def start(self):
        self.call(self._start())
        return self

    def stop(self):
        """Ends all connections at once."""
        if self._runner is not None:
            self.call(self._stop())

    def end(self):
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, coroutine):
        """Runs a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http{'s' if self._tls else ''}://{self.host}/in"

    @property
    def bodies(self):
        return [one.body for one in self.received]

    def wait_for(self, count, timeout_s=20):
        """Waits until so many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, timeout_s), self.received

    async def has(self, count):
        """`wait_for` from a coroutine."""
        await asyncio.to_thread(self.wait_for, count)

    async def _start(self):
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def _stop(self):
        runner, self._runner = self._runner, None
        for connection in runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        for task in self._handling:
            task.cancel()
        await runner.cleanup()

    async def _handle(self, request):
        task = asyncio.current_task()
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        body = await request.read()
        received = Received(request.method, request.path_qs, dict(request.headers), body)
        with self._changed:
            self.received.append(received)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self._changed.notify_all()
        try:
            if self.stream is not None:
                return await self.stream(request)
            answer = self.answer(received)
            if inspect.isawaitable(answer):
                answer = await answer
        finally:
            self.running -= 1
        if answer is DROP:
            request.transport.abort()
            answer = 200
        status, headers, text = (*answer, "")[:3] if isinstance(answer, tuple) else (answer, {}, "")
        return web.Response(status=status, headers=headers, text=text)
