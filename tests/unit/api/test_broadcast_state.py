"""Broadcast functions: rules that every subtask has, that only broadcast records write, at any parallelism."""

from __future__ import annotations

import pytest

from streamcore import (
    BroadcastBatchFunction,
    BroadcastContext,
    BroadcastFunction,
    CoProcessFunction,
    MapState,
    OutputTag,
    Schema,
    StreamEnvironment,
    ValueState,
)
from streamcore.errors import IncompatibleSnapshotError, TopologyError, UsageError, UserFunctionError
from streamcore.runtime.operators.broadcast import ProcessBroadcast
from tests.operator_rig import OperatorRig, keyed_by

EVENT = Schema.of(user=str, sum=int)
LOUD = OutputTag("loud")


class Limits(BroadcastFunction):
    """Alerts where a user's total is above a limit; limits come and go."""

    def open(self, ctx):
        self.limits = ctx.broadcast_state(MapState("limits"))
        self.total = ctx.state(ValueState("total", 0))

    def process(self, record, ctx):
        self.total.set(self.total.get() + record.sum)
        for name, limit in sorted(self.limits.items()):
            if self.total.get() > limit:
                ctx.emit((ctx.key, name, self.total.get()))

    def process_broadcast(self, record, ctx):
        name, limit = record
        if limit is None:
            self.limits.remove(name)
        else:
            self.limits.put(name, limit)


def limits(saved=(), **options):
    return OperatorRig(ProcessBroadcast(Limits(), keyed_by(EVENT, "user")), (EVENT, None), saved=saved, **options)


def test_rules_come_and_go_while_records_pass():
    rig = limits().process(0, ("ann", 5)).process(1, ("low", 4), ("high", 10))
    assert rig.process(0, ("ann", 1), ("bob", 3)).taken() == [("ann", "low", 6)]
    assert rig.process(1, ("low", None)).process(0, ("ann", 1), ("ann", 9)).taken() == [("ann", "high", 16)]


