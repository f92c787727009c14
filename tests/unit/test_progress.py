from __future__ import annotations

import asyncio
import io
import logging

import pytest
from rich.console import Console

from streamcore import App
from streamcore.cli.progress import Progress, duration, progress_line
from streamcore.job.status import CheckpointStats, JobStatus
from streamcore.logs import configure_logging
from streamcore.runtime.counters import Counters
from streamcore.runtime.spec import JobSpec, VertexSpec

PLAIN = App("a", lambda env: None)


@pytest.fixture
def status():
    vertices = (VertexSpec(0, "source", (), 1, 128, splits=()), VertexSpec(1, "sink", (), 1, 128))
    return JobStatus(JobSpec("j", vertices, ()), state="running", epoch=1)


@pytest.fixture
def logger(monkeypatch):
    """streamcore's logger, open to caplog; as before afterwards."""
    logger = logging.getLogger("streamcore")
    before = logger.handlers[:], logger.level, logger.propagate
    logger.propagate = True
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def watch(observe, status, seconds):
    async def main():
        watching = asyncio.ensure_future(observe(status))
        await asyncio.wait([watching], timeout=seconds)
        assert not watching.done(), watching.exception()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(main())


def test_the_line_has_rate_checkpoint_restarts_and_the_apps_text(status):
    progress = Progress(App("a", lambda env: None, progress=lambda status: f"epoch {status.epoch}"))
    assert progress.line(status, 100.0) == "0:00 running · 0 records (0/s) · epoch 1"
    status.counters = {(0, 0): Counters(records_in=5000, bad_records=2), (1, 0): Counters(records_in=77)}
    status.last_checkpoint = CheckpointStats(3, 0.25, 10, 0.0, 0.0)
    status.restarts = 1
    assert progress.line(status, 102.0) == (
        "0:02 running · 5,000 records (2,500/s) · checkpoint 3 0:00 ago, took 250 ms"
        " · restarts 1 · bad records 2 · epoch 1"
    )
    assert "checkpoint 3 0:07 ago" in progress.line(status, 109.0)
    assert "(0/s)" in progress.line(status, 116.0)


def test_the_rate_is_of_the_last_seconds(status):
    progress = Progress(PLAIN)
    for second in range(20):
        status.counters = {(0, 0): Counters(records_in=1000 * min(second, 10) + 10 * max(0, second - 10))}
        line = progress.line(status, float(second))
    assert "10,090 records (10/s)" in line


def test_it_says_so_while_a_service_is_waited_for(status):
    progress = Progress(PLAIN)
    status.counters = {(0, 0): Counters(), (0, 1): Counters(waiting_for=("Kafka",))}
    assert "waits for a service that can't be reached" in progress.line(status, 0.0)
    status.counters = {(0, 0): Counters(), (0, 1): Counters()}
    assert "waits" not in progress.line(status, 1.0)


def test_the_rate_starts_again_with_an_attempt(status):
    progress = Progress(PLAIN)
    status.counters = {(0, 0): Counters(records_in=1_000_000)}
    progress.line(status, 0.0)
    status.epoch, status.counters = 2, {(0, 0): Counters(records_in=100)}
    assert "100 records (0/s)" in progress.line(status, 1.0)
    status.counters = {(0, 0): Counters(records_in=300)}
    assert "300 records (200/s)" in progress.line(status, 2.0)


def test_an_apps_progress_that_raises_is_reported_once(status, caplog, logger):
    progress = Progress(App("a", lambda env: None, progress=lambda status: status.no_such_thing))
    lines = [progress.line(status, float(now)) for now in range(3)]
    assert all("records" in line for line in lines)
    assert [record.getMessage() for record in caplog.records] == [
        "a: progress raised AttributeError: 'JobStatus' object has no attribute 'no_such_thing'"
    ]


def test_off_a_terminal_it_is_a_log_line_with_the_job(status, caplog, logger, monkeypatch):
    monkeypatch.setattr("streamcore.cli.progress.LOG_INTERVAL_S", 0.02)
    status.counters = {(0, 0): Counters(records_in=42)}
    watch(progress_line(PLAIN), status, 0.5)
    assert len(caplog.records) >= 2
    assert "running · 42 records (" in caplog.records[0].getMessage()
    assert {(record.name, record.job) for record in caplog.records} == {("streamcore.job", "j")}


def test_on_a_terminal_it_is_a_live_line_with_the_logs_above(status, logger, monkeypatch, capsys):
    monkeypatch.setattr("streamcore.cli.progress.LIVE_INTERVAL_S", 0.02)
    terminal = io.StringIO()
    wide = {"force_terminal": True, "width": 200, "_environ": {"TERM": "xterm"}}
    monkeypatch.setattr("streamcore.cli.progress.Console", lambda stderr: Console(file=terminal, **wide))
    configure_logging()
    (handler,) = logger.handlers
    before = handler.stream
    observe = progress_line(App("a", lambda env: None, progress=lambda status: "[bold]as it is"))

    async def log_beside(status):
        asyncio.get_running_loop().call_later(0.1, logging.getLogger("streamcore.job").info, "a log line")
        await observe(status)

    watch(log_beside, status, 0.5)
    shown = terminal.getvalue()
    assert "running · 0 records (0/s) · [bold]as it is" in shown
    assert "INFO a log line" in shown
    assert "a log line" not in capsys.readouterr().err
    assert handler.stream is before


def test_durations_are_short():
    assert [duration(value) for value in (0.9, 61, 3723.5)] == ["0:00", "1:01", "1:02:03"]
