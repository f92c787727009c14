"""How a run begins: everything is open before the first record, and the result says how long that took."""

from __future__ import annotations

import asyncio
import time

import pytest

from streamcore import ProcessFunction, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.print_sink import PrintSink
from streamcore.errors import UserFunctionError
from streamcore.job.restart import FixedDelay

OPENING_S = 0.2


LOG: list[str] = []
"""Not in the functions: every subtask has a copy of its own."""


@pytest.fixture(autouse=True)
def empty_log():
    LOG.clear()


class SlowToOpen(ProcessFunction):
    """Notes when it is open."""

    def open(self, ctx):
        time.sleep(OPENING_S)
        LOG.append("opened")

    def process(self, record, ctx):
        ctx.emit(record)


class FailsToOpen(ProcessFunction):
    """The first time."""

    def open(self, ctx):
        LOG.append("open")
        if LOG.count("open") == 1:
            raise ValueError("not yet")

    def process(self, record, ctx):
        ctx.emit(record)


def noted(start, stop):
    LOG.append("read")
    return list(range(start, stop))


def hundred():
    return GeneratorSource(noted, count=100)


def test_no_record_is_read_before_every_operator_is_open():
    env = StreamEnvironment(parallelism=3)
    stream = env.source(hundred()).key_by(lambda x: x).process(SlowToOpen())
    assert sorted(env.execute_and_collect(stream)) == list(range(100))
    assert LOG[:4] == ["opened"] * 3 + ["read"]


def test_opening_counts_as_start(capsys):
    env = StreamEnvironment()
    env.source(hundred()).key_by(lambda x: x).process(SlowToOpen()).sink(PrintSink())
    result = env.execute()
    assert OPENING_S <= result.start_s < result.duration_s
    assert result.start_s + result.run_s <= result.duration_s


def test_running_counts_as_run(capsys):
    env = StreamEnvironment()
    env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), count=21, rate=100.0)).sink(PrintSink())
    result = env.execute()
    assert 0.19 <= result.run_s <= result.duration_s - result.start_s


def test_an_operator_that_fails_to_open_is_named():
    env = StreamEnvironment()
    stream = env.source(hundred()).key_by(lambda x: x).process(FailsToOpen()).name("late riser")
    with pytest.raises(UserFunctionError, match=r"late riser.*not yet"):
        env.execute_and_collect(stream)


def test_a_failure_to_open_is_restarted():
    env = StreamEnvironment(restart=FixedDelay(attempts=1, delay=0.0))
    stream = env.source(hundred()).key_by(lambda x: x).process(FailsToOpen())
    assert sorted(env.execute_and_collect(stream)) == list(range(100))
    assert LOG[:3] == ["open", "open", "read"]


@pytest.mark.parametrize("timeout", [0.0, 0.005])
def test_latency_markers_do_not_wait_for_a_record(timeout, capsys):
    """Two records, half a second apart: markers between them are sent when the source looks, not with the second."""
    statuses = []

    async def keep(status):
        statuses.append(status)
        await asyncio.get_running_loop().create_future()

    env = StreamEnvironment(latency_interval=1e-6, buffer_timeout=timeout)
    env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), count=2, rate=2.0)).key_by(
        lambda x: x
    ).count().sink(PrintSink())
    env.execute((keep,))
    (status,) = statuses
    latency = status.counters[1, 0].latency
    assert len(latency) >= 2
    assert latency.percentile(1.0) < 0.25
