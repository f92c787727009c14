"""The examples in README.md run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

from streamcore.connectors.file_sink import read_jsonl

README = Path(__file__).parents[2] / "README.md"
PRELUDE = """
from dataclasses import dataclass
from streamcore import CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment, ValueState

@dataclass
class Reading:
    sensor: int
    celsius: float

class Step(CoProcessFunction):
    def process_first(self, record, ctx):
        if record < 3:
            ctx.side_output(AGAIN, record + 1)
        ctx.emit(record)
    process_second = process_first

AGAIN, key = OutputTag("again"), lambda record: record
env = StreamEnvironment()
numbers = env.from_values([0])
readings = env.from_values([Reading(1, 20.0), Reading(1, 35.0), Reading(2, 21.0)], Reading)
"""


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_first_topology_runs_by_its_own_command_line(tmp_path):
    (tmp_path / "warm.py").write_text(blocks()[0])
    (tmp_path / "readings.csv").write_text("sensor,celsius\n1,20.5\n2,30\n1,26\n2,31.5\n")
    command = [sys.executable, "-P", "-m", "streamcore", "run", "warm.py:build", "--set", "input=readings.csv"]
    command += ["--workers", "2", "--checkpoint-dir", "checkpoints", "--checkpoint-interval", "1s"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert sorted(read_jsonl(str(tmp_path / "out/warm")), key=str) == [
        {"sensor": 1, "count": 1},
        {"sensor": 2, "count": 2},
    ]


def test_the_process_function_runs():
    names: dict = {}
    code = blocks()[1].replace("readings.key_by", "result = readings.key_by")
    exec(PRELUDE + code, names)
    assert names["result"].execute_and_collect() == [(1, 20.0), (1, 35.0), (2, 21.0)]


def test_the_loop_runs():
    names: dict = {}
    exec(PRELUDE + blocks()[2], names)
    assert sorted(names["steps"].execute_and_collect()) == [0, 1, 2, 3]
