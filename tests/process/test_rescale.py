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


@pytest.mark.parametrize("parallelism", [1, 3])
def test_subtasks_that_had_finished_in_part_move(runs, parallelism):
    """One split ends at once, the other goes on."""
    run = runs.start("uneven", "--parallelism", "2")
    run.wait_for("checkpoint complete", count=3)
    run.signal(signal.SIGTERM)
    run.expect(0)
    assert {entry.finished for entry in snapshot(runs)[1].subtasks} == {True, False}
    before = counted(runs.rows("rows"))
    assert before[("key", 0), ("n", 1)] == 2, "the first of each split"
    rest = runs.start("uneven", "--parallelism", str(parallelism), restore="latest")
    rest.wait_for("checkpoint complete", count=2)
    rest.signal(signal.SIGTERM)
    rest.expect(0)
    after = counted(runs.rows("rows"))
    last = max(row["n"] for row in runs.rows("rows"))
    assert last > len(before)
    assert after == counted([{"n": n, "key": 0} for n in [1, *range(1, last + 1)]])


def test_records_in_flight_on_a_back_edge_that_is_no_more_are_not_dropped_silently(runs):
    settings = {"records": 300, "release": runs.directory / "release"}
    stop(runs, "wanderers", 2, rate=100, **settings)
    settings["release"].touch()
    rest = runs.start("wanderers_on_another_edge", "--parallelism", "2", restore="latest", rate=100, **settings)
    rest.expect(4)
    assert "records in flight on the edge wander.again>wander.1, which the topology no longer has" in rest.text
    assert "restarting" not in rest.text
    again = runs.start(
        "wanderers_on_another_edge", "--parallelism", "2", "--allow-dropped-state", restore="latest", rate=1e6,
        **settings,
    )  # fmt: skip
    again.expect(0)
    assert "which the topology no longer has; it is dropped" in again.text
    assert len(runs.rows("rows")) < 300


OLD_CLASS = """
from dataclasses import dataclass
from streamcore import ProcessFunction, Schema, StreamEnvironment, ValueState
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource


@dataclass
class Account:
    total: int
    note: str = "old"


class Totals(ProcessFunction):
    def open(self, ctx):
        self.account = ctx.state(ValueState("account", Account(0)))

    def process(self, record, ctx):
        self.account.set(Account(self.account.get().total + record["n"]))
        ctx.register_timer(1 << 50)  # fires at the end of input

    def on_timer(self, time_ms, ctx):
        ctx.emit({"key": ctx.key, **vars(self.account.get())})


def rows(start, stop):
    return [{"n": n, "key": n % 7} for n in range(start, stop)]


def shop(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    source = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    totals = source.key_by(lambda r: r["key"]).process(Totals()).uid("totals")
    totals.sink(FileSink(f"{output}/totals", if_exists="replace")).uid("sink")
"""


def test_the_class_of_the_state_may_have_changed_meanwhile(runs):
    file = runs.directory / "shop_job.py"
    file.write_text(OLD_CLASS)
    run = runs.start("shop", "--parallelism", "2", target=file, records=RECORDS, rate=500)
    run.wait_for("checkpoint complete", count=2)
    run.signal(signal.SIGTERM)
    run.expect(0)
    options = {"target": file, "restore": "latest", "records": RECORDS, "rate": 1e6}
    file.write_text(OLD_CLASS.replace("total: int", "owner: str\n    total: int").replace("Account(", "Account('x', "))
    text = runs.start("shop", "--parallelism", "2", **options).expect(4).text
    assert "operator 'Totals'" in text
    assert "state 'account': Account has a field owner without default" in text
    assert "hint: give the field a default" in text
    assert "restarting" not in text
    file.write_text(OLD_CLASS.replace('total: int\n    note: str = "old"', "total: float = 0.5\n    limit: int = 10"))
    text = runs.start("shop", "--parallelism", "3", "--workers", "2", **options).expect(0).text
    assert (
        "state 'account': Account: field limit is new, field note is dropped, field total was int and is float" in text
    )
    assert counted(runs.rows("totals")) == counted(
        [{"key": key, "total": float(sum(range(key, RECORDS, 7))), "limit": 10} for key in range(7)]
    )
