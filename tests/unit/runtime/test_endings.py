"""What had ended in a snapshot, decided for small jobs at other parallelisms."""

from __future__ import annotations

import pytest

from streamcore import ProcessFunction, StreamEnvironment
from streamcore.checkpoint.log import Entry, SubtaskEntry
from streamcore.checkpoint.storage import FileRef
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.compatibility import operator_entries
from streamcore.runtime.finished import Endings
from streamcore.testing import MemorySink


class Pass(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit(record)


def make_job(parallelism, *, splits=4, keyed=None, extra_source=False):
    env = StreamEnvironment("j", parallelism=parallelism, max_parallelism=16)
    stream = env.source(GeneratorSource(lambda a, b: list(range(a, b)), count=100, splits=splits)).uid("source")
    apart = stream.process(Pass()).uid("apart").start_new_chain()
    read = apart
    if extra_source:
        more = env.source(GeneratorSource(lambda a, b: list(range(a, b)), count=100, splits=1)).uid("more")
        read = apart.union(more)
    last = read.key_by(lambda n: n).process(Pass()).uid("keyed")
    last.parallelism(keyed or parallelism)
    last.sink(MemorySink()).uid("sink").parallelism(keyed or parallelism)
    return env.compile()


def snapshot(job, finished):
    """The manifest of a job in which the subtasks `finished` had: pairs of an operator's uid and a number."""
    parts = []
    for vertex in job.vertices:
        uids = [spec.uid for spec in vertex.saved_operators]
        for index in range(vertex.parallelism):
            had = any((uid, index) in finished for uid in uids)
            parts.append(SubtaskEntry(vertex.id, index, vertex.parallelism, uids, had, FileRef("x", 0, "")))
    return Entry("checkpoint", "j", 1, 1, 1, 0, operators=operator_entries(job), subtasks=parts)


def offsets(*exhausted, splits=4):
    return lambda uid: {str(number): (0, number in exhausted) for number in range(splits)}


def ended(job, endings):
    return {
        (spec.uid, index)
        for vertex in job.vertices
        for index in range(vertex.parallelism)
        for spec in vertex.operators
        if endings.has_finished(spec.uid, index)
    }


def all_of(uid, count):
    return {(uid, index) for index in range(count)}


def test_nothing_had_ended():
    old, new = make_job(2), make_job(3)
    assert ended(new, Endings(new, snapshot(old, set()), lambda uid: pytest.fail("asked"))) == set()


@pytest.mark.parametrize(
    ("parallelism", "exhausted", "wanted"),
    [
        (2, (0, 2), {("source", 0), ("apart", 0)}),  # as it was
        (4, (0, 2), {("source", 0), ("source", 2), ("apart", 0)}),  # apart 2 takes over one that goes on: it ends anew
        (1, (0, 2), set()),
        (3, (0, 2), {("source", 2)}),  # 0 has split 3 too; apart 2 takes over from the second
        (2, (0,), set()),  # the first was told to end, as in a drain, and has a split left
    ],
)
def test_a_source_goes_by_its_splits_and_what_it_feeds_one_to_one_follows(parallelism, exhausted, wanted):
    old, new = make_job(2), make_job(parallelism)
    manifest = snapshot(old, {("source", 0), ("apart", 0)})
    assert ended(new, Endings(new, manifest, offsets(*exhausted))) == wanted


class Turned(GeneratorSource):
    """Each split belongs to another subtask than its position says; `resumed` go on though they had ended."""

    resumed = ()

    def subtask_of(self, split, parallelism):
        return (int(split.id) + 1) % parallelism

    def resumes(self, split, offset):
        return split.id in self.resumed


@pytest.mark.parametrize(
    ("exhausted", "resumed", "discovers", "wanted"),
    [
        ((1, 3), (), False, {("source", 0), ("sink", 0)}),
        ((0, 2), (), False, {("source", 1)}),  # the sink there had not
        ((1, 3), ("0", "3"), False, set()),
        ((1, 3), ("0",), False, {("source", 0), ("sink", 0)}),
        ((1, 3), (), True, set()),
    ],
)
def test_a_source_says_whose_its_splits_are_and_which_go_on(exhausted, resumed, discovers, wanted):
    env = StreamEnvironment("j", parallelism=2, max_parallelism=16)
    source = Turned(lambda a, b: list(range(a, b)), count=100, splits=4)
    source.resumed, source.discovers = resumed, discovers
    env.source(source).uid("source").sink(MemorySink()).uid("sink")
    job = env.compile()
    manifest = snapshot(job, {("source", 0), ("sink", 0)})
    assert ended(job, Endings(job, manifest, offsets(*exhausted))) == wanted


@pytest.mark.parametrize(
    ("parallelism", "finished", "wanted"),
    [
        (2, {0}, {0}),
        (4, {0}, {0, 1}),
        (4, {0, 1}, {0, 1, 2, 3}),
        (1, {0}, set()),
        (1, {0, 1}, {0}),
        (3, {0}, {0}),  # the one in the middle takes over from both
        (3, {1}, {2}),
    ],
)
def test_keys_go_by_their_groups(parallelism, finished, wanted):
    old, new = make_job(2), make_job(2, keyed=parallelism)
    gone = all_of("source", 2) | all_of("apart", 2) | {("keyed", index) for index in finished}
    endings = Endings(new, snapshot(old, gone), offsets(0, 1, 2, 3))
    assert ended(new, endings) == all_of("source", 2) | all_of("apart", 2) | {
        (uid, index) for uid in ("keyed", "sink") for index in wanted
    }
    for index in range(parallelism):
        for before in range(2):
            assert endings.is_spent("keyed", index, before) == (before in finished and index not in wanted)


def test_an_operator_that_had_ended_goes_on_without_keys_and_is_refused_with_keys():
    old, new = make_job(2), make_job(2, extra_source=True)
    gone = all_of("source", 2) | all_of("apart", 2)
    assert ended(new, Endings(new, snapshot(old, gone), offsets(0, 1, 2, 3))) == gone
    with pytest.raises(IncompatibleSnapshotError, match="had come to its end in the snapshot") as caught:
        Endings(new, snapshot(old, gone | {("keyed", 0)}), offsets(0, 1, 2, 3))
    assert "--allow-dropped-state" in caught.value.hint


def test_a_source_that_had_ended_takes_no_new_splits():
    old, new = make_job(2), make_job(2, splits=6)
    with pytest.raises(IncompatibleSnapshotError, match=r"read its input to the end .* there is more: 4, 5"):
        Endings(new, snapshot(old, all_of("source", 2)), offsets(0, 1, 2, 3))
    manifest = snapshot(old, {("source", 0), ("apart", 0)})
    assert ended(new, Endings(new, manifest, offsets(0, 2))) == set()  # the first has split 4 now
