"""Which operators become one chain, how wide each is, and which edges are left between them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from streamcore import OutputTag, ProcessFunction, StreamEnvironment
from streamcore.connectors.base import Sink, Source, Split
from streamcore.runtime.spec import Route

SIDE = OutputTag("side")


@dataclass
class Reading:
    sensor: str
    celsius: float


SIDE_TYPED = OutputTag("typed", Reading)


class Splits(Source):
    """A source of a number of splits that is never read."""

    def __init__(self, count):
        self.count = count

    def splits(self):
        return [Split(str(i)) for i in range(self.count)]

    def reader(self, split, offset, context):
        raise AssertionError("nothing is read in these tests")


class Nothing(ProcessFunction):
    def process(self, record, ctx):
        pass


class OneWriter(Sink):
    parallelism = 1

    def writer(self, context):
        raise AssertionError("nothing is written in these tests")


def titles(env):
    return [vertex.name for vertex in env.compile().vertices]


def edges(env):
    return [
        (edge.source, edge.operator, edge.tag, edge.target, edge.port, edge.partitioning.route, edge.feedback)
        for edge in env.compile().edges
    ]


@pytest.fixture
def env():
    return StreamEnvironment(parallelism=2)


def source(env, splits=2):
    return env.source(Splits(splits), name="source")


def test_record_by_record_operators_share_a_chain(env):
    source(env).map(str).filter(len).flat_map(list).print()
    assert titles(env) == ["source → map → filter → flat_map → PrintSink"]
    assert edges(env) == []
    operators = env.compile().vertices[0].operators
    assert [operator.parent for operator in operators] == [-1, 0, 1, 2, 3]


def test_a_fork_stays_in_the_chain(env):
    stream = source(env)
    stream.map(str).name("a")
    stream.map(str).name("b")
    assert titles(env) == ["source → a → b"]
    assert [operator.parent for operator in env.compile().vertices[0].operators] == [-1, 0, 0]


@pytest.mark.parametrize(
    ("route", "call"),
    [
        (Route.HASH, lambda s: s.key_by(lambda r: r)),
        (Route.REBALANCE, lambda s: s.rebalance()),
        (Route.BROADCAST, lambda s: s.broadcast()),
        (Route.CUSTOM, lambda s: s.partition(lambda r, n: 0)),
    ],
)
def test_a_partitioning_ends_a_chain(env, route, call):
    call(source(env)).map(str)
    assert titles(env) == ["source", "map"]
    assert edges(env) == [(0, 0, None, 1, 0, route, False)]


def test_forward_does_not_end_a_chain(env):
    source(env).map(str).forward().map(len).name("second")
    assert titles(env) == ["source → map → second"]


def test_start_new_chain(env):
    source(env).map(str).start_new_chain().filter(len)
    assert titles(env) == ["source", "map → filter"]
    assert edges(env) == [(0, 0, None, 1, 0, Route.FORWARD, False)]


def test_another_parallelism_ends_a_chain_and_rebalances(env):
    source(env).map(str).parallelism(3).filter(len).parallelism(3).map(len).name("narrow")
    assert titles(env) == ["source", "map → filter", "narrow"]
    assert [vertex.parallelism for vertex in env.compile().vertices] == [2, 3, 2]
    assert [e[5] for e in edges(env)] == [Route.REBALANCE, Route.REBALANCE]


def test_operators_with_two_inputs_begin_a_chain(env):
    a, b = source(env), source(env)
    a.union(b).map(str)
    assert titles(env) == ["source", "source", "union → map"]
    assert edges(env) == [(0, 0, None, 2, 0, Route.FORWARD, False), (1, 0, None, 2, 1, Route.FORWARD, False)]


def test_a_stream_in_union_with_itself_has_an_edge_for_each_port(env):
    stream = source(env).map(str)
    stream.union(stream)
    assert titles(env) == ["source → map", "union"]
    assert edges(env) == [(0, 1, None, 1, 0, Route.FORWARD, False), (0, 1, None, 1, 1, Route.FORWARD, False)]


def test_a_side_output_is_read_in_the_chain_or_over_an_edge(env):
    split = source(env).process(Nothing(), tags=[SIDE_TYPED])
    split.side_output(SIDE).map(str).name("near")
    split.side_output(SIDE_TYPED).key_by("sensor").count()
    job = env.compile()
    assert [vertex.name for vertex in job.vertices] == ["source → Nothing → near", "count"]
    assert [(o.parent, o.tag) for o in job.vertices[0].operators] == [(-1, None), (0, None), (1, "side")]
    (edge,) = job.edges
    assert (edge.operator, edge.tag) == (1, "typed")
    assert [field.name for field in edge.schema.fields] == ["sensor", "celsius"]


def test_edges_carry_the_schema_of_the_output_they_read(env):
    env.from_values([], Reading).rebalance().map(str).rebalance().map(len)
    first, second = env.compile().edges
    assert [field.name for field in first.schema.fields] == ["sensor", "celsius"]
    assert second.schema is None


@pytest.mark.parametrize(("splits", "width"), [(1, 1), (3, 3), (8, 4), (0, 1)])
def test_a_source_is_as_wide_as_it_has_splits_up_to_the_default(splits, width):
    env = StreamEnvironment(parallelism=4)
    source(env, splits).map(str)
    assert env.compile().vertices[0].parallelism == width


def test_a_source_s_own_parallelism_counts():
    env = StreamEnvironment(parallelism=4)
    source(env, 1).parallelism(3)
    assert env.compile().vertices[0].parallelism == 3


def test_the_parallelism_of_operators_is_the_default_unless_forward_or_they_say(env):
    stream = source(env).parallelism(5)
    stream.forward().map(str)
    stream.map(len).name("default")
    assert [(v.name, v.parallelism) for v in env.compile().vertices] == [("source → map", 5), ("default", 2)]


def test_a_sink_may_fix_its_parallelism(env):
    source(env).sink(OneWriter())
    assert [(v.name, v.parallelism) for v in env.compile().vertices] == [("source", 2), ("OneWriter", 1)]


def test_the_default_parallelism_is_one_a_worker():
    env = StreamEnvironment(workers=3)
    source(env, 9).map(str)
    assert [v.parallelism for v in env.compile().vertices] == [3]
    env.parallelism = 5
    assert [v.parallelism for v in env.compile().vertices] == [5]


@pytest.mark.parametrize(("given", "wanted"), [(None, 256), (100, 100), (1000, 1000)])
def test_every_vertex_has_the_same_number_of_key_groups(given, wanted):
    env = StreamEnvironment(parallelism=100, max_parallelism=given)
    source(env).key_by(lambda r: r).count().parallelism(90)
    assert {v.max_parallelism for v in env.compile().vertices} == {wanted}


def test_uids_are_the_user_s_or_come_from_name_and_place(env):
    source(env).map(str).uid("mine").filter(len)
    assert [o.uid for o in env.compile().vertices[0].operators] == ["source-0", "mine", "filter-2"]
