"""async_map: look-ups that wait."""

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from streamcore import AsyncFunction, Retry, Schema, StreamEnvironment, count, monotonous, seconds, tumbling
from streamcore.errors import TopologyError, UserFunctionError
from streamcore.runtime.operators import async_map


@dataclass
class Reading:
    sensor: str
    time: int


@dataclass
class Located:
    sensor: str
    time: int
    room: int


def collect(values, function, **options):
    return StreamEnvironment().from_values(values).async_map(function, **options).execute_and_collect()


class Turns(AsyncFunction[int, int]):
    """Answers only when `together` calls wait at the same time, the newest first."""

    def __init__(self, together):
        self.together = together
        self.waiting = []
        self.most = 0

    async def call(self, record):
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == self.together:
            while self.waiting:
                self.waiting.pop().set_result(None)
                await asyncio.sleep(0)
        await answer
        return record


def test_results_in_the_order_of_the_records():
    assert collect(range(12), Turns(4), capacity=4) == list(range(12))


def test_results_as_the_answers_come():
    results = collect(range(12), Turns(4), capacity=4, ordered=False)
    assert sorted(results) == list(range(12))
    assert results != list(range(12))


def test_no_more_calls_at_a_time_than_the_capacity():
    waiting = set()

    async def call(record):
        waiting.add(record)
        assert len(waiting) <= 3
        await asyncio.sleep(0)
        waiting.discard(record)
        return record

    assert collect(range(40), call, capacity=3) == list(range(40))


def test_the_function_is_opened_before_the_first_call_and_closed_at_the_end(tmp_path):
    class Client(AsyncFunction[int, str]):
        async def open(self):
            await asyncio.sleep(0)
            self.session = "open"

        async def call(self, record):
            return self.session

        async def close(self):
            (tmp_path / "closed").touch()

    assert collect([1], Client()) == ["open"]
    assert (tmp_path / "closed").exists()


def test_the_function_is_closed_after_a_failure(tmp_path):
    class Client(AsyncFunction[int, str]):
        async def call(self, record):
            raise LookupError("nobody there")

        async def close(self):
            (tmp_path / "closed").touch()

    with pytest.raises(UserFunctionError, match=r"LookupError: nobody there on record 7"):
        collect([7], Client())
    assert (tmp_path / "closed").exists()


def test_a_failure_to_open_fails_the_job():
    class Client(AsyncFunction[int, str]):
        async def open(self):
            raise ConnectionRefusedError("no server")

        async def call(self, record):
            return ""

    with pytest.raises(UserFunctionError, match="no server"):
        collect([7], Client())


def test_a_failed_call_is_made_again():
    calls = []

    async def call(record):
        calls.append(record)
        if len(calls) < 3:
            raise ConnectionResetError
        return record

    assert collect([5], call, retry=Retry(attempts=3, delay=0.0)) == [5]
    assert calls == [5, 5, 5]


def test_the_last_attempt_counts():
    async def call(record):
        raise ConnectionResetError("again")

    with pytest.raises(UserFunctionError, match="again on record 5"):
        collect([5], call, retry=Retry(attempts=2, delay=0.0))


def test_other_failures_are_not_tried_again():
    calls = []

    async def call(record):
        calls.append(record)
        raise ValueError("wrong")

    with pytest.raises(UserFunctionError, match="wrong"):
        collect([5], call, retry=Retry(attempts=3, delay=0.0, on=(OSError,)))
    assert calls == [5]


async def never(record):
    await asyncio.get_running_loop().create_future()


def test_no_answer_in_time_fails_the_job():
    with pytest.raises(UserFunctionError, match="TimeoutError: no answer in time on record 9"):
        collect([9], never, timeout=0.001)


def test_no_answer_in_time_and_a_result_instead():
    class Patient(AsyncFunction[int, str]):
        async def call(self, record):
            await never(record)

        def timed_out(self, record):
            return f"no {record}"

    assert collect([1, 2], Patient(), timeout=0.001) == ["no 1", "no 2"]


def test_a_timeout_of_the_call_s_own_is_its_failure():
    async def call(record):
        raise TimeoutError("the server's")

    with pytest.raises(UserFunctionError, match="the server's"):
        collect([1], call)


def test_event_time_waits_for_the_answers():
    async def locate(reading: Reading) -> Located:
        for _ in range(reading.time % 7):
            await asyncio.sleep(0)
        return Located(reading.sensor, reading.time, reading.time // 100 % 2)

    env = StreamEnvironment(batch_size=3)
    readings = env.from_values([(str(i % 3), i * 100) for i in range(100)], Schema.of(sensor=str, time=int))
    located = readings.assign_watermarks(monotonous("time")).async_map(locate, ordered=False)
    counts = located.key_by("room").window(tumbling(seconds(1))).aggregate(count())
    assert sorted((r.room, r.window_start, r.count) for r in counts.execute_and_collect()) == [
        (room, start, 5) for room in (0, 1) for start in range(0, 10_000, 1000)
    ]


def test_what_makes_no_sense():
    stream = StreamEnvironment().from_values([1])
    with pytest.raises(TopologyError, match=r"async_map \(test_async_map.py:\d+\).*no coroutine function"):
        stream.async_map(lambda record: record)
    with pytest.raises(TopologyError, match="a timeout of 0 s"):
        stream.async_map(never, timeout=0)
    with pytest.raises(TopologyError, match="0 calls at a time"):
        stream.async_map(never, capacity=0)
    with pytest.raises(TopologyError, match="0 attempts"):
        Retry(attempts=0)


def test_a_cancelled_request_within_a_call_is_its_failure():
    async def call(record):
        request = asyncio.ensure_future(never(record))
        request.cancel()
        await request

    with pytest.raises(UserFunctionError, match="what the function waited for was cancelled on record 3"):
        collect([3], call)


def test_a_cancelled_request_within_open_is_a_failure():
    class Client(AsyncFunction[int, int]):
        async def open(self):
            request = asyncio.ensure_future(never(None))
            request.cancel()
            await request

        async def call(self, record):
            return record

    with pytest.raises(UserFunctionError, match="what the function waited for was cancelled"):
        collect([3], Client())


def test_a_call_that_takes_the_cancellation_for_a_failure_is_cancelled_again(monkeypatch):
    monkeypatch.setattr(async_map, "_CANCEL_AGAIN_S", 0.001)

    async def call(record):
        if record == 0:
            raise LookupError("nobody there")
        for _ in range(2):
            with contextlib.suppress(BaseException):
                await never(record)
        await never(record)

    with pytest.raises(UserFunctionError, match="nobody there on record 0"):
        collect([0, 1], call, ordered=False)


class Breaks(AsyncFunction[int, int]):
    """Can't be closed."""

    async def call(self, record):
        if record < 0:
            raise LookupError("nobody there")
        return record

    async def close(self):
        raise OSError("broken pipe")


def test_a_failure_to_close_names_the_operator():
    with pytest.raises(
        UserFunctionError, match=r"operator 'async_map' \(test_async_map.py:\d+\): OSError: broken pipe"
    ):
        collect([1], Breaks())


def test_a_failure_to_close_does_not_hide_why_the_job_failed():
    with pytest.raises(UserFunctionError, match="LookupError: nobody there on record -1"):
        collect([-1], Breaks())
