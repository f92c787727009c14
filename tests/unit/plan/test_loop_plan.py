"""Loops in the plan: strongly connected components against brute force, back edges, and which vertices are inside."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import CoProcessFunction, OutputTag, StreamEnvironment
from streamcore.plan.loops import strongly_connected
from streamcore.runtime.spec import Route


class Both(CoProcessFunction):
    def process_first(self, record, ctx):
        ctx.emit(record)

    def process_second(self, record, ctx):
        ctx.emit(record)


def reachable(count, edges):
    """reach[a][b]: whether a path of at least one edge leads from a to b (Warshall)."""
    reach = [[False] * count for _ in range(count)]
    for a, b in edges:
        reach[a][b] = True
    for k in range(count):
        for a in range(count):
            for b in range(count):
                reach[a][b] = reach[a][b] or (reach[a][k] and reach[k][b])
    return reach


GRAPHS = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))
)


@given(GRAPHS)
@settings(max_examples=300, deadline=None)
def test_two_vertices_are_in_one_loop_exactly_if_each_reaches_the_other(graph):
    count, edges = graph
    loops, reach = strongly_connected(count, edges), reachable(count, edges)
    assert set(loops) == {v for v in range(count) if reach[v][v]}
    for a in loops:
        for b in loops:
            assert (loops[a] == loops[b]) == (a == b or (reach[a][b] and reach[b][a]))
    assert sorted(set(loops.values())) == list(range(len(set(loops.values()))))


def test_a_long_chain_needs_no_recursion():
    count = 5000
    edges = [(i, i + 1) for i in range(count - 1)]
    assert strongly_connected(count, edges) == {}
    assert strongly_connected(count, [*edges, (count - 1, 0)]) == dict.fromkeys(range(count), 0)


def keyed_loop(env):
    values = env.from_values([1])
    with env.loop() as loop:
        body = values.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Both())
        again = body.filter(lambda r: r > 0)
        loop.close(again)
    again.rebalance().map(str)
    return env.compile()


def test_the_back_edge_and_the_vertices_of_a_loop():
    job = keyed_loop(StreamEnvironment(parallelism=2))
    assert [(v.name, v.loop) for v in job.vertices] == [("values", None), ("Both → filter", 0), ("map", None)]
    back = [e for e in job.edges if e.feedback]
    assert [(e.source, e.operator, e.target, e.port, e.partitioning.route, e.loop) for e in back] == [
        (1, 1, 1, 1, Route.HASH, 0)
    ]
    assert {(e.source, e.target): e.loop for e in job.edges if not e.feedback} == {(0, 1): None, (1, 2): None}


def test_all_edges_between_the_vertices_of_a_loop_are_inside():
    env = StreamEnvironment(parallelism=2)
    values = env.from_values([1])
    with env.loop() as loop:
        head = values.union(loop.feedback)
        body = head.rebalance().map(str)
        loop.close(body)
    head.key_by(lambda r: r).count()
    job = env.compile()
    names = {v.id: v.name for v in job.vertices}
    assert {(names[e.source], names[e.target], e.feedback): e.loop for e in job.edges} == {
        ("values", "union", False): None,
        ("union", "map", False): 0,
        ("map", "union", True): 0,
        ("union", "count", False): None,
    }


def test_a_loop_that_several_streams_close_has_a_back_edge_each():
    env = StreamEnvironment()
    side = OutputTag("again")
    values = env.from_values([1])
    with env.loop() as loop:
        body = values.connect(loop.feedback).process(Both())
        loop.close(body, body.side_output(side))
    assert [(e.tag, e.feedback) for e in env.compile().edges if e.feedback] == [(None, True), ("again", True)]


def test_feedback_read_twice_has_a_back_edge_to_each_reader():
    env = StreamEnvironment()
    a, b = env.from_values([1]), env.from_values([2])
    with env.loop() as loop:
        first, second = a.union(loop.feedback).name("first"), b.union(loop.feedback).name("second")
        loop.close(first.union(second).name("both"))
    job = env.compile()
    names = {v.id: v.name for v in job.vertices}
    assert sorted((names[e.source], names[e.target]) for e in job.edges if e.feedback) == [
        ("both", "first"),
        ("both", "second"),
    ]
    assert {v.loop for v in job.vertices if not v.is_source} == {0}


def test_two_loops_apart_and_two_that_cross():
    env = StreamEnvironment()
    for n in (1, 2):
        with env.loop() as loop:
            loop.close(env.from_values([n]).union(loop.feedback))
    loops = [v.loop for v in env.compile().vertices if not v.is_source]
    assert sorted(loops) == [0, 1]

    env = StreamEnvironment()
    with env.loop() as outer:
        head = env.from_values([1]).union(outer.feedback)
        with env.loop() as inner:
            body = head.union(inner.feedback)
            inner.close(body)
        outer.close(body)
    assert [v.loop for v in env.compile().vertices if not v.is_source] == [0, 0]


def test_an_operator_after_the_feedback_is_no_part_of_its_producers_chain():
    """Between the tail and the head there must be a channel, for barriers to be logged against."""
    env = StreamEnvironment(parallelism=1)
    values = env.from_values([1])
    with env.loop() as loop:
        loop.close(values.union(loop.feedback))
    job = env.compile()
    assert [v.name for v in job.vertices] == ["values", "union"]
    assert [(e.source, e.target, e.feedback) for e in job.edges] == [(0, 1, False), (1, 1, True)]
