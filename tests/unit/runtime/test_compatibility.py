"""What a manifest alone tells: operators by uid and by place, keys, key groups; what may be dropped."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from streamcore import Schema, StreamEnvironment
from streamcore.checkpoint.log import Entry
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.compatibility import check_compatible, operator_entries
from streamcore.runtime.messages import Restore
from streamcore.testing import MemorySink


def job(*steps, schema=None, key=None, key_groups=16, name="j"):
    """Source and sink have uids; `steps` are those of the maps between them, None: it has none."""
    env = StreamEnvironment(name, parallelism=2, max_parallelism=key_groups)
    stream = env.source(GeneratorSource(lambda a, b: [], count=0, schema=schema)).uid("source")
    for uid in steps:
        stream = stream.map(lambda record: record, compiled=False)
        if uid is not None:
            stream = stream.uid(uid)
    if key is not None:
        stream = stream.key_by(key).reduce(lambda a, b: a, compiled=False).uid("keyed")
    stream.sink(MemorySink()).uid("sink")
    return env.compile()


def check(old, new, *, allow_dropped=False):
    entry = Entry("checkpoint", old.name, 1, 1, 7, 0, operators=operator_entries(old))
    check_compatible(new, Restore("dir", entry, allow_dropped))


def refused(old, new, **options):
    with pytest.raises(IncompatibleSnapshotError) as caught:
        check(old, new, **options)
    return caught.value


def test_operators_with_uids_are_found_wherever_they_are():
    check(job("a", "b"), job("b", "c", "a"))


def test_operators_that_are_gone_are_named_with_those_that_are_new():
    error = refused(job("a", "b"), job("c", "b"))
    assert "checkpoint 7 in dir" in error.message
    assert "has operators a, which the topology does not have; it has operators c, which the snapshot" in error.message
    assert ".uid('a')" in error.hint
    assert "--allow-dropped-state" in error.hint


def test_operators_that_are_gone_are_dropped_where_that_is_allowed(caplog):
    with caplog.at_level(logging.WARNING):
        check(job("a", "b"), job("b"), allow_dropped=True)
    assert "the topology has no operator 'a' any more; its state is dropped" in caplog.text
    assert "operator 'b'" not in caplog.text


def test_another_job_is_refused_whatever_may_be_dropped():
    assert "is of another job" in refused(job("a"), job("a", name="other"), allow_dropped=True).message


def test_an_operator_without_uid_is_found_at_its_place():
    check(job(None, None), job(None, None))
    check(job(None, None), job(None, None, "c"))
    assert "has operators map-2" in refused(job(None, None), job(None)).message


@pytest.mark.parametrize(
    ("old", "new"), [(("a", None), (None, None, "a")), ((None, "a", None), (None, "b", None, "a"))]
)
def test_an_operator_without_uid_is_refused_where_others_have_come_before_it(old, new):
    """The maps that have the same place are others than they were."""
    error = refused(job(*old), job(*new))
    assert "is known by its place in the topology only, and before it there are" in error.message
    assert ".uid('map-" in error.hint


def test_its_place_as_a_uid_says_that_it_is_the_same():
    old = job("a", None)  # map-2
    assert "known by its place" in refused(old, job(None, None, "a")).message
    check(old, job("new", "map-2", "a"))


def test_a_snapshot_from_before_places_were_written_down():
    old = operator_entries(job("a", None))
    bare = {uid: type(entry)(entry.name, entry.parallelism, entry.max_parallelism) for uid, entry in old.items()}
    entry = Entry("checkpoint", "j", 1, 1, 7, 0, operators=bare)
    check_compatible(job(None, None, "a"), Restore("dir", entry))


def test_key_groups_are_fixed():
    assert (
        "operator 'source' has max_parallelism 16 there and 8 here" in refused(job("a"), job("a", key_groups=8)).message
    )


NARROW, WIDE = Schema.of(k=np.int32, t=str, u=np.uint8), Schema.of(k=np.int64, t=str, u=np.int16)


@pytest.mark.parametrize(
    ("old", "new", "fits"),
    [
        ((NARROW, "k"), (WIDE, "k"), True),
        ((WIDE, "k"), (NARROW, "k"), False),
        ((NARROW, "u"), (WIDE, "k"), True),  # by another name, but of the same numbers
        ((NARROW, "k"), (NARROW, "t"), False),
        ((NARROW, ("k", "t")), (WIDE, ("k", "t")), True),
        ((NARROW, ("k", "t")), (NARROW, ("t", "k")), False),
        ((NARROW, ("k",)), (NARROW, ("k", "t")), False),
        ((NARROW, "k"), (Schema.of(k=float), "k"), False),
        ((NARROW, "k"), (None, lambda record: record), True),  # nobody knows
    ],
)
def test_keys_stay_what_they_are_or_become_wider_numbers(old, new, fits):
    before, after = (job(schema=schema, key=key) for schema, key in (old, new))
    if fits:
        check(before, after)
    else:
        assert "operator 'keyed' is kept by " in refused(before, after).message
