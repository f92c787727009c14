"""union, connect, the partitionings and side outputs of several streams, against plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from streamcore import CoBatchFunction, CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment, ValueState


@dataclass(frozen=True)
class Order:
    user: int
    amount: float


@dataclass(frozen=True)
class Name:
    user: int
    name: str


@pytest.fixture(params=[1, 3])
def env(request):
    return StreamEnvironment(parallelism=request.param, batch_size=4)


class Where(ProcessFunction):
    """Says which subtask a record came to."""

    def process(self, record, ctx):
        ctx.emit((ctx.subtask, record))


def test_union_has_every_record_of_every_stream(env):
    a, b, c = (env.from_values(range(n)) for n in (5, 10, 15))
    assert Counter(a.union(b, c).execute_and_collect()) == Counter([*range(5), *range(10), *range(15)])


def test_union_with_itself_doubles(env):
    stream = env.from_values(range(5))
    assert sorted(stream.union(stream).execute_and_collect()) == sorted([*range(5)] * 2)


def test_union_of_typed_streams_is_typed(env):
    orders = [Order(i, float(i)) for i in range(10)]
    union = env.from_values(orders[:3], Order).union(env.from_values(orders[3:], Order))
    kept = union.filter_batch(lambda c: c["amount"] > 1).execute_and_collect()
    assert sorted(kept, key=repr) == sorted(orders[2:], key=repr)


def test_union_of_rows_and_columns_is_rows(env):
    typed = env.from_values([Order(1, 1.0)], Order).filter_batch(lambda c: c["amount"] > 0)
    union = typed.union(env.from_values([Order(2, 2.0)]))
    assert union.schema is None
    assert sorted(union.execute_and_collect(), key=repr) == [Order(1, 1.0), Order(2, 2.0)]


class Join(CoProcessFunction):
    """Joins orders to names, whichever comes first."""

    def open(self, ctx):
        self.name = ctx.state(ValueState("name", None))
        self.waiting = ctx.state(ValueState("waiting", ()))

    def process_first(self, order, ctx):
        assert ctx.key == order.user
        if self.name.get() is None:
            self.waiting.set((*self.waiting.get(), order.amount))
        else:
            ctx.emit((self.name.get(), order.amount))

    def process_second(self, name, ctx):
        assert ctx.key == name.user
        self.name.set(name.name)
        for amount in self.waiting.get():
            ctx.emit((name.name, amount))
        self.waiting.set(())


ORDERS = [Order(i % 6, float(i)) for i in range(30)]
NAMES = [Name(i, f"n{i}") for i in range(5)]


@pytest.mark.parametrize("typed", [True, False])
def test_connected_streams_share_keyed_state(env, typed):
    orders = env.from_values(ORDERS, Order if typed else None)
    names = env.from_values(NAMES, Name if typed else None)
    results = orders.connect(names).key_by("user", lambda n: n.user).process(Join()).execute_and_collect()
    assert sorted(results) == sorted((f"n{o.user}", o.amount) for o in ORDERS if o.user < 5)


def test_streams_keyed_before_connect_share_state_too(env):
    orders, names = env.from_values(ORDERS).key_by("user"), env.from_values(NAMES).key_by("user")
    results = orders.connect(names).process(Join()).execute_and_collect()
    assert sorted(results) == sorted((f"n{o.user}", o.amount) for o in ORDERS if o.user < 5)


def test_connect_without_keys_keeps_the_inputs_apart(env):
    class Apart(CoProcessFunction):
        def process_first(self, record, ctx):
            ctx.emit(("first", record))

        def process_second(self, record, ctx):
            ctx.emit(("second", record))

    results = env.from_values(range(5)).connect(env.from_values("ab")).process(Apart()).execute_and_collect()
    assert sorted(results, key=repr) == sorted(
        [*(("first", i) for i in range(5)), ("second", "a"), ("second", "b")], key=repr
    )


def test_connected_batches(env):
    class Sizes(CoBatchFunction):
        def process_first(self, columns, ctx):
            ctx.emit_batch(columns)

        def process_second(self, columns, ctx):
            ctx.side_output_batch(OutputTag("names", Name), columns)

    streams = env.from_values(ORDERS, Order).connect(env.from_values(NAMES, Name)).key_by("user", "user")
    run = streams.process(Sizes(), returns=Order, tags=[OutputTag("names", Name)])
    orders = run.map(lambda r: ("order", r))
    both = orders.union(run.side_output(OutputTag("names", Name)).map(lambda r: ("name", r)))
    assert Counter(both.execute_and_collect()) == Counter(
        [*(("order", o) for o in ORDERS), *(("name", n) for n in NAMES)]
    )


def test_rebalance_gives_every_subtask_its_share():
    env = StreamEnvironment(parallelism=3, batch_size=8)
    results = env.from_values(range(300)).rebalance().process(Where()).execute_and_collect()
    assert sorted(r for _, r in results) == list(range(300))
    shares = Counter(subtask for subtask, _ in results)
    assert set(shares) == {0, 1, 2}
    assert max(shares.values()) - min(shares.values()) <= 1


def test_broadcast_gives_every_record_to_every_subtask():
    env = StreamEnvironment(parallelism=3, batch_size=8)
    results = env.from_values(range(30)).broadcast().process(Where()).execute_and_collect()
    assert sorted(results) == sorted((subtask, r) for subtask in range(3) for r in range(30))


def test_broadcast_of_a_typed_stream():
    env = StreamEnvironment(parallelism=2)
    results = env.from_values(NAMES, Name).filter_batch(lambda c: c["user"] > 0).broadcast().process(Where())
    assert Counter(results.execute_and_collect()) == Counter((s, n) for s in range(2) for n in NAMES if n.user > 0)


def test_forward_keeps_records_on_their_subtask():
    env = StreamEnvironment(parallelism=3, batch_size=4)
    first = env.from_values(range(60)).rebalance().process(Where())
    second = first.forward().process(Where()).start_new_chain()
    results = second.execute_and_collect()
    assert len(results) == 60
    assert all(there == here for here, (there, _) in results)


def test_partition_asks_the_user_s_function():
    env = StreamEnvironment(parallelism=4, batch_size=8)
    results = env.from_values(range(50)).partition(lambda r, n: r * r % n).process(Where()).execute_and_collect()
    assert sorted(results) == sorted((r * r % 4, r) for r in range(50))


def test_partition_over_columns():
    env = StreamEnvironment(parallelism=2, batch_size=8)
    stream = env.from_values(ORDERS, Order).filter_batch(lambda c: np.ones(len(c), bool))
    results = stream.partition(lambda r, n: r.user % n).process(Where()).execute_and_collect()
    assert Counter(results) == Counter((o.user % 2, o) for o in ORDERS)


def test_keys_go_where_the_key_group_formula_says():
    env = StreamEnvironment(parallelism=3, max_parallelism=12)

    class Whereabouts(ProcessFunction):
        def process(self, record, ctx):
            ctx.emit((ctx.subtask, record, int(ctx.subtasks_for([record], 3)[0])))

    results = env.from_values(range(100)).key_by(lambda x: x).process(Whereabouts()).execute_and_collect()
    assert sorted(r for _, r, _ in results) == list(range(100))
    assert all(subtask == said for subtask, _, said in results)


def test_parallelism_name_uid_and_chain_are_the_operator_s_own():
    env = StreamEnvironment(parallelism=2)
    stream = env.from_values([1]).map(lambda x: x).name("twice").uid("u-1").parallelism(3).start_new_chain()
    assert stream.execute_and_collect() == [1]
    vertex = next(v for v in env.compile().vertices if v.operators[0].uid == "u-1")
    assert (vertex.operators[0].name, vertex.parallelism) == ("twice", 3)
