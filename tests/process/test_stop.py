"""SIGTERM: a last checkpoint to go on from, or the end of the input; the second one ends at once."""

import signal
import time

import process_jobs as jobs
import pytest
from process_harness import counted, is_alive, until

from streamcore.job.coordinator import CLOSE_TIMEOUT_S

RECORDS = 3000
STARTED = "checkpoint complete"


def stop_and_go_on(runs, function, *options, records, rate):
    """Stops a run after a checkpoint, asserts what holds then, and runs the rest. Returns the rows seen at the stop."""
    run = runs.start(function, *options, records=records, rate=rate)
    run.wait_for(STARTED)
    run.signal(signal.SIGTERM)
    asked = time.monotonic()
    run.expect(0)
    assert time.monotonic() - asked < CLOSE_TIMEOUT_S - 2, "subtasks had to be closed by force"
    assert "stopping with a last checkpoint" in run.text
    assert "stopped on request: " in run.text
    newest = runs.checkpoint_ids()[-1]
    assert f"run it again with --restore latest (from {runs.checkpoints}/chk-{newest:08d})" in run.text
    seen = {path.name: runs.rows(path.name) for path in runs.output.iterdir()}
    rest = runs.start(function, *options, restore="latest", records=records, rate=1e6).expect(0)
    assert "finished: " in rest.text
    assert not list(runs.output.glob("*/.part-*")), "unfinished output was left behind"
    return seen


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stopped_job_goes_on_where_it_was(runs, workers):
    seen = stop_and_go_on(runs, "numbers", "--workers", workers, records=RECORDS, rate=1000)
    assert 0 < len(seen["rows"]) < RECORDS
    assert not seen["counts"], "final aggregates came out before the input had ended"
    assert counted(runs.rows("rows")) == counted(jobs.expected_rows(RECORDS))
    assert counted(runs.rows("counts")) == counted(jobs.expected_counts(RECORDS))


def test_a_stopped_job_shows_all_that_its_last_checkpoint_has_read(runs):
    run = runs.start("endless", rate=5000)
    run.wait_for(STARTED)
    run.signal(signal.SIGTERM)
    run.expect(0)
    read = sorted(row["n"] for row in runs.rows("rows"))
    assert read, "nothing was visible after the stop"
    # two splits with blocks of 1024 numbers each: both are read without gaps
    for split in (0, 1):
        own = [n for n in read if n // 1024 % 2 == split]
        assert own == [n for n in range(own[-1] + 1) if n // 1024 % 2 == split]


def test_a_loop_is_stopped_with_what_is_in_flight_and_goes_on(runs):
    seen = stop_and_go_on(runs, "loop", "--workers", "2", records=RECORDS, rate=1000)
    assert 0 < len(seen["hops"]) < RECORDS * (jobs.HOPS + 1)
    assert counted(runs.rows("hops")) == counted(jobs.expected_hops(RECORDS))


def test_draining_brings_out_all_that_was_read_with_its_final_aggregates(runs):
    run = runs.start("endless", "--on-stop", "drain", "--workers", "2", rate=5000)
    run.wait_for(STARTED)
    run.signal(signal.SIGTERM)
    run.expect(0)
    assert "stopping: the input ends here" in run.text
    assert "--restore latest" not in run.text  # there is nothing to go on with
    assert_drained(runs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_checkpoints_a_stop_drains(runs, number):
    run = runs.start("endless", checkpoints=False, rate=5000)
    until(lambda: list(runs.output.glob("rows/.part-*")), "the first record")
    run.signal(number)
    run.expect(0)
    assert "stopped on request: " in run.text
    assert_drained(runs)


def test_a_loop_is_drained_to_the_last_turn(runs):
    run = runs.start("loop", "--on-stop", "drain", "--parallelism", "2", records=1_000_000, rate=6000)
    run.wait_for(STARTED)
    run.signal(signal.SIGTERM)
    run.expect(0)
    hops = runs.rows("hops")
    numbers = {row["n"] for row in hops}
    assert 0 < len(numbers) < 1_000_000
    wanted = [{"n": n, "hop": hop, "seen": 1} for n in numbers for hop in range(jobs.HOPS + 1)]
    assert counted(hops) == counted(wanted)


def assert_drained(runs):
    numbers = runs.rows("rows")
    assert numbers, "nothing came out"
    counts = dict.fromkeys(range(jobs.KEYS), 0)
    for row in numbers:
        counts[row["key"]] += 1
    wanted = [{"key": key, "count": count} for key, count in counts.items() if count]
    assert counted(runs.rows("counts")) == counted(wanted)


def test_the_second_signal_ends_at_once_and_leaves_no_worker_behind(runs):
    run = runs.start("stuck", "--workers", "2", started=runs.directory / "started")
    until((runs.directory / "started").exists, "the record that blocks")
    workers = run.workers
    assert len(workers) == 2
    run.signal(signal.SIGTERM)
    run.wait_for("stopping with a last checkpoint")
    run.signal(signal.SIGTERM)
    assert run.wait() == 130
    until(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")
