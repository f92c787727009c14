"""A user's function that raises, and checkpoints that can't be written: restarts within the policy, then an end."""

import os
import threading
from pathlib import Path

import process_jobs as jobs
import pytest
from process_harness import counted, until

from streamcore import Checkpointing, FixedDelay, NoRestart, StreamEnvironment
from streamcore.connectors.file_sink import read_jsonl
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import CheckpointError, UserFunctionError
from streamcore.job import coordinator, processes

RECORDS = 2000


class Paths:
    def __init__(self, root):
        self.output, self.marks = root / "out", root / "marks"
        self.checkpoints, self.log = root / "checkpoints", root / "checkpoints" / "log"

    @property
    def failures(self):
        return self.marks.read_text().count("\n") if self.marks.exists() else 0


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def environment(paths, *, restart, workers=1, checkpoints=True, tolerable_failures=2):
    checkpointing = Checkpointing(str(paths.checkpoints), interval=0.03, tolerable_failures=tolerable_failures)
    return StreamEnvironment(
        "fragile",
        workers=workers,
        parallelism=2,
        batch_size=64,
        restart=restart,
        checkpoint=checkpointing if checkpoints else None,
    )


def build(env, paths, failures, *, log, rate=4000):
    jobs.fragile(
        env, output=str(paths.output), records=RECORDS, rate=rate, marks=str(paths.marks), log=log, failures=failures
    )


def assert_exactly_once(paths):
    assert counted(read_jsonl(paths.output / "rows")) == counted(jobs.expected_rows(RECORDS))
    assert counted(read_jsonl(paths.output / "counts")) == counted(jobs.expected_counts(RECORDS))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_that_raises_at_first_is_run_again_from_the_newest_checkpoint(paths, workers):
    env = environment(paths, restart=FixedDelay(attempts=2, delay=0.01), workers=workers)
    build(env, paths, failures=2, log=str(paths.log))
    result = env.execute()
    assert 1 <= result.restarts <= 2
    assert 2 <= paths.failures <= 3  # both subtasks may stumble before the first is heard of
    assert result.records_read < RECORDS  # the last attempt went on from a checkpoint
    assert_exactly_once(paths)


def test_before_the_first_checkpoint_it_starts_from_the_beginning(paths):
    env = environment(paths, restart=FixedDelay(attempts=1, delay=0.01))
    build(env, paths, failures=1, log="", rate=100_000)
    result = env.execute()
    assert (result.restarts, result.records_read) == (1, RECORDS)
    assert_exactly_once(paths)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_that_always_raises_ends_the_job_after_the_policy_gave_up(paths, workers):
    env = environment(paths, restart=FixedDelay(attempts=2, delay=0.01), workers=workers)
    build(env, paths, failures=1000, log="")
    with pytest.raises(UserFunctionError) as caught:
        env.execute()
    # both subtasks may stumble before the first is heard of
    assert 3 <= paths.failures <= 6
    assert "'map' (" in caught.value.message
    assert "process_jobs.py:" in caught.value.message
    assert "ValueError: stumbled over" in caught.value.message
    assert "in stumble" in caught.value.traceback_text
    assert "raise ValueError(f\"stumbled over {record['n']}\")" in caught.value.traceback_text
    assert "streamcore/runtime" not in caught.value.traceback_text
    assert counted(read_jsonl(paths.output / "rows")) == {}


def test_without_checkpoints_the_first_failure_ends_the_job(paths):
    env = environment(paths, restart=None, checkpoints=False)
    build(env, paths, failures=1, log="")
    with pytest.raises(UserFunctionError):
        env.execute()


def test_the_command_shows_the_traceback_of_the_users_code_and_nothing_else(runs, paths):
    run = runs.start(
        "fragile", "--restart-attempts", "0", records=10, rate=1000, marks=paths.marks, log="", failures=1000
    ).expect(1)
    before, _, after = run.text.partition("error: ")
    assert before.startswith("Traceback of your code (most recent call last):\n")
    assert "in stumble\n    raise ValueError" in before
    assert "streamcore/runtime" not in run.text
    assert "operator 'map'" in after
    assert "on record {'n': 0, 'key': 0}" in after or "on record {'n': 5, 'key': 5}" in after


