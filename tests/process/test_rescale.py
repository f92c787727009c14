"""Stopped at one parallelism, restored at another: results as without the change."""

import signal

import process_jobs as jobs
import pytest
from process_harness import counted

from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.storage import open_storage

RECORDS = 2000


def stop(runs, function, parallelism, **settings):
    run = runs.start(function, "--parallelism", str(parallelism), **settings)
    run.wait_for("checkpoint complete", count=2)
    run.signal(signal.SIGTERM)
    run.expect(0)
    assert "stopped on request" in run.text


def snapshot(runs):
    storage = open_storage(str(runs.checkpoints))
    manifest = CheckpointLog(storage).latest()
    parts = [read_part(storage, entry, allow_pickle=False) for entry in manifest.subtasks]
    return storage, manifest, parts


@pytest.mark.parametrize("parallelism", [1, 3])
def test_keyed_state_columnar_state_timers_and_splits_move(runs, parallelism):
    stop(runs, "keyed", 2, records=RECORDS, rate=500)
    storage, manifest, parts = snapshot(runs)
    state = read_state(storage, manifest)
    assert len(state["sums"]["sums"]) == len(state["alarms"]["first"]) == jobs.KEYS
    assert {manifest.operators[uid].parallelism for uid in ("source", "sums", "alarms")} == {2}
    assert sum(len(p.operators["alarms"].keyed["timers"]) for p in parts if "alarms" in p.operators) > 1
    before = len(runs.rows("rows"))
    assert 0 < before < RECORDS
    rest = runs.start("keyed", "--parallelism", str(parallelism), restore="latest", records=RECORDS, rate=1e6).expect(0)
    assert f"finished: {RECORDS - before:,} records" in rest.text
    assert counted(runs.rows("rows")) == counted(jobs.expected_rows(RECORDS))
    wanted = [
        {"key": key, "total": sum(range(key, RECORDS, jobs.KEYS)), "count": len(range(key, RECORDS, jobs.KEYS))}
        for key in range(jobs.KEYS)
    ]
    assert counted(runs.rows("sums")) == counted(wanted)
    # each key's timer was set once, before the stop, and fires once; its first number is one of the splits' firsts
    alarms = runs.rows("alarms")
    assert sorted(alarm["key"] for alarm in alarms) == list(range(jobs.KEYS))
    assert {alarm["key"]: alarm["first"] for alarm in alarms} == state["alarms"]["first"]


@pytest.mark.parametrize(("parallelism", "workers"), [(1, 1), (3, 2)])
def test_records_in_flight_on_a_back_edge_move(runs, parallelism, workers):
    """At 3 the source (of two splits) and the map no longer share a chain, so every vertex has another number."""
    settings = {"records": 300, "release": runs.directory / "release"}
    stop(runs, "wanderers", 2, rate=100, **settings)
    _, manifest, parts = snapshot(runs)
    in_flight = [batch for part in parts for channel in part.in_flight.inputs for batch in channel.elements]
    assert in_flight, "nothing was in flight"
    assert not any(entry.finished for entry in manifest.subtasks)
    assert not runs.rows("rows")
    settings["release"].touch()
    options = ("--parallelism", str(parallelism), "--workers", str(workers))
    runs.start("wanderers", *options, restore="latest", rate=1e6, **settings).expect(0)
    assert counted(runs.rows("rows")) == counted([{"n": n, "counted": True} for n in range(300)])


def test_subtasks_that_had_finished_in_part_keep_their_parallelism(runs):
    """One split ends at once, the other goes on: what the finished one emitted at its end can't be divided."""
    run = runs.start("uneven", "--parallelism", "2")
    run.wait_for("checkpoint complete", count=3)
    run.signal(signal.SIGTERM)
    run.expect(0)
    assert any(entry.finished for entry in snapshot(runs)[1].subtasks)
    rest = runs.start("uneven", "--parallelism", "1", restore="latest").expect(4)
    assert "some of its subtasks had finished in the snapshot, so its parallelism can't change now" in rest.text
    assert "hint: restore with parallelism 2" in rest.text
    assert "restarting" not in rest.text
    rest = runs.start("uneven", "--parallelism", "2", restore="latest")
    rest.wait_for("checkpoint complete")
    rest.signal(signal.SIGTERM)
    rest.expect(0)


def test_records_in_flight_on_a_back_edge_that_is_no_more_are_not_dropped_silently(runs):
    settings = {"records": 300, "release": runs.directory / "release"}
    stop(runs, "wanderers", 2, rate=100, **settings)
    settings["release"].touch()
    rest = runs.start("wanderers_on_another_edge", "--parallelism", "2", restore="latest", rate=100, **settings)
    rest.expect(4)
    assert "records in flight on the edge wander.again>wander.1, which the topology no longer has" in rest.text
    assert "restarting" not in rest.text
