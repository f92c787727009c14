"""Sinks that work beside the stream, in whole jobs over a service that the test plays."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from streamcore import Checkpointing, StreamEnvironment
from streamcore.batch import to_rows
from streamcore.connectors.base import AsyncSinkWriter, JobStart, Sink
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import ConnectorError, FencedError, JobFailedError
from streamcore.job.restart import FixedDelay, NoRestart


class Service:
    """What is outside of the job. `gate`: answers wait for it."""

    def __init__(self):
        self.visible, self.prepared, self.done = [], {}, []
        self.gate = None
        self.writers, self.most_waiting = [], 0
        self.failures = {}
        self.numbers = itertools.count()

    def fails(self, call, error, times=1):
        self.failures[call] = [error] * times

    async def answer(self, call):
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures.get(call):
            raise self.failures[call].pop()


class ServiceSink(Sink):
    asynchronous = True

    def __init__(self, service, room=100):
        self.service, self.room, self.starts = service, room, []

    def prepare_job(self, start):
        self.starts.append(start)

    def writer(self, context):
        writer = Writer(self.service, self.room, context)
        self.service.writers.append(writer)
        return writer


class Writer(AsyncSinkWriter):
    def __init__(self, service, room, context):
        self.service, self.room, self.context = service, room, context
        self.rows, self.waiting, self.is_closed, self.tasks = [], 0, False, set()

    async def open(self, prepared):
        await self.service.answer("open")
        if prepared:
            await self.commit(prepared)

    def write(self, batch):
        rows = to_rows(batch)
        self.rows.extend(rows)
        self.waiting += len(rows)
        self.service.most_waiting = max(self.service.most_waiting, self.waiting)
        task = asyncio.get_running_loop().create_task(self.send(len(rows)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def send(self, count):
        try:
            await self.service.answer("send")
        except ConnectorError as error:
            self.context.fail(error)
        self.waiting -= count
        self.context.wake()

    @property
    def is_full(self):
        return self.waiting >= self.room

    async def durable(self, rows):
        await self.service.answer("prepare")
        handle = f"{self.context.subtask}-{self.context.epoch}-{next(self.service.numbers)}"
        self.service.prepared[handle] = rows
        return [handle] if rows else []

    def prepare(self):
        rows, self.rows = self.rows, []
        return self.durable(rows)

    async def commit(self, handles):
        await self.service.answer("commit")
        for handle in handles:
            if handle not in self.service.done:
                self.service.done.append(handle)
                self.service.visible += self.service.prepared.pop(handle)

    async def close(self):
        self.is_closed = True


def environment(directory=None, **options):
    kept = Checkpointing(str(directory), interval=0.02, timeout=5) if directory else None
    return StreamEnvironment(checkpoint=kept, batch_size=10, restart=options.pop("restart", NoRestart()), **options)


def run(env, service, records=500, room=100, then=None):
    sink = ServiceSink(service, room)
    stream = env.from_values(range(records))
    (stream.map(then, compiled=False) if then else stream).sink(sink).uid("out")
    return env.execute(), sink


def test_everything_is_committed_once_at_the_end_of_a_job_without_checkpoints():
    service = Service()
    _, sink = run(environment(parallelism=3), service)
    assert sorted(service.visible) == list(range(500))
    assert all(writer.is_closed for writer in service.writers)
    assert sink.starts == [JobStart(restored=False)]


def test_checkpoints_commit_as_the_job_runs(tmp_path):
    service = Service()
    run(environment(tmp_path), service, records=3000, then=lambda n: n)
    assert sorted(service.visible) == list(range(3000))
    assert not service.prepared.get("left")


def test_a_slow_service_holds_the_stream_up():
    service = Service()
    run(environment(), service, records=2000, room=30)
    assert sorted(service.visible) == list(range(2000))
    assert service.most_waiting <= 30 + 10  # a batch more than it has room for


def test_a_failure_restores_what_was_prepared_and_writes_the_rest_again(tmp_path):
    service, calls = Service(), itertools.count()

    def fails_once(record):
        if next(calls) == 2500:
            raise RuntimeError("once")
        return record

    result, _ = run(environment(tmp_path, restart=FixedDelay(3, 0.01)), service, records=4000, then=fails_once)
    assert result.restarts == 1
    assert sorted(service.visible) == list(range(4000))
    assert all(writer.is_closed for writer in service.writers)


@pytest.mark.parametrize("call", ["open", "prepare", "commit", "send"])
def test_what_fails_beside_the_stream_fails_the_job_with_the_operators_name(call):
    service = Service()
    service.fails(call, ConnectorError("the service says no"))
    with pytest.raises(ConnectorError, match=r"operator .ServiceSink. \(.*py:\d+\): the service says no"):
        run(environment(), service)
    assert all(writer.is_closed for writer in service.writers)


@pytest.mark.parametrize("call", ["open", "prepare", "commit", "send"])
def test_a_job_with_checkpoints_tries_again(tmp_path, call):
    service = Service()
    service.fails(call, ConnectorError("not now"))
    result, _ = run(environment(tmp_path, restart=FixedDelay(3, 0.01)), service, records=1000)
    assert result.restarts == 1
    assert sorted(service.visible) == list(range(1000))


def test_a_sink_that_was_fenced_ends_the_job_for_good(tmp_path):
    service = Service()
    service.fails("commit", FencedError("another job writes there now"))
    with pytest.raises(FencedError, match="another job writes there now"):
        run(environment(tmp_path, restart=FixedDelay(3, 0.01)), service)


@pytest.mark.parametrize("call", ["open", "prepare", "commit"])
def test_a_writer_that_has_failed_may_leave_what_it_began_undone(call):
    class Hangs(ServiceSink):
        def writer(self, context):
            writer = super().writer(context)

            async def hang(*_):
                context.fail(ConnectorError("the service is gone"))
                await asyncio.get_running_loop().create_future()

            setattr(writer, call, hang)
            return writer

    env = environment()
    env.from_values(range(10)).sink(Hangs(Service()))
    with pytest.raises(ConnectorError, match="the service is gone"):
        env.execute()


def test_closing_is_not_cut_short_by_the_failure_of_another_subtask():
    service, closed = Service(), []

    class ClosesSlowly(ServiceSink):
        def writer(self, context):
            writer = super().writer(context)

            async def close():
                for _ in range(2000 * context.subtask):
                    await asyncio.sleep(0)
                closed.append(context.subtask)

            writer.close = close
            return writer

    def fails(record):
        raise RuntimeError("no")

    env = environment(parallelism=2)
    env.from_values(range(100)).rebalance().map(fails, compiled=False).sink(ClosesSlowly(service))
    with pytest.raises(JobFailedError, match="RuntimeError: no"):
        env.execute()
    assert sorted(closed) == [0, 1]


def test_checkpoints_that_come_to_nothing_in_an_outage_are_no_failures_and_leave_nothing(tmp_path):
    service, writing = Service(), []

    class Away(ServiceSink):
        """Its service goes away, and is back when two checkpoints have come to nothing."""

        def writer(self, context):
            writer = super().writer(context)
            durable = writer.durable

            async def late(rows):
                service.gate = service.gate or asyncio.Event()
                context.waiting("the service")
                await service.gate.wait()
                context.waiting(None)
                return await durable(rows)

            writer.durable = late
            return writer

    async def watch(status):
        while status.checkpoint_failures < 2:
            await asyncio.sleep(0.01)
        writing.append(sum("_write_and_acknowledge" in str(task.get_coro()) for task in asyncio.all_tasks()))
        service.gate.set()

    checkpoint = Checkpointing(str(tmp_path), interval=0.6, timeout=0.6, tolerable_failures=0)
    env = StreamEnvironment(checkpoint=checkpoint, restart=NoRestart())
    env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), 1500, 500)).sink(
        Away(service, room=1_000_000)
    )
    env.execute((watch,))
    assert sorted(service.visible) == list(range(1500))
    assert writing[0] <= 1


def test_a_users_failure_does_not_wait_for_commits_that_hang():
    service = Service()

    def fails(record):
        service.gate = asyncio.Event()  # from now on nobody answers
        raise RuntimeError("no")

    with pytest.raises(JobFailedError, match="RuntimeError: no"):
        run(environment(), service, then=fails)
