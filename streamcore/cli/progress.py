"""How far a job is: a live line on a terminal, a log line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from streamcore.api.app import App
from streamcore.job.run import Observer
from streamcore.job.status import JobStatus

LIVE_INTERVAL_S = 0.25
LOG_INTERVAL_S = 5.0
RATE_WINDOW_S = 5.0

logger = logging.getLogger("streamcore.job")


class Progress:
    """The text of the line: what is known of the job, and the rate since some seconds ago."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._started_s: float | None = None
        self._epoch = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._checkpoint_id = 0
        self._checkpoint_seen_s = 0.0
        self._app_failed = False

    def line(self, status: JobStatus, now_s: float) -> str:
        """The line at a moment of a monotonic clock."""
        started_s = self._started_s = now_s if self._started_s is None else self._started_s
        parts = [f"{duration(now_s - started_s)} {status.state}"]
        parts.append(f"{status.records_read:,} records ({self._rate(status, now_s):,.0f}/s)")
        last = status.last_checkpoint
        if last is not None:
            if last.checkpoint_id != self._checkpoint_id:
                self._checkpoint_id, self._checkpoint_seen_s = last.checkpoint_id, now_s
            age = duration(now_s - self._checkpoint_seen_s)
            parts.append(f"checkpoint {last.checkpoint_id} {age} ago, took {last.duration_s * 1e3:,.0f} ms")
        if status.restarts:
            parts.append(f"restarts {status.restarts}")
        if status.bad_records:
            parts.append(f"bad records {status.bad_records:,}")
        if status.is_waiting:
            parts.append("waits for a service that can't be reached")
        parts += self._of_app(status)
        return " · ".join(parts)

    def _rate(self, status: JobStatus, now_s: float) -> float:
        if status.epoch != self._epoch:  # counters begin again in each attempt
            self._epoch = status.epoch
            self._samples.clear()
        self._samples.append((now_s, status.records_read))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - RATE_WINDOW_S:
            self._samples.popleft()
        (since_s, before), (_, after) = self._samples[0], self._samples[-1]
        return (after - before) / (now_s - since_s) if now_s > since_s else 0.0

    def _of_app(self, status: JobStatus) -> list[str]:
        if self._app.progress is None or self._app_failed:
            return []
        try:
            text = self._app.progress(status)
        except Exception as error:  # noqa: BLE001 - the app's own function: whatever it raises, the job goes on
            self._app_failed = True
            logger.warning("%s: progress raised %s: %s", self._app.name, type(error).__name__, error)
            return []
        return [text] if text else []


def progress_line(app: App) -> Observer:
    """Shows the progress of a job on stderr until it ends."""
    progress = Progress(app)
    console = Console(stderr=True)

    async def log(status: JobStatus) -> None:
        progress.line(status, time.monotonic())
        while True:
            await asyncio.sleep(LOG_INTERVAL_S)
            logger.info("%s", progress.line(status, time.monotonic()), extra={"job": status.job.name})

    async def live(status: JobStatus) -> None:
        spinner = Spinner("dots")
        # standard output is taken over only where it is the same terminal: a pipe must get what is printed
        one_terminal = sys.stdout.isatty()
        shown = Live(spinner, console=console, auto_refresh=False, transient=True, redirect_stdout=one_terminal)
        with shown, _logs_above():
            while True:
                spinner.update(text=Text(progress.line(status, time.monotonic())))
                shown.refresh()
                await asyncio.sleep(LIVE_INTERVAL_S)

    return live if console.is_terminal and not console.is_dumb_terminal else log


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def _logs_above() -> Iterator[None]:
    """Sends log lines through the stderr that `Live` has put in place, so that they come above the line."""
    handlers = [
        handler for handler in logging.getLogger("streamcore").handlers if isinstance(handler, logging.StreamHandler)
    ]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
