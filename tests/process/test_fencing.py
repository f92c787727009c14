"""Two runs of one job: the older one, stopped and woken, must not touch anything; old messages count for nothing."""

import asyncio
import contextlib
import dataclasses
import os
import signal
from pathlib import Path

import process_jobs as jobs
import pytest
from process_harness import counted, is_alive, until

from streamcore import Checkpointing, StreamEnvironment
from streamcore.connectors.file_sink import read_jsonl
from streamcore.errors import FencedError, JobFailedError
from streamcore.job.config import RunConfig
from streamcore.job.coordinator import Coordinator
from streamcore.job.links import LocalWorkers
from streamcore.job.restart import FixedDelay
from streamcore.runtime.messages import Acknowledge, Closed, Failed, Finished
from streamcore.runtime.services import Services
from streamcore.runtime.worker import Worker

RECORDS = 2400


def content(directory):
    """Every visible file below a directory, with its bytes and the time of its last change; a late survivor may
    leave hidden parts, which nobody reads."""
    files = [path for path in Path(directory).rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_run_that_was_stopped_and_woken_finds_that_another_has_taken_over(runs):
    old = runs.start("numbers", "--workers", "2", records=RECORDS, rate=500)
    old.wait_for("checkpoint complete", count=2)
    group = [old.process.pid, *old.workers]
    assert len(group) == 3
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    new = runs.start("numbers", "--workers", "2", restore="latest", records=RECORDS, rate=1e6).expect(0)
    assert "finished: " in new.text
    assert counted(runs.rows("rows")) == counted(jobs.expected_rows(RECORDS))
    output, log = content(runs.output), content(runs.checkpoints / "log")
    before = old.text
    for pid in group:
        os.kill(pid, signal.SIGCONT)
    old.expect(4)
    said = old.text[len(before) :]
    assert f"error: another run of the job has taken over {runs.checkpoints}; this one stops" in said
    assert "Traceback" not in said
    assert "restarting" not in said
    until(lambda: not any(is_alive(pid) for pid in group[1:]), "the end of the old workers")
    assert content(runs.output) == output
    assert content(runs.checkpoints / "log") == log
    assert counted(runs.rows("rows")) == counted(jobs.expected_rows(RECORDS))
    assert counted(runs.rows("counts")) == counted(jobs.expected_counts(RECORDS))


def test_a_second_run_fences_off_one_that_runs_at_the_same_time(tmp_path):
    """In one process, so that the order is known: the second starts when the first has a checkpoint."""
    checkpointing = Checkpointing(str(tmp_path / "checkpoints"), interval=0.03)

    async def main():
        first = coordinator(tmp_path, RunConfig(checkpointing=checkpointing))
        running = asyncio.create_task(first.run())
        await reached(lambda: first.status.checkpoints >= 1)
        second = coordinator(tmp_path, RunConfig(checkpointing=checkpointing, restore="latest"))
        results = await asyncio.gather(running, second.run(), return_exceptions=True)
        return first, second, results

    first, second, (error, result) = asyncio.run(main())
    assert isinstance(error, FencedError)
    assert (first.status.restarts, second.status.restarts) == (0, 0)
    assert second.status.epoch >> 16 == (first.status.epoch >> 16) + 1
    assert result.records_read < RECORDS
    assert counted(read_jsonl(tmp_path / "out" / "rows")) == counted(jobs.expected_rows(RECORDS))
    assert counted(read_jsonl(tmp_path / "out" / "counts")) == counted(jobs.expected_counts(RECORDS))


def job(tmp_path):
    env = StreamEnvironment("numbers", parallelism=2)
    jobs.numbers(env, output=str(tmp_path / "out"), records=RECORDS, rate=8000)
    return env.compile()


def coordinator(tmp_path, config):
    services = Services()
    return Coordinator(job(tmp_path), config, LocalWorkers(services), services)


async def reached(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


class Meddler:
    """One local worker whose messages of a kind arrive with an epoch that is too low by `stale`."""

    count = 1
    data_address = ""

    def __init__(self, kind, stale):
        self._kind = kind
        self._stale = stale
        self.seen = []

    async def start(self, number, post):
        def report(message):
            if isinstance(message, self._kind):
                message = dataclasses.replace(message, epoch=message.epoch - self._stale)
                self.seen.append(message)
            post(message)

        self._worker = Worker(number, report, Services())
        self._task = asyncio.create_task(self._worker.run())
        return self

    def send(self, message):
        self._worker.post(message)

    async def close(self):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.mark.parametrize(("kind", "records"), [(Acknowledge, None), (Finished, 200), (Closed, 200)])
def test_messages_of_an_attempt_before_count_for_nothing(tmp_path, kind, records):
    """What the coordinator waits for comes from every subtask, but with an epoch that is over."""
    env = StreamEnvironment("numbers", parallelism=2)
    if records is None:
        jobs.endless(env, output=str(tmp_path / "out"), rate=5000)
    else:
        jobs.numbers(env, output=str(tmp_path / "out"), records=records, rate=50_000)
    spec = env.compile()

    async def main(stale):
        directory = str(tmp_path / f"checkpoints-{stale}")
        config = RunConfig(checkpointing=Checkpointing(directory, interval=0.03))
        meddler = Meddler(kind, stale)
        made = Coordinator(spec, config, meddler, Services())
        running = asyncio.create_task(made.run())

        def got_past():
            return running.done() or (kind is Acknowledge and made.status.checkpoints > 0)

        if stale:
            await reached(lambda: {message.subtask for message in meddler.seen} == set(spec.subtasks()) or got_past())
            await asyncio.sleep(0.05)  # whatever the last message sets off
        else:
            await reached(got_past)
        moved = got_past()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return moved

    assert asyncio.run(main(stale=0)), "the control, with the right epoch, got stuck"
    assert not asyncio.run(main(stale=1))


def test_a_failure_of_an_attempt_before_does_not_end_this_one(tmp_path):
    """A late `Failed` for the attempt before, and an acknowledgement of a pending checkpoint by nobody."""
    config = RunConfig(
        checkpointing=Checkpointing(str(tmp_path / "checkpoints"), interval=0.02), restart=FixedDelay(attempts=0)
    )

    async def main(stale):
        made = coordinator(tmp_path, config)
        running = asyncio.create_task(made.run())
        await reached(lambda: made.status.checkpoints >= 1)
        made._events.put_nowait(Failed(made._epoch - stale, (0, 0), JobFailedError("of an attempt before")))
        return await running

    result = asyncio.run(main(stale=1))
    assert (result.restarts, result.records_read) == (0, RECORDS)
    with pytest.raises(JobFailedError, match="of an attempt before"):  # the same with the epoch of this one does
        asyncio.run(main(stale=0))
