"""A user's function that raises: the error names the operator and record, and keeps the user's traceback alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import streamcore
from streamcore import BatchFunction, CoProcessFunction, FixedDelay, ProcessFunction, StreamEnvironment
from streamcore.errors import JobFailedError, UserFunctionError

FILE = Path(__file__).name
ENGINE = str(Path(streamcore.__file__).parent)


@dataclass
class Reading:
    sensor: str
    celsius: float


def helper(record):
    return 100 // record  # the line at fault


def divide(record):
    return helper(record)


def failure(stream):
    with pytest.raises(UserFunctionError) as caught:
        stream.execute_and_collect()
    return caught.value


def check(error, operator, record):
    assert f"operator {operator!r} ({FILE}:" in error.message
    assert "ZeroDivisionError" in error.message
    assert f"on record {record}" in error.message
    assert "return 100 // record  # the line at fault" in error.traceback_text
    assert "in helper" in error.traceback_text
    assert ENGINE not in error.traceback_text, "frames of the engine are shown to the user"
    assert error.exit_code == 1


@pytest.mark.parametrize("parallelism", [1, 2])
def test_in_map(parallelism):
    env = StreamEnvironment(parallelism=parallelism)
    error = failure(env.from_values([5, 3, 0, 7]).rebalance().map(divide))
    check(error, "map", "0")
    assert "in divide" in error.traceback_text
    assert error.traceback_text.rstrip().endswith("ZeroDivisionError: integer division or modulo by zero")


def test_in_filter():
    check(failure(StreamEnvironment().from_values([1, 0]).filter(divide)), "filter", "0")


def test_in_flat_map_s_generator():
    def spread(record):
        yield 1
        yield helper(record)

    check(failure(StreamEnvironment().from_values([1, 0, 2]).flat_map(spread)), "flat_map", "0")


def test_in_the_middle_of_a_chain_the_operator_s_own_name_is_said():
    stream = StreamEnvironment().from_values([1, 2]).map(lambda x: x - 1).map(divide).name("risky").map(str)
    check(failure(stream), "risky", "0")


def test_in_reduce_and_scan():
    values = StreamEnvironment().from_values([1, 2, 0])
    check(failure(values.key_by(lambda x: 0).reduce(lambda a, b: helper(b))), "reduce", "0")
    values = StreamEnvironment().from_values([1, 2, 0])
    check(failure(values.key_by(lambda x: 0).scan(0, lambda s, x: (s, helper(x)))), "scan", "0")


def test_in_a_process_function():
    class Risky(ProcessFunction):
        def process(self, record, ctx):
            helper(record)

    check(failure(StreamEnvironment().from_values([3, 0]).process(Risky())), "Risky", "0")


def test_in_a_connected_function():
    class Risky(CoProcessFunction):
        def process_first(self, record, ctx):
            pass

        def process_second(self, record, ctx):
            helper(record)

    env = StreamEnvironment()
    check(failure(env.from_values([0]).connect(env.from_values([0])).process(Risky())), "Risky", "0")


def test_in_a_partition_function():
    stream = StreamEnvironment(parallelism=2).from_values([5, 0]).partition(lambda r, n: helper(r) % n).map(str)
    error = failure(stream)
    assert "on record 0" in error.message
    assert ENGINE not in error.traceback_text


def test_in_a_key_function():
    stream = StreamEnvironment(parallelism=2).from_values([5, 0]).key_by(divide).count()
    error = failure(stream)
    assert "on record 0" in error.message
    assert f"({FILE}:" in error.message
    assert "in helper" in error.traceback_text


@pytest.mark.parametrize("place", ["open", "finish", "on_timer", "close"])
def test_in_the_other_methods_of_a_function(place):
    def fail(self, *arguments):
        helper(0)

    class Base(ProcessFunction):
        def process(self, record, ctx):
            ctx.register_timer(1)

    function = type("Risky", (Base,), {place: fail})()
    with pytest.raises(JobFailedError) as caught:
        StreamEnvironment().from_values([1]).key_by(lambda x: x).process(function).execute_and_collect()
    assert "ZeroDivisionError" in caught.value.message
    if place != "close":
        assert f"operator 'Risky' ({FILE}:" in caught.value.message
        assert "the line at fault" in caught.value.traceback_text


def test_in_a_batch_function():
    class Risky(BatchFunction):
        def process(self, columns, ctx):
            helper(0)

    error = failure(StreamEnvironment().from_values([Reading("a", 1.0)], Reading).process(Risky()))
    assert f"operator 'Risky' ({FILE}:" in error.message
    assert ENGINE not in error.traceback_text


def test_in_the_user_s_iterable():
    def values():
        yield 1
        helper(0)

    error = failure(StreamEnvironment().from_values(values).map(str))
    assert f"operator 'values' ({FILE}:" in error.message
    assert "in values" in error.traceback_text


def test_a_typed_record_is_shown_as_the_user_made_it():
    stream = StreamEnvironment().from_values([Reading("a", 0.0)], Reading).filter_batch(lambda c: c["celsius"] < 1)
    error = failure(stream.map(lambda r: 1 / r.celsius))
    assert "on record Reading(sensor='a', celsius=0.0)" in error.message


def test_a_long_record_is_shortened():
    error = failure(StreamEnvironment().from_values(["x" * 5000]).map(lambda r: 1 / 0))
    assert "on record 'xxxx" in error.message
    assert len(error.message) < 500


def test_every_restart_calls_the_function_again_and_the_last_error_is_raised():
    calls = []

    def fail(record):
        calls.append(record)
        raise KeyError(len(calls))

    env = StreamEnvironment(restart=FixedDelay(attempts=2, delay=0.0))
    with pytest.raises(UserFunctionError, match="KeyError: 3"):
        env.from_values([7]).map(fail).execute_and_collect()
    assert calls == [7, 7, 7]


def test_a_restart_without_checkpoints_starts_over_and_results_come_once():
    calls = []

    def fail_once(record):
        calls.append(record)
        if len(calls) == 3:
            raise KeyError(record)
        return record

    env = StreamEnvironment(restart=FixedDelay(attempts=2, delay=0.0), batch_size=2)
    assert sorted(env.from_values([1, 2, 3, 4]).map(fail_once).execute_and_collect()) == [1, 2, 3, 4]


def test_the_user_s_exception_is_the_cause():
    def fail(record):
        raise KeyError(record)

    with pytest.raises(UserFunctionError) as caught:
        StreamEnvironment().from_values([1]).map(fail).execute_and_collect()
    assert isinstance(caught.value.__cause__, KeyError)
