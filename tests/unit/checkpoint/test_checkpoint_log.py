"""The checkpoint log: what is complete, what the latest is, and which of two runs may go on."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.checkpoint.log import CheckpointLog, Entry, SubtaskEntry, directory_of, finished_path, state_path
from streamcore.checkpoint.storage import FileRef, open_storage
from streamcore.errors import CheckpointError, DamagedCheckpointError, FencedError, NoCheckpointError
from streamcore.testing.memory import MemoryStorage


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path):
    return open_storage(str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def checkpoint(number, run=1, epoch=1, files=()):
    parts = [SubtaskEntry(0, i, len(files), ["op"], finished=False, file=f) for i, f in enumerate(files)]
    return Entry("checkpoint", "job", run, epoch, number, 0, subtasks=parts)


def fence(run, base=0, epoch=0):
    return Entry("fence", "job", run, epoch, base, 0)


def take(storage, log, number, run=1, epoch=1):
    """Writes a checkpoint as the subtasks and the coordinator do."""
    ref = storage.put(state_path(number, 0, 0, epoch), b"x")
    log.append(checkpoint(number, run, epoch, [ref]))


def test_paths():
    assert directory_of(7) == "chk-00000007"
    assert state_path(7, 1, 2, 3) == "chk-00000007/v1-2.e3.state"
    assert finished_path(1, 2, 3) == "finished/v1-2.e3.state"


def test_an_empty_log(storage):
    log = CheckpointLog(storage)
    assert log.is_empty
    assert (log.last_run, log.last_checkpoint_id, log.checkpoints()) == (0, 0, [])
    with pytest.raises(NoCheckpointError, match="there is no checkpoint in"):
        log.latest()
    with pytest.raises(NoCheckpointError, match=r"chk-00000003 is not a complete checkpoint"):
        log.find(3)


def test_what_is_appended_is_found_by_others(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    ref = storage.put(state_path(1, 0, 0, 9), b"data")
    log.append(checkpoint(1, epoch=9, files=[ref]))
    log.append(checkpoint(2, epoch=9))
    other = CheckpointLog(open_storage(storage.url))
    assert [entry.checkpoint_id for entry in other.checkpoints()] == [1, 2]
    assert other.latest().checkpoint_id == 2
    assert other.find(1).subtasks[0].file == ref
    assert other.find(1).size_bytes == 4
    assert (other.last_run, other.last_checkpoint_id, other.is_empty) == (1, 2, False)
    assert storage.names("log") == ["00000001.json", "00000002.json", "00000003.json"]


def test_refresh_sees_what_came_since(storage):
    log, other = CheckpointLog(storage), CheckpointLog(storage)
    log.append(fence(1))
    log.append(checkpoint(1))
    assert other.is_empty
    other.refresh()
    assert other.latest().checkpoint_id == 1


def test_begun_checkpoints_count_for_the_next_id(storage):
    storage.write(state_path(5, 0, 0, 1), b"of a checkpoint that was never completed")
    assert CheckpointLog(storage).last_checkpoint_id == 5


def test_latest_goes_on_from_where_the_newest_run_began(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    for number in (1, 2, 3):
        log.append(checkpoint(number))
    log.append(fence(2, base=2))
    assert log.latest().checkpoint_id == 2
    log.append(checkpoint(4, run=2))
    assert log.latest().checkpoint_id == 4


def test_latest_of_a_run_that_started_afresh_is_nothing(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    log.append(checkpoint(1))
    log.append(fence(2))
    with pytest.raises(NoCheckpointError, match=r"the last run .* completed no checkpoint"):
        log.latest()
    assert log.find(1).checkpoint_id == 1


def test_a_fence_is_no_checkpoint(storage):
    log = CheckpointLog(storage)
    log.append(fence(1, base=0))
    log.append(fence(2, base=7))
    with pytest.raises(NoCheckpointError):
        log.find(7)


def test_the_older_of_two_runs_is_fenced(storage):
    old = CheckpointLog(storage)
    old.append(fence(1))
    take(storage, old, 1)
    new = CheckpointLog(storage)
    new.append(fence(2, base=1))
    with pytest.raises(FencedError, match="another run of the job has taken over"):
        old.append(checkpoint(2))
    with pytest.raises(FencedError):
        old.append(checkpoint(2))  # it stays so
    take(storage, new, 2, run=2)
    assert CheckpointLog(storage).latest().run == 2


def test_the_older_run_is_fenced_also_after_the_newer_has_deleted_all_it_knew(storage):
    old = CheckpointLog(storage)
    old.append(fence(1))
    for number in (1, 2, 3):
        take(storage, old, number)
    new = CheckpointLog(storage)
    new.append(fence(2, base=3))
    for number in range(4, 12):
        take(storage, new, number, run=2, epoch=2)
        new.retain(1, epoch=2)
    with pytest.raises(FencedError):
        old.append(checkpoint(4))
    assert [entry.checkpoint_id for entry in CheckpointLog(storage).checkpoints()] == [11]


def test_the_run_that_loses_the_race_for_the_fence_can_look_again(storage):
    first, second = CheckpointLog(storage), CheckpointLog(storage)
    first.append(fence(1))
    with pytest.raises(FencedError):
        second.append(fence(1))
    second.refresh()
    assert second.last_run == 1
    second.append(fence(2))
    with pytest.raises(FencedError):
        first.append(checkpoint(1))


def test_retain_keeps_the_newest_checkpoints_all_fences_and_what_is_being_written(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    take(storage, log, 1)
    storage.write(state_path(2, 0, 0, 1), b"aborted")
    take(storage, log, 3)
    log.append(fence(2, base=3))
    for number in (4, 5):
        take(storage, log, number, run=2, epoch=2)
    storage.write(state_path(6, 0, 0, 2), b"being written")
    log.retain(2, epoch=2)
    assert [name for name in storage.names("") if name.startswith("chk")] == [
        "chk-00000004",
        "chk-00000005",
        "chk-00000006",
    ]
    assert storage.names("log") == ["00000001.json", "00000004.json", "00000005.json", "00000006.json"]
    again = CheckpointLog(storage)
    assert [entry.checkpoint_id for entry in again.checkpoints()] == [4, 5]
    assert again.last_run == 2
    for part in again.latest().subtasks:
        storage.get(part.file)


def test_retain_keeps_the_last_files_of_finished_subtasks_that_are_referred_to(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    used = storage.put(finished_path(0, 0, 1), b"used")
    storage.put(finished_path(0, 1, 1), b"of an attempt that failed")
    storage.put(finished_path(0, 1, 2), b"of this attempt, not in a checkpoint yet")
    log.append(checkpoint(1, epoch=1, files=[used]))
    log.retain(3, epoch=2)
    assert storage.names("finished") == ["v0-0.e1.state", "v0-1.e2.state"]


def test_retain_before_the_first_checkpoint_deletes_nothing(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    storage.write(state_path(1, 0, 0, 1), b"being written")
    log.retain(1, epoch=1)
    assert storage.names("chk-00000001") == ["v0-0.e1.state"]
    assert storage.names("log") == ["00000001.json"]


def test_other_files_are_left_alone(storage):
    storage.write("notes.txt", b"mine")
    storage.write("log/README", b"mine")
    storage.write("log/.00000001.json.123.tmp", b"half")
    log = CheckpointLog(storage)
    assert log.is_empty
    log.append(fence(1))
    take(storage, log, 1)
    log.retain(1, epoch=5)
    assert storage.read("notes.txt") == storage.read("log/README") == b"mine"


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind": "checkpoint"}', b"\xff"])
def test_a_damaged_entry_is_named_and_the_log_goes_on_behind_it(storage, content):
    log = CheckpointLog(storage)
    log.append(fence(1))
    log.append(checkpoint(1))
    storage.write("log/00000002.json", content)
    damaged = CheckpointLog(storage)
    with pytest.raises(DamagedCheckpointError, match=r"log/00000002\.json is damaged"):
        damaged.latest()
    assert not damaged.is_empty
    damaged.append(fence(2))
    assert storage.names("log")[-1] == "00000003.json"


def test_an_entry_that_was_changed_is_damaged(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    log.append(checkpoint(1))
    text = storage.read("log/00000002.json").replace(b'"checkpoint_id": 1', b'"checkpoint_id": 2')
    storage.write("log/00000002.json", text)
    with pytest.raises(DamagedCheckpointError, match="digest"):
        CheckpointLog(storage).latest()


def test_a_newer_format_is_refused(storage):
    storage.write("log/00000001.json", msgspec.json.encode(Entry("fence", "job", 1, 1, 0, 0, format=99)))
    with pytest.raises(CheckpointError, match="format 99"):
        CheckpointLog(storage).latest()


def test_an_entry_that_is_deleted_while_the_log_is_read_is_gone(storage):
    log = CheckpointLog(storage)
    log.append(fence(1))
    for number in (1, 2):
        take(storage, log, number)
    names = storage.names

    class Racing(type(storage)):
        def names(self, directory):
            result = names(directory)
            if directory == "log":
                storage.delete("log/00000002.json")
            return result

    storage.__class__ = Racing
    assert CheckpointLog(storage).latest().checkpoint_id == 2


@given(st.lists(st.sampled_from(["append", "take_over", "retain", "late"]), max_size=25))
@settings(max_examples=60, deadline=None)
def test_whatever_the_runs_do_only_the_newest_adds_and_its_last_checkpoint_is_the_latest(steps):
    storage = open_storage(f"memory://{uuid.uuid4().hex}")
    runs = [CheckpointLog(storage)]
    runs[0].append(fence(1))
    base, done, number = 0, [], 0
    for step in steps:
        if step == "append":
            number += 1
            take(storage, runs[-1], number, run=len(runs), epoch=len(runs))
            done.append(number)
        elif step == "retain":
            runs[-1].retain(2, epoch=len(runs))
        elif step == "take_over":
            log = CheckpointLog(storage)
            assert log.last_run == len(runs)
            base = done[-1] if done else base
            runs.append(log)
            log.append(fence(len(runs), base))
            done = []
        else:
            for old in runs[:-1]:
                with pytest.raises(FencedError):
                    old.append(checkpoint(99))
        log = CheckpointLog(storage)
        if done or base:
            assert log.latest().checkpoint_id == (done[-1] if done else base)
        else:
            with pytest.raises(NoCheckpointError):
                log.latest()


def test_a_file_reference_in_a_manifest_is_complete(storage):
    log = CheckpointLog(storage)
    log.append(checkpoint(1, files=[FileRef("chk-00000001/v0-0.e1.state", 3, "abc")]))
    (part,) = CheckpointLog(storage).latest().subtasks
    assert (part.vertex, part.index, part.parallelism, part.operators, part.finished) == (0, 0, 1, ["op"], False)
    assert part.file == FileRef("chk-00000001/v0-0.e1.state", 3, "abc")


def test_what_comes_too_late_is_deleted_with_the_next_retention():
    """A survivor of an older attempt writes into directories of checkpoints that are complete, kept or gone."""
    storage = MemoryStorage()
    log = CheckpointLog(storage)

    def complete(number):
        file = storage.put(state_path(number, 0, 0, 2), b"state")
        part = SubtaskEntry(0, 0, 1, ["op"], finished=False, file=file)
        log.append(Entry("checkpoint", "job", 1, 2, number, 0, subtasks=[part]))
        log.retain(2, epoch=2)

    for number in (1, 2, 3):
        complete(number)
    for number in (1, 2, 3, 4, 5):
        storage.write(state_path(number, 0, 0, 1), b"too late")
    complete(5)
    kept = set().union(*(entry.paths for entry in log.checkpoints()))
    assert {path for path in storage.files if not path.startswith("log/")} == kept
