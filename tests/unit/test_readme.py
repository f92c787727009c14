"""The examples in README.md run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

from streamcore.connectors.file_sink import read_jsonl

README = Path(__file__).parents[2] / "README.md"
PRELUDE = """
from typing import NamedTuple
from streamcore import CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment, ValueState

class Reading(NamedTuple):
    sensor: int
    time: int
    celsius: float

class Alert(NamedTuple):
    sensor: int
    time: int
    mean: float
    alert: bool

class Step(CoProcessFunction):
    def process_first(self, record, ctx):
        if record < 3:
            ctx.side_output(AGAIN, record + 1)
        ctx.emit(record)
    process_second = process_first

AGAIN, key = OutputTag("again"), lambda record: record
env = StreamEnvironment()
numbers = env.from_values([0])
readings = env.from_values([Reading(1, 0, 20.0), Reading(1, 1, 35.0), Reading(2, 0, 21.0)], Reading)
"""


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_first_topology_runs_by_its_own_command_line(tmp_path):
    (tmp_path / "means.py").write_text(blocks()[0])
    (tmp_path / "readings.csv").write_text("sensor,time,fahrenheit\n1,1500,50\n2,1600,14\n1,2500,68\n1,9000,-4\n")
    command = [sys.executable, "-P", "-m", "streamcore", "run", "means.py:build", "--set", "input=readings.csv"]
    command += ["--workers", "2", "--checkpoint-dir", "checkpoints", "--checkpoint-interval", "1s"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    bounds = [(start, start + 5000) for start in range(-3000, 3000, 1000)]
    values = [[10.0] if end <= 2500 else [20.0] if start > 1500 else [10.0, 20.0] for start, end in bounds]
    assert sorted(read_jsonl(str(tmp_path / "out/means")), key=str) == sorted(
        (
            {
                "sensor": 1,
                "window_start": start,
                "window_end": end,
                "mean_celsius": sum(celsius) / len(celsius),
                "count": len(celsius),
            }
            for (start, end), celsius in zip(bounds, values, strict=True)
        ),
        key=str,
    )


def test_the_scan_runs():
    names: dict = {}
    exec(PRELUDE + blocks()[1], names)
    results = sorted(names["alerts"].execute_and_collect())
    assert results == [(1, 0, 20.0, False), (1, 1, 21.5, True), (2, 0, 21.0, False)]


def test_the_process_function_runs():
    names: dict = {}
    code = blocks()[2].replace("readings.key_by", "result = readings.key_by")
    exec(PRELUDE + code, names)
    assert names["result"].execute_and_collect() == [(1, 20.0), (1, 35.0), (2, 21.0)]


CLICKS = """
from streamcore import Schema, bounded_out_of_orderness, count, count_distinct, minutes, quantile, seconds, session
from streamcore.connectors.iterable_source import IterableSource

CLICK = Schema.of(user=str, time=int, page=str, ms=float)
rows = [("ann", 0, "a", 5.0), ("ann", 60_000, "b", 7.0), ("bob", 120_000, "a", 1.0), ("ann", 9_000_000, "c", 3.0)]
source = IterableSource([*rows, ("ann", 1, "late", 0.0)], CLICK)
env = StreamEnvironment(batch_size=1, buffer_timeout=0)
"""


def test_the_sessions_run():
    names: dict = {}
    exec(PRELUDE + CLICKS + blocks()[3], names)
    found = sorted((v.user, v.window_start, v.count, v.pages, v.p99) for v in names["visits"].execute_and_collect())
    assert found == [("ann", 0, 2, 2, 6.98), ("ann", 9_000_000, 1, 1, 3.0), ("bob", 120_000, 1, 1, 1.0)]
    assert [record.page for record in names["too_late"].execute_and_collect()] == ["late"]


def test_the_snapshot_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(PRELUDE + "from streamcore import Checkpointing, Snapshot\n" + blocks()[4], {})


def test_the_loop_runs():
    names: dict = {}
    exec(PRELUDE + blocks()[5], names)
    assert sorted(names["steps"].execute_and_collect()) == [0, 1, 2, 3]