@pytest.mark.parametrize("parallelism", [1, 2, 3, 5])
def test_every_new_subtask_takes_all_of_the_state(parallelism):
    saved = []
    for subtask in range(3):
        groups = range(subtask * 16 // 3, (subtask + 1) * 16 // 3)
        rig = limits(groups=groups, subtask=subtask, parallelism=3).process(1, ("low", 4), ("gone", 1), ("gone", None))
        saved.append(rig.advance(7).saved())
    for subtask in range(parallelism):
        groups = range(subtask * 16 // parallelism, (subtask + 1) * 16 // parallelism)
        rig = limits(saved, groups=groups, subtask=subtask, parallelism=parallelism)
        assert dict(rig.operator._function.limits.items()) == {"low": 4}
        assert rig.operator._ctx.watermark == 7


def test_a_snapshot_is_not_changed_afterwards():
    class Lists(BroadcastFunction):
        def open(self, ctx):
            self.all = ctx.broadcast_state(MapState("all"))

        def process_broadcast(self, record, ctx):
            if "x" not in self.all:
                self.all.put("x", [])
            self.all.get("x").append(record)

    rig = OperatorRig(ProcessBroadcast(Lists(), None), (None, None)).process(1, 1, 2)
    captured = rig.operator.capture(1)
    rig.process(1, 3)
    rig = OperatorRig(ProcessBroadcast(Lists(), None), (None, None), own=[captured])
    assert dict(rig.operator._ctx._states["all"].items()) == {"x": [1, 2]}


def test_state_that_is_no_longer_declared_is_refused():
    class Nothing(BroadcastFunction):
        pass

    rig = OperatorRig(ProcessBroadcast(Limits(), keyed_by(EVENT, "user")), (EVENT, None)).process(1, ("low", 4))
    saved = rig.operator.capture(1)
    bare = ProcessBroadcast(Nothing(), None)
    with pytest.raises(IncompatibleSnapshotError, match="broadcast state limits"):
        OperatorRig(bare, (EVENT, None), own=[saved])


class Careless(BroadcastFunction):
    def __init__(self, do, *, broadcast):
        self.do = do
        self.broadcast = broadcast

    def open(self, ctx):
        self.rules = ctx.broadcast_state(MapState("rules"))
        self.total = ctx.state(ValueState("total", 0))

    def process(self, record, ctx):
        if not self.broadcast:
            self.do(self, ctx)

    def process_broadcast(self, record, ctx):
        if self.broadcast:
            self.do(self, ctx)


@pytest.mark.parametrize(
    ("do", "broadcast", "message"),
    [
        (lambda self, ctx: self.rules.put(1, 2), False, "process_broadcast only"),
        (lambda self, ctx: self.rules.remove(1), False, "process_broadcast only"),
        (lambda self, ctx: self.rules.clear(), False, "process_broadcast only"),
        (lambda self, ctx: self.total.get(), True, "has none"),
        (lambda self, ctx: self.total.set(1), True, "has none"),
        (lambda self, ctx: ctx.key, True, "has none"),
        (lambda self, ctx: ctx.register_timer(1), True, "has none"),
        (lambda self, ctx: ctx.cancel_timer(1), True, "has none"),
        (lambda self, ctx: ctx.register_event_timer(1), True, "has none"),
        (lambda self, ctx: ctx.cancel_event_timer(1), True, "has none"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_reason(do, broadcast, message):
    rig = OperatorRig(ProcessBroadcast(Careless(do, broadcast=broadcast), keyed_by(EVENT, "user")), (EVENT, None))
    with pytest.raises(UsageError, match=message):
        rig.process(1, 1).process(0, ("ann", 1))


def test_two_states_of_one_name_are_refused():
    class Twice(BroadcastFunction):
        def open(self, ctx):
            ctx.broadcast_state(MapState("rules"))
            ctx.broadcast_state(MapState("rules"))

    with pytest.raises(TopologyError, match="declared twice"):
        OperatorRig(ProcessBroadcast(Twice(), None), (None, None))


def test_a_new_rule_can_visit_all_keys():
    class Ask(Limits):
        def process_broadcast(self, record, ctx):
            self.limits.put(*record)
            ctx.for_each_key(self.total, lambda key: ctx.emit((key, ctx.key, self.total.get(), len(self.limits))))

    rig = OperatorRig(ProcessBroadcast(Ask(), keyed_by(EVENT, "user")), (EVENT, None))
    rig.process(0, ("ann", 1), ("bob", 2), ("ann", 3)).process(1, ("high", 100))
    assert rig.taken() == [("ann", "ann", 4, 1), ("bob", "bob", 2, 1)]
    with pytest.raises(UsageError, match="has none"):
        rig.operator._function.total.get()


class Names(BroadcastFunction):
    """Waits for nothing: what it emits for a record says how many rules had come; the rules themselves come aside."""

    def open(self, ctx: BroadcastContext) -> None:
        self.rules = ctx.broadcast_state(MapState("rules"))

    def process_broadcast(self, record, ctx):
        self.rules.put(record, True)
        ctx.side_output(LOUD, (ctx.subtask, record))

    def process(self, record, ctx):
        ctx.emit(record)

    def finish(self, ctx):
        ctx.emit(("rules", ctx.subtask, sorted(rule for rule, _ in self.rules.items())))


@pytest.mark.parametrize("keyed", [True, False])
def test_every_subtask_gets_every_rule(keyed):
    env = StreamEnvironment(parallelism=3, batch_size=2)
    records, rules = env.from_values(range(20)), env.from_values(["a", "b", "c"])
    if keyed:
        records = records.key_by(lambda n: n % 7)
    out = records.connect(rules.broadcast()).process(Names())
    both = out.union(out.side_output(LOUD)).execute_and_collect()
    assert sorted(n for n in both if isinstance(n, int)) == list(range(20))
    assert sorted(r for r in both if isinstance(r, tuple) and len(r) == 3) == [
        ("rules", subtask, ["a", "b", "c"]) for subtask in range(3)
    ]
    assert sorted(r for r in both if isinstance(r, tuple) and len(r) == 2) == [
        (subtask, rule) for subtask in range(3) for rule in "abc"
    ]


def test_columns_on_one_side_and_rows_on_the_other():
    class Above(BroadcastBatchFunction):
        def open(self, ctx):
            self.limit = ctx.broadcast_state(MapState("limit"))
            self.held = []

        def process(self, columns, ctx):
            self.held.append(columns)

        def process_broadcast(self, record, ctx):
            self.limit.put("low", record["low"])

        def finish(self, ctx):
            for columns in self.held:
                ctx.emit_batch(columns.filter(columns["sum"] > self.limit.get("low")))

    env = StreamEnvironment(parallelism=2)
    events = env.from_values([("ann", 1), ("bob", 5), ("cat", 9)], EVENT)
    above = events.connect(env.from_values([{"low": 3}]).broadcast()).process(Above(), returns=EVENT)
    assert sorted(above.select("sum").execute_and_collect()) == [(5,), (9,)]


def test_the_streams_must_be_as_the_function_needs_them():
    env = StreamEnvironment()
    events, rules = env.from_values([("ann", 1)], EVENT), env.from_values([1])
    with pytest.raises(TopologyError, match="second stream is broadcast"):
        events.connect(rules).process(Names())
    with pytest.raises(TopologyError, match="second stream is broadcast"):
        events.broadcast().connect(rules.broadcast()).process(Names())
    with pytest.raises(TopologyError, match="with a BroadcastFunction"):
        events.key_by("user").connect(rules.broadcast()).process(CoProcessFunction())
    with pytest.raises(TopologyError, match="no type"):
        rules.connect(rules.broadcast()).process(BroadcastBatchFunction())


def test_the_failure_of_a_function_names_it():
    class Wrong(Names):
        def process_broadcast(self, record, ctx):
            raise ValueError("no such rule")

    env = StreamEnvironment()
    with pytest.raises(UserFunctionError, match="Wrong"):
        env.from_values([1]).connect(env.from_values([2]).broadcast()).process(Wrong()).execute_and_collect()
