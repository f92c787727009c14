"""Savepoints and questions by the command line, of jobs in processes of their own."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import process_jobs as jobs
import pytest
from click.testing import CliRunner
from process_harness import TIMEOUT_S, counted, until

import streamcore
from streamcore.checkpoint.choice import find
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.cli.main import cli
from streamcore.errors import JobUnavailableError, NoCheckpointError, SavepointError, UnknownJobError
from streamcore.job.registry import running_jobs

RECORDS = 3000
STARTED = "checkpoint complete"
JOB = "process_jobs"


def ask(*arguments, code=0):
    """A command against a running job; what it prints."""
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done.stdout.strip() if code == 0 else done.stderr


def files_of(directory):
    return {path: path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def test_a_job_is_killed_after_a_savepoint_and_goes_on_from_it(runs, tmp_path):
    """It takes no checkpoints, so nothing is committed before; restoring the savepoint commits what belongs to it."""
    run = runs.start("numbers", "--workers", "2", checkpoints=False, records=10 * RECORDS, rate=1000)
    until(lambda: list(runs.output.glob("rows/.part-*")), "the first record")
    assert "no checkpoint directory to put a savepoint in" in ask("savepoint", JOB, code=2)
    savepoint = ask("savepoint", JOB, "--dir", tmp_path / "savepoints")
    assert Path(savepoint).parent == tmp_path / "savepoints"
    run.kill()
    assert not runs.rows("rows")
    kept = files_of(savepoint)
    runs.start("numbers", restore=savepoint, records=10 * RECORDS, rate=1e6).expect(0)
    assert files_of(savepoint) == kept, "a savepoint belongs to nobody"
    assert counted(runs.rows("rows")) == counted(jobs.expected_rows(10 * RECORDS))
    assert counted(runs.rows("counts")) == counted(jobs.expected_counts(10 * RECORDS))


def test_a_loop_is_stopped_with_a_savepoint_and_goes_on_from_it(runs):
    run = runs.start("loop", "--workers", "2", records=RECORDS, rate=1000)
    run.wait_for(STARTED)
    savepoint = ask("savepoint", JOB, "--stop")
    assert Path(savepoint).parent == runs.checkpoints / "savepoints"
    run.expect(0)
    assert "stopped on request: " in run.text
    assert f"run it again with --restore {savepoint}" in run.text
    (manifest,) = CheckpointLog(open_storage(savepoint)).checkpoints()
    assert runs.checkpoint_ids()[-1] == manifest.checkpoint_id, "the latest checkpoint is not behind what was committed"
    seen = runs.rows("hops")
    assert 0 < len(seen) < RECORDS * (jobs.HOPS + 1)
    runs.start("loop", restore=savepoint, records=RECORDS, rate=1e6).expect(0)
    assert counted(runs.rows("hops")) == counted(jobs.expected_hops(RECORDS))
    assert not list(runs.output.glob("*/.part-*")), "unfinished output was left behind"


def test_a_kill_in_the_middle_leaves_nothing_that_looks_complete(runs, tmp_path):
    """The stuck subtask never writes its part."""
    started = runs.directory / "started"
    rare = ("--checkpoint-dir", str(runs.checkpoints), "--checkpoint-interval", "1h")
    run = runs.start("stuck", "--workers", "2", *rare, checkpoints=False, started=started)
    until(started.exists, "the record that blocks")
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(streamcore.connect(JOB).savepoint, tmp_path / "savepoints")
        run.wait_for("savepoint begun")
        run.kill()
        with pytest.raises((SavepointError, JobUnavailableError), match="ended"):
            asked.result(TIMEOUT_S)
    (place,) = (tmp_path / "savepoints").iterdir()
    with pytest.raises(NoCheckpointError, match="was never completed"):
        find(str(place))


def test_errors_say_what_can_be_done(runs, tmp_path):
    assert "no job 'nobody' runs here" in ask("savepoint", "nobody", code=2)
    run = runs.start("endless", rate=2000)
    run.wait_for(STARTED)
    (tmp_path / "file").write_text("in the way")
    assert "a savepoint can't be written to" in ask("savepoint", JOB, "--dir", tmp_path / "file", code=4)
    assert "--timeout" in ask("savepoint", JOB, "--timeout", "soon", code=2)
    other = runs.start("endless", checkpoints=False, output=tmp_path / "other", rate=2000)
    both = until(lambda: [job.pid for job in running_jobs() if job.job == JOB][1:] and running_jobs(), "the other job")
    message = ask("state", JOB, code=2)
    assert f"2 jobs with the name '{JOB}' run here" in message
    assert all(str(entry.pid) in message for entry in both)
    assert "source" in ask("state", other.process.pid)
    other.kill()  # its entry stays, and nobody is behind it
    entries = Path(os.environ["STREAMCORE_RUNTIME_DIR"])
    assert list(entries.glob(f"{other.process.pid}-*"))
    listed = ask("jobs")
    assert str(run.process.pid) in listed
    assert str(other.process.pid) not in listed
    assert not list(entries.glob(f"{other.process.pid}-*"))
    ask("stop", JOB)
    run.expect(0)
    assert ask("jobs") == "no jobs are running"
    with pytest.raises(UnknownJobError, match="no job of this user runs"):
        streamcore.connect(JOB)


def test_state_is_asked_for_live_and_as_of_the_last_checkpoint_of_every_worker(runs):
    run = runs.start("endless", "--workers", "2", rate=4000)
    run.wait_for(STARTED)
    client = streamcore.connect(JOB)
    assert client.operators()["counts"] == "count"
    assert client.states("counts") == {"count": "value"}
    for key in range(jobs.KEYS):  # some are on each worker
        saved = client.state("counts", "count", key)
        live = client.state("counts", "count", key, consistency="live")
        assert 0 < saved <= live
    assert client.state("counts", "count", 99, "nothing") == "nothing"
    assert client.state("counts", "count", 99, "nothing", consistency="live") == "nothing"
    assert int(ask("state", JOB, "counts", "count", 5, "--live")) >= live - 13
    assert int(ask("state", JOB, "counts", "count", 5)) > 0
    worker = run.workers[0]
    os.kill(worker, 9)
    until(lambda: client.status().restarts == 1, "the news of a worker's end")
    assert client.state("counts", "count", 5, consistency="live", timeout=TIMEOUT_S) > 0, (
        "asked again after the restart"
    )
    client.stop(drain=True)
    run.expect(0)
    assert "stopping: the input ends here" in run.text
