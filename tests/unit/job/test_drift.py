"""The alignment groups as the coordinator sees them."""

from streamcore import Schema, StreamEnvironment, monotonous, seconds
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.drift import DriftWatch
from streamcore.runtime.messages import Align, SlowestSplit

EPOCH = 3


def watch(*groups):
    env = StreamEnvironment(parallelism=2)
    for number, (group, every) in enumerate(groups):
        source = GeneratorSource(lambda start, stop: [(0,)], count=9, splits=2, schema=Schema.of(t=int))
        strategy = monotonous("t")
        if group:
            strategy = strategy.with_alignment(group, max_drift=seconds(1), every=every)
        env.source(source, name=f"s{number}", watermarks=strategy).print()
    return DriftWatch(env.compile(), EPOCH)


def test_a_job_without_groups_has_nothing_to_tell():
    drift = watch((None, 1))
    assert drift.every_s is None
    drift.ended((0, 0))
    assert drift.moved() == []


def test_the_furthest_behind_counts_and_each_move_is_told_once():
    drift = watch(("g", 1), ("g", 0.5))
    assert drift.every_s == 0.5
    assert drift.moved() == []
    for subtask, time in {(0, 0): 50, (0, 1): 70, (1, 0): 40, (1, 1): 60}.items():
        drift.report(SlowestSplit(EPOCH, subtask, time))
    assert drift.moved() == [Align(EPOCH, "g", 40)]
    assert drift.moved() == []
    drift.report(SlowestSplit(EPOCH, (1, 0), None))
    assert drift.moved() == [Align(EPOCH, "g", 50)]
    drift.ended((0, 0))
    assert drift.moved() == [Align(EPOCH, "g", 60)]
    for subtask in ((0, 1), (1, 1)):
        drift.ended(subtask)
    assert drift.moved() == [Align(EPOCH, "g", None)]


def test_groups_do_not_know_of_each_other():
    drift = watch(("g", 1), ("h", 1), (None, 1))
    drift.report(SlowestSplit(EPOCH, (0, 0), 50))
    drift.report(SlowestSplit(EPOCH, (1, 0), 70))
    assert drift.moved() == [Align(EPOCH, "g", 50), Align(EPOCH, "h", 70)]
