"""Each mistake in a topology is an error that names the operator and the user's own line - here, this file's."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamcore import BatchFunction, CoBatchFunction, CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment
from streamcore.errors import TopologyError

FILE = Path(__file__).name


@dataclass
class Reading:
    sensor: str
    celsius: float


@dataclass
class Other:
    sensor: str


class Nothing(ProcessFunction):
    def process(self, record, ctx):
        pass


class Both(CoProcessFunction):
    def process_first(self, record, ctx):
        ctx.emit(record)

    def process_second(self, record, ctx):
        ctx.emit(record)


@pytest.fixture
def env():
    return StreamEnvironment()


def here(offset=0):
    """`file:line` of the caller, `offset` lines away."""
    return f"{FILE}:{inspect.currentframe().f_back.f_lineno + offset}"


def refused(call, *parts):
    """The message of the error that `call` raises; it has all `parts`."""
    with pytest.raises(TopologyError) as caught:
        call()
    text = str(caught.value)
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"
    assert caught.value.exit_code == 2
    return text


def test_key_by_an_unknown_field(env):
    stream, place = env.from_values([], Reading), here()
    with pytest.raises(TopologyError) as caught:
        stream.key_by("sensr")
    line = here(-1)
    text = str(caught.value)
    assert f"key_by(sensr) ({line})" in text
    assert f"'values' ({place})" in text
    assert "no field 'sensr'" in text
    assert "sensor: string" in text  # the hint lists what there is


@pytest.mark.parametrize("key", [["sensor", "time"], (), None, 5, ("sensor", 3)])
def test_key_by_what_is_no_key(env, key):
    refused(lambda: env.from_values([], Reading).key_by(key), here(), f"key_by({key!r})", "a tuple of names")


def test_key_by_an_unknown_field_of_several(env):
    refused(lambda: env.from_values([], Reading).key_by(("sensor", "room")), here(), "'values'", "no field 'room'")


@pytest.mark.parametrize("method", ["map_batch", "filter_batch"])
def test_columns_of_an_untyped_stream(env, method):
    stream, place = env.from_values([1]), here()
    call, line = lambda: getattr(stream, method)(lambda c: c), here()
    refused(call, f"{method} ({line})", f"'values' ({place})", "has no type")


def test_a_batch_function_on_an_untyped_stream(env):
    class Columnar(BatchFunction):
        pass

    refused(lambda: env.from_values([1]).process(Columnar()), f"Columnar ({here()})", "'values'", "has no type")


def test_a_connected_batch_function_on_an_untyped_stream(env):
    class Columnar(CoBatchFunction):
        pass

    connected = env.from_values([], Reading).connect(env.from_values([1]))
    refused(lambda: connected.process(Columnar()), f"Columnar ({here()})", f"'values' ({here(-1)})", "has no type")


def test_map_batch_to_a_type_without_columns(env):
    refused(
        lambda: env.from_values([], Reading).map_batch(lambda c: c, returns=int), f"map_batch ({here()})", "no schema"
    )


def test_forward_with_unequal_parallelism(env):
    first, a = env.from_values([1]).map(lambda x: x).name("first").parallelism(2), here()
    first.forward().map(lambda x: x).name("second").parallelism(3)
    b = here(-1)
    refused(env.compile, f"'first' ({a})", f"'second' ({b})", "it is 2 and 3")


def test_a_loop_that_is_not_closed(env):
    with pytest.raises(TopologyError, match="is not closed") as caught, env.loop() as loop:
        env.from_values([1]).union(loop.feedback)
    assert here(-2) in str(caught.value)


def test_an_error_inside_a_loop_s_block_is_not_covered_up(env):
    with pytest.raises(ZeroDivisionError), env.loop():
        1 / 0  # noqa: B018


def test_a_loop_that_is_never_closed_without_a_block(env):
    loop, place = env.loop(), here()
    env.from_values([1]).union(loop.feedback)
    refused(env.compile, f"'loop' ({place})", "never closed")


def test_feedback_that_nobody_reads(env):
    with env.loop() as loop:
        place = here(-1)
        loop.close(env.from_values([1]).map(lambda x: x))
    refused(env.compile, f"'loop' ({place})", "nothing reads")


def test_an_operator_that_only_the_back_edge_reaches(env):
    with env.loop() as loop:
        back, place = loop.feedback.map(lambda x: x).name("back"), here()
        loop.close(env.from_values([1]).union(back))
    refused(env.compile, f"'back' ({place})", "only through the back edge")


def test_an_operator_that_only_two_back_edges_reach(env):
    first, second = env.loop(), env.loop()
    only, place = first.feedback.union(second.feedback), here()
    first.close(env.from_values([1]).union(only))
    second.close(only)
    refused(env.compile, f"'union' ({place})", "only through the back edge")


def test_closing_a_loop_with_records_of_another_type(env):
    loop = env.loop(Reading)
    refused(lambda: loop.close(env.from_values([], Other)), f"loop.close ({here()})", "celsius", "sensor")


def test_closing_a_loop_with_a_partitioned_stream(env):
    loop = env.loop(Reading)
    stream = env.from_values([], Reading).key_by("sensor")
    refused(lambda: loop.close(stream), f"loop.close ({here()})", "partitioned")


def test_two_operators_with_one_uid(env):
    env.from_values([1]).map(lambda x: x).uid("mine").filter(lambda x: x).uid("mine")
    refused(env.compile, "'mine'", f"'map' ({here(-1)})", f"'filter' ({here(-1)})")


def test_a_uid_that_another_operator_has_by_default(env):
    env.from_values([1]).map(lambda x: x).filter(lambda x: x).uid("map-1")
    refused(env.compile, "'map-1'", here(-1))


def test_union_of_different_types(env):
    a, b = env.from_values([], Reading), env.from_values([], Other)
    refused(lambda: a.union(b), f"union ({here()})", "celsius", "sensor")


@pytest.mark.parametrize("keyed", [0, 1])
def test_one_keyed_and_one_unkeyed_stream(env, keyed):
    streams = [env.from_values([], Reading), env.from_values([], Reading)]
    streams[keyed] = streams[keyed].key_by("sensor")
    refused(lambda: streams[0].connect(streams[1]).process(Both()), f"Both ({here()})", "keyed", "other is not")


def test_no_source(env):
    refused(env.compile, "no source", "env.source")
    refused(env.execute, "no source")


def test_max_parallelism_below_the_parallelism():
    env = StreamEnvironment(max_parallelism=4)
    env.from_values([1]).map(lambda x: x).parallelism(5)
    refused(env.compile, "max_parallelism is 4", "5", f"'map' ({here(-1)})")


@pytest.mark.parametrize("parallelism", [0, -1])
def test_parallelism_below_one(env, parallelism):
    stream = env.from_values([1]).map(lambda x: x)
    refused(lambda: stream.parallelism(parallelism), f"'map' ({here(-1)})", str(parallelism), "at least 1")


def test_bad_records_of_an_operator_that_is_no_source(env):
    refused(lambda: env.from_values([1]).map(lambda x: x).bad_records(), f"'map' ({here()})", "no source")


def test_a_field_that_has_no_column_form(env):
    @dataclass
    class Odd:
        thing: object

    Odd.__annotations__["thing"] = object
    refused(lambda: env.from_values([], Odd), "'thing'", "no column form")


def test_a_key_without_stable_hash_names_the_type(env):
    stream = StreamEnvironment(parallelism=2).from_values([[1], [2]]).key_by(lambda r: r).count()
    with pytest.raises(Exception, match="a key of type list has no stable hash") as caught:
        stream.execute_and_collect()
    assert FILE in str(caught.value)


def test_a_custom_partitioner_out_of_range(env):
    stream = StreamEnvironment(parallelism=2).from_values([1]).partition(lambda r, n: n).map(lambda x: x)
    with pytest.raises(Exception, match="chose subtask 2 of 2") as caught:
        stream.execute_and_collect()
    assert here(-3) in str(caught.value)


def test_a_column_that_is_not_there(env):
    stream = env.from_values([Reading("a", 1.0)], Reading).filter_batch(lambda c: c["kelvin"] > 0)
    with pytest.raises(TopologyError) as caught:
        stream.execute_and_collect()
    text = str(caught.value)
    assert f"'filter_batch' ({here(-4)})" in text
    assert "no column 'kelvin'" in text
    assert "sensor, celsius" in text


def test_side_output_of_a_type_without_schema_is_rows(env):
    assert env.from_values([1]).process(Nothing()).side_output(OutputTag("x", int)).schema is None


def test_state_of_a_stream_without_key(env):
    from streamcore import ValueState

    class Stateful(ProcessFunction):
        def open(self, ctx):
            self.seen = ctx.state(ValueState("seen", 0))

        def process(self, record, ctx):
            self.seen.set(self.seen.get() + 1)

    stream = env.from_values([1, 2]).process(Stateful())
    with pytest.raises(TopologyError) as caught:
        stream.execute_and_collect()
    assert f"'Stateful' ({here(-3)})" in str(caught.value)
    assert "key" in str(caught.value)
