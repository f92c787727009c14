"""Where the planner puts partial aggregates."""

from __future__ import annotations

import pytest

from streamcore import (
    CoBatchFunction,
    OutputTag,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    count,
    mean,
    monotonous,
    seconds,
    tumbling,
)

RECORD = Schema.of(k=str, t=int, n=int)
SIDE = OutputTag("side", RECORD)


class Pass(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit(record)


def records(env, width=None):
    stream = env.from_values([], RECORD).assign_watermarks(monotonous("t"))
    return stream.parallelism(width) if width else stream


def names(job):
    return [[spec.name for spec in vertex.operators] for vertex in job.vertices]


def uids(job):
    return [[spec.uid for spec in vertex.operators] for vertex in job.vertices]


def test_a_partial_aggregate_ends_the_producer_s_chain():
    env = StreamEnvironment("two", parallelism=2)
    counts = records(env).key_by("k").window(tumbling(seconds(1))).aggregate(count(), mean("n")).uid("counts")
    counts.print()
    job = env.compile()
    assert names(job) == [
        ["values"],
        ["watermarks", "partial aggregate per 1000 ms"],
        ["aggregate per 1000 ms", "PrintSink"],
    ]
    assert uids(job)[1:] == [["watermarks-1", "counts-partial"], ["counts", "PrintSink-3"]]
    assert [spec.stateless for vertex in job.vertices for spec in vertex.operators] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert "→ [2] hash by k  (k: string, slice: int64, count: int64, sum_n: int64)" in env.describe()
    assert [vertex.parallelism for vertex in job.vertices] == [1, 2, 2]


@pytest.mark.parametrize("two_stage", [False, True])
def test_the_uid_and_the_result_are_the_same_in_both_forms(two_stage):
    env = StreamEnvironment("two", parallelism=2, two_stage=two_stage)
    stream = records(env).key_by("k").aggregate(count())
    stream.print()
    job = env.compile()
    assert uids(job)[2] == ["aggregate-2", "PrintSink-3"]
    assert ("partial aggregate" in env.describe()) == two_stage
    assert stream.schema.names == ("k", "count")
    assert job.vertices[2].saved_operators == list(job.vertices[2].operators)


def test_nothing_is_added_where_nothing_crosses():
    env = StreamEnvironment("one", parallelism=1)
    records(env).key_by("k").aggregate(count()).print()
    assert names(env.compile()) == [["values", "watermarks"], ["aggregate", "PrintSink"]]


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_other_widths_cross(before, after):
    env = StreamEnvironment("widths", parallelism=1)
    records(env, before).key_by("k").aggregate(count()).parallelism(after).print()
    job = env.compile()
    widths = {spec.name: vertex.parallelism for vertex in job.vertices for spec in vertex.operators}
    assert (widths["partial aggregate"], widths["aggregate"]) == (before, after)


def test_aggregates_after_aggregates_each_have_theirs():
    env = StreamEnvironment("chain", parallelism=2)
    first = records(env).key_by("k").window(tumbling(seconds(1))).aggregate(count())
    first.key_by("count").window(tumbling(seconds(5))).aggregate(total=count()).print()
    assert names(env.compile()) == [
        ["values"],
        ["watermarks", "partial aggregate per 1000 ms"],
        ["aggregate per 1000 ms", "partial aggregate per 5000 ms"],
        ["aggregate per 5000 ms", "PrintSink"],
    ]


def test_two_aggregates_of_one_stream():
    env = StreamEnvironment("both", parallelism=2)
    keyed = records(env).key_by("k")
    keyed.aggregate(count()).uid("all").print()
    keyed.window(tumbling(seconds(1))).aggregate(count()).uid("windows").print()
    assert uids(env.compile())[1] == ["watermarks-1", "all-partial", "windows-partial"]


def test_an_aggregate_of_a_side_output():
    env = StreamEnvironment("side", parallelism=2)
    main = records(env).process(Pass(), returns=RECORD, tags=[SIDE])
    main.side_output(SIDE).key_by("k").aggregate(count()).print()
    vertex = env.compile().vertices[1]
    assert [(spec.name, spec.parent, spec.tag) for spec in vertex.operators] == [
        ("watermarks", -1, None),
        ("Pass", 0, None),
        ("partial aggregate", 1, "side"),
    ]


class Join(CoBatchFunction):
    pass


def test_inside_a_loop_s_body():
    env = StreamEnvironment("loop", parallelism=2)
    with env.loop(RECORD) as loop:
        body = records(env).union(loop.feedback)
        loop.close(body.filter_batch(lambda columns: columns["n"] > 0))
        body.key_by("k").aggregate(count()).print()
    job = env.compile()
    assert names(job) == [
        ["values"],
        ["watermarks"],
        ["union", "filter_batch", "partial aggregate"],
        ["aggregate", "PrintSink"],
    ]
    assert [vertex.loop is not None for vertex in job.vertices] == [False, False, True, False]


def test_an_aggregate_that_closes_a_loop():
    env = StreamEnvironment("loop", parallelism=2)
    result = Schema.of(k=str, count=int)
    with env.loop(result) as loop:
        joined = records(env).connect(loop.feedback).key_by("k", "k").process(Join(), returns=RECORD)
        loop.close(joined.key_by("k").aggregate(count()))
    job = env.compile()
    assert names(job)[2:] == [["Join", "partial aggregate"], ["aggregate"]]
    assert [(edge.source, edge.target) for edge in job.edges if edge.feedback] == [(3, 2)]
    assert len({vertex.loop for vertex in job.vertices[2:]}) == 1
