"""Increments: chains of files give back what each checkpoint captured, whatever was aborted between, and retention
deletes exactly what no kept checkpoint needs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, plain
from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog, Entry, OperatorEntry, SubtaskEntry, finished_path, state_path
from streamcore.checkpoint.parts import Increments, read_part, write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import FileRef
from streamcore.checkpoint.table_file import assemble, decode_tables, encode_tables
from streamcore.errors import CheckpointError, DamagedCheckpointError, StateCodecError
from streamcore.state.descriptors import ColumnarState, ValueState
from streamcore.state.store import KeyedStore
from streamcore.testing.memory import MemoryStorage

SUMS = Schema.of(total=np.int64)
NAMES = ("first", "second")


class Subtask:
    """What a subtask does with its state, without the stream."""

    def __init__(self, storage, saved=(), groups=range(8)):
        self.storage = storage
        self.store = KeyedStore(8, groups, list(saved), allow_pickle=False)
        self.tables = {name: self.store.declare(ColumnarState(name, SUMS)) for name in NAMES}
        self.count = self.store.declare(ValueState("count", 0))
        self.increments = Increments()

    def write(self, name, keys, value):
        slots = self.tables[name].slots(np.array(keys, np.int64))
        np.add.at(self.tables[name]["total"], slots, value)
        self.store.go_to(1)
        self.count.set(self.count.get() + 1)

    def state(self):
        totals = {n: dict(zip(t.keys.tolist(), t["total"].tolist(), strict=True)) for n, t in self.tables.items()}
        return {**totals, "count": self.count.get()}

    def snapshot(self, checkpoint_id, path=None):
        base = self.increments.base
        keyed, tables = self.store.capture(checkpoint_id, base)
        part = OperatorSnapshot(keyed, None, tables)
        for capture in part.captures:
            capture.finish()
        snapshot = SubtaskSnapshot({"op": part})
        path = path or state_path(checkpoint_id, 0, 0, 1)
        file, chain = write_part(self.storage, path, snapshot, self.increments.files(base), allow_pickle=False)
        self.increments.wrote(checkpoint_id, chain)
        return SubtaskEntry(0, 0, 1, ["op"], finished=False, file=file, tables=chain)


def manifest(checkpoint_id, part):
    operators = {"op": OperatorEntry("op", 1, 8)}
    return Entry("checkpoint", "job", 1, 1, checkpoint_id, 0, operators=operators, subtasks=[part])


def restored(storage, part):
    keyed = read_part(storage, part, allow_pickle=False).operators["op"].keyed
    subtask = Subtask(storage, [keyed])
    subtask.store.current.key = 1
    subtask.store.check_all_claimed("op")
    return subtask.state()


ACTION = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.lists(st.integers(0, 60), min_size=1, max_size=8)),
    st.tuples(st.just("grow"), st.sampled_from(NAMES), st.integers(1, 300)),
    st.tuples(st.just("complete"), st.booleans(), st.none()),
    st.tuples(st.just("abort"), st.booleans(), st.none()),
    st.tuples(st.just("hear late"), st.none(), st.none()),
)


@pytest.mark.parametrize("retain", [1, 2, 3])
@given(actions=st.lists(ACTION, max_size=40))
@settings(max_examples=100, deadline=None)
def test_every_kept_checkpoint_is_whole_and_nothing_else_is_kept(retain, actions):
    storage, unheard = MemoryStorage(), []
    log, subtask, expected, fresh = CheckpointLog(storage), Subtask(storage), {}, 100
    for number, (action, first, second) in enumerate(actions, start=1):
        match action:
            case "write":
                subtask.write(first, second, number)
            case "grow":
                subtask.write(first, range(fresh, fresh + second), number)
                fresh += second
            case "abort":
                subtask.snapshot(number)
                if first:
                    subtask.increments.forget(number)
            case "hear late":
                for checkpoint_id in unheard:
                    subtask.increments.complete(checkpoint_id)
                unheard = []
            case "complete":
                part, is_heard_of = subtask.snapshot(number), first
                log.append(manifest(number, part))
                log.retain(retain, epoch=1)
                expected[number] = subtask.state()
                if is_heard_of:
                    subtask.increments.complete(number)
                else:
                    unheard.append(number)
                kept = log.checkpoints()
                assert [entry.checkpoint_id for entry in kept] == sorted(expected)[-retain:]
                there = {path for path in storage.files if path.startswith("chk-")}
                assert there == set().union(*(entry.paths for entry in kept))
                for entry in kept:
                    assert restored(storage, entry.subtasks[0]) == expected[entry.checkpoint_id]


def settled(keys=10_000):
    subtask = Subtask(MemoryStorage())
    subtask.write("first", range(keys), 1)
    subtask.write("second", range(keys), 1)
    assert [len(subtask.snapshot(1).tables)] == [1]
    subtask.increments.complete(1)
    return subtask


def test_an_increment_is_as_large_as_what_has_changed():
    subtask = settled()
    subtask.write("first", range(100), 1)
    whole, increment = subtask.snapshot(2).tables
    assert whole.path == "chk-00000001/v0-0.e1.tables"
    assert increment.path == "chk-00000002/v0-0.e1.tables"
    assert increment.size_bytes < whole.size_bytes / 50


def test_nothing_changed_writes_no_table_file():
    subtask = settled()
    part = subtask.snapshot(2)
    assert [file.path for file in part.tables] == ["chk-00000001/v0-0.e1.tables"]
    assert "chk-00000002/v0-0.e1.tables" not in subtask.storage.files
    subtask.increments.complete(2)
    subtask.write("second", [1], 1)
    assert len(subtask.snapshot(3).tables) == 2


def test_an_aborted_checkpoint_is_not_built_on():
    subtask = settled()
    subtask.write("first", [1], 1)
    subtask.snapshot(2)
    subtask.increments.forget(2)
    subtask.write("first", [2], 1)
    part = subtask.snapshot(3)
    assert [file.path[:12] for file in part.tables] == ["chk-00000001", "chk-00000003"]
    assert restored(subtask.storage, part) == subtask.state()


def test_after_a_checkpoint_of_unknown_fate_everything_is_written():
    """It may be complete, and then files that only older ones need may be gone."""
    subtask = settled()
    subtask.write("first", [1], 1)
    subtask.snapshot(2)
    subtask.write("first", [2], 1)
    part = subtask.snapshot(3)
    assert [file.path[:12] for file in part.tables] == ["chk-00000003"]
    subtask.increments.complete(2)  # heard late: 3 may be complete by now
    assert [file.path[:12] for file in subtask.snapshot(4).tables] == ["chk-00000004"]


def test_a_chain_that_has_become_larger_than_the_whole_is_written_anew():
    subtask, lengths = settled(), []
    for number in range(2, 12):
        subtask.write("first", range(4000), 1)
        part = subtask.snapshot(number)
        subtask.increments.complete(number)
        lengths.append(len(part.tables))
        assert restored(subtask.storage, part) == subtask.state()
    assert 1 in lengths
    assert max(lengths) > 3


def test_a_chain_of_many_small_files_is_written_anew():
    subtask, lengths = settled(), []
    for number in range(2, 80):
        subtask.write("first", [number], 1)
        lengths.append(len(subtask.snapshot(number).tables))
        subtask.increments.complete(number)
    assert max(lengths) == 32
    assert lengths.count(1) == 2


def test_the_part_of_a_finished_subtask_stays_as_long_as_it_is_needed():
    subtask = settled()
    path = finished_path(0, 0, 1)
    subtask.increments = Increments()
    part = subtask.snapshot(2, path)
    log = CheckpointLog(subtask.storage)
    assert [file.path for file in part.files] == ["finished/v0-0.e1.state", "finished/v0-0.e1.tables"]
    log.append(manifest(2, part))
    log.retain(1, epoch=2)
    assert restored(subtask.storage, part) == subtask.state()
    log.append(manifest(3, SubtaskEntry(0, 0, 1, ["op"], finished=False, file=FileRef("chk-00000003/x", 0, ""))))
    log.retain(1, epoch=2)
    assert not [path for path in subtask.storage.files if path.startswith("finished/")]


def test_a_manifest_that_builds_on_what_is_not_kept_is_never_written():
    subtask = settled()
    subtask.write("first", [1], 1)
    part = subtask.snapshot(2)
    log = CheckpointLog(subtask.storage)
    with pytest.raises(CheckpointError, match=r"checkpoint 2 builds on chk-00000001/v0-0.e1.tables, which no kept"):
        log.append(manifest(2, part))
    assert log.is_empty


def test_the_state_in_a_chain_is_inspected():
    subtask = settled(3)
    subtask.write("second", [2, 7], 5)
    part = subtask.snapshot(2)
    state = read_state(subtask.storage, manifest(2, part))["op"]
    assert state["second"] == {0: {"total": 1}, 1: {"total": 1}, 2: {"total": 6}, 7: {"total": 5}}


def test_columnar_state_of_format_1_is_read():
    """There it was in the state file, in order of key group."""
    subtask = settled(50)
    keyed = read_part(subtask.storage, subtask.snapshot(2), allow_pickle=False).operators["op"].keyed
    for name in NAMES:
        state = keyed["states"][name]
        order = np.argsort(state["groups"], kind="stable")
        columns = {field: values[order] for field, values in state["columns"].items()}
        groups, keys = state["groups"][order].astype(np.int64), state["keys"][order]
        keyed["states"][name] = {"kind": "columnar", "groups": groups, "keys": keys, "columns": columns}
    old = {"format": 1, "operators": {"op": {"keyed": keyed, "own": None}}, "feedback": {}}
    file = subtask.storage.put("chk-00000003/old.state", plain.encode(old))
    part = SubtaskEntry(0, 0, 1, ["op"], finished=False, file=file)
    assert {n: dict(sorted(t.items())) for n, t in restored(subtask.storage, part).items() if n in NAMES} == {
        name: dict.fromkeys(range(50), 1) for name in NAMES
    }


def test_state_of_objects_is_read_where_older_versions_put_it():
    """It was in the state file; table files of format 2 had columnar state alone."""
    subtask = settled(50)
    part = subtask.snapshot(2)
    keyed = read_part(subtask.storage, part, allow_pickle=False).operators["op"].keyed
    objects = {"count": keyed["states"]["count"]}
    old = {"operators": {"op": {"keyed": keyed | {"states": objects}, "own": None}}, "feedback": {}, "format": 2}
    file = subtask.storage.put("chk-00000003/old.state", plain.encode(old))
    data = subtask.storage.read(part.tables[0].path)
    start = 8 + int.from_bytes(data[:8], "little")
    header = plain.decode(data[8:start]) | {"format": 2}
    del header["objects"]
    head = plain.encode(header)
    tables = subtask.storage.put("chk-00000003/old.tables", len(head).to_bytes(8, "little") + head + data[start:])
    entry = SubtaskEntry(0, 0, 1, ["op"], finished=False, file=file, tables=[tables])
    assert restored(subtask.storage, entry) == subtask.state()


def test_a_manifest_of_format_1_keeps_its_digest():
    part = SubtaskEntry(0, 0, 1, ["op"], finished=False, file=FileRef("chk-00000001/x.state", 1, "ab"))
    old = Entry("checkpoint", "job", 1, 1, 1, 0, format=1, subtasks=[part])
    assert old.signed().digest == "9a2555f939fe07f68c68729ac8de9a27"


def test_newer_formats_and_files_that_do_not_belong_together_are_refused():
    subtask = settled(100)
    subtask.write("first", [1, 500], 1)
    files = [subtask.storage.read(file.path) for file in subtask.snapshot(2).tables]
    chain = [decode_tables(file, allow_pickle=False) for file in files]
    with pytest.raises(DamagedCheckpointError, match="state 'first': a file has row 100 next, not row 0"):
        assemble(chain[1:])
    header = plain.encode({"format": 4})
    with pytest.raises(CheckpointError, match="a table file has format 4, this version reads up to 3"):
        decode_tables(len(header).to_bytes(8, "little") + header, allow_pickle=False)
    with pytest.raises(CheckpointError, match="a state file has format 4, this version reads up to 3"):
        SubtaskSnapshot.decode(header, allow_pickle=False)


def test_keys_without_plain_form_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Local:
        n: int

    table = KeyedStore(8, range(8), [], allow_pickle=False).declare(ColumnarState("s", SUMS))
    table.slots([Local(1), 1])
    capture = table.capture(1)
    capture.finish()
    with pytest.raises(StateCodecError, match="Local has no safe saved form"):
        encode_tables({("op", "s"): capture.saved()}, allow_pickle=False)