def test_the_command_says_that_it_restarts_and_from_where(runs, paths):
    run = runs.start("fragile", "--restart-attempts", "1", records=RECORDS, rate=4000, marks=paths.marks,
                     log=runs.checkpoints / "log", failures=1).expect(0)  # fmt: skip
    assert f"restarting in 1.0 s from {runs.checkpoints}/chk-0000" in run.text
    assert "ValueError: stumbled over" in run.text
    assert_exactly_once(paths)


def disturb(record, checkpoints, moved, marks, back):
    """After the first checkpoint: puts a file in the place of the checkpoint directory; takes it away again when
    `back` records have come since. Each at one stroke: another thread would make a directory that isn't there."""
    directory, new = Path(checkpoints), Path(f"{moved}.new")
    if not Path(marks).exists():
        if jobs.manifests(directory / "log"):
            new.write_text("in the way")
            new.replace(directory)
            Path(marks).write_text("")
    elif back and directory.is_file():
        with Path(marks).open("a") as file:
            file.write(".")
        if Path(marks).stat().st_size >= back:
            new.symlink_to(moved)
            new.replace(directory)
    return record


def disturbed(paths, *, back, restart, tolerable_failures):
    env = environment(paths, restart=restart, tolerable_failures=tolerable_failures)
    source = env.source(GeneratorSource(jobs.rows, count=RECORDS, rate=4000))
    moved = Path(f"{paths.checkpoints}-moved")
    moved.mkdir()
    paths.checkpoints.symlink_to(moved)
    arguments = (str(paths.checkpoints), str(moved), str(paths.marks), back)
    source.parallelism(1).map(lambda r: disturb(r, *arguments)).sink(jobs.sink(paths.output, "rows"))
    return env


class Failures:
    """An observer that keeps the status, to look at after the run."""

    async def __call__(self, status):
        self.status = status


def test_a_checkpoint_that_cannot_be_written_is_counted_and_tolerated(paths):
    env, seen = disturbed(paths, back=500, restart=NoRestart(), tolerable_failures=1000), Failures()
    result = env.execute((seen,))
    assert seen.status.checkpoint_failures >= 1
    assert (result.restarts, result.records_read) == (0, RECORDS)
    assert counted(read_jsonl(paths.output / "rows")) == counted(jobs.expected_rows(RECORDS))


def test_more_failed_checkpoints_than_are_tolerated_end_the_job(paths):
    env, seen = disturbed(paths, back=0, restart=NoRestart(), tolerable_failures=1), Failures()
    with pytest.raises(CheckpointError) as caught:
        env.execute((seen,))
    assert seen.status.checkpoint_failures == 2
    assert caught.value.message.startswith("checkpoint ")
    assert "Not a directory" in caught.value.message
    assert f"{paths.checkpoints}{os.sep}" in caught.value.message
    assert caught.value.exit_code == 4


def test_no_restart_can_bring_back_a_directory_that_is_gone(paths):
    env = disturbed(paths, back=0, restart=FixedDelay(attempts=1, delay=0.01), tolerable_failures=0)
    with pytest.raises(CheckpointError) as caught:
        env.execute()
    assert str(paths.checkpoints) in caught.value.message
    assert "Traceback" not in caught.value.message


def hold_on(record, held):
    """In the first attempt the one split's first record raises when the other's holds its worker."""
    if record["n"] == RECORDS // 2 and not Path(held).exists():
        Path(held).write_text("")
        threading.Event().wait(60)
    if record["n"] == 0 and not Path(held + "-seen").exists():
        until(Path(held).exists, "the record that holds on")
        Path(held + "-seen").write_text("")
        raise ValueError("now")
    return record


def test_a_worker_that_does_not_let_go_of_a_record_is_replaced_once(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(coordinator, "CANCEL_TIMEOUT_S", 0.1)
    monkeypatch.setattr(processes, "LEAVE_TIMEOUT_S", 0.1)
    env = environment(paths, restart=FixedDelay(attempts=1, delay=0.01), workers=2)
    held = str(tmp_path / "held")
    source = env.source(GeneratorSource(jobs.rows, count=RECORDS, splits=2))
    source.map(lambda r: hold_on(r, held)).sink(jobs.sink(paths.output, "rows"))
    assert env.execute().restarts == 1
    assert counted(read_jsonl(paths.output / "rows")) == counted(jobs.expected_rows(RECORDS))
