"""The benchmark's harness with engines that are right, wrong, broken or silent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench import data, exchange, report, run
from tests.bench.engines import ENGINES, POLARS, STREAMCORE, Engine, entries
from tests.bench.environments import NotInstallableError
from tests.bench.expected import expected
from tests.bench.own import row
from tests.bench.processes import EngineError, EngineProcess
from tests.bench.workload import WORKLOADS
from tests.bench.workloads import Measured

ROOT = Path(__file__).parents[2]
ROWS = 1_000
WORD_COUNT = next(workload for workload in WORKLOADS if workload.id == "word-count")

ANSWER = """
import sys
output = sys.argv[sys.argv.index("--output") + 1]
print("noise of an engine")
print('@bench {"ready": true, "start_s": 0.25, "first_run_s": null, "version": "1.2"}', flush=True)
for line in sys.stdin:
    import pathlib, shutil
    pathlib.Path(output).mkdir(parents=True, exist_ok=True)
    ACT
    print('@bench {"seconds": 0.5, "start_s": null}', flush=True)
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / f"engine-{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        return [sys.executable, str(path)]

    return write


@pytest.fixture
def started(script, tmp_path):
    processes = []

    def start(text, limit_s=60.0):
        process = EngineProcess(
            [*script(text), "--output", str(tmp_path / "out")], {"X": "1"}, tmp_path / "log", limit_s
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.close()


def test_a_process_answers_and_its_memory_is_seen(started):
    process = started(ANSWER.replace("ACT", "held = bytearray(64 << 20)"))
    assert process.ready()["version"] == "1.2"
    assert process.run()["seconds"] == 0.5
    assert 64 < process.peak_mib < 1_000


def test_memory_of_its_children_counts(started):
    grandchild = "import sys; held = bytearray(96 << 20); print(1, flush=True); sys.stdin.read()"
    start = (
        f"import subprocess; child = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdin=-1, stdout=-1); "
        "child.stdout.readline()"
    )
    process = started(ANSWER.replace("ACT", start))
    process.ready()
    process.run()
    assert process.peak_mib > 96


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('print(\'@bench {"error": "out of luck"}\', flush=True)', "out of luck"),
        ("raise SystemExit(7)", "ended with code 7"),
    ],
)
def test_a_process_that_fails_is_told(started, text, message):
    with pytest.raises(EngineError, match=message):
        started(text).ready()


def test_a_process_that_is_silent_is_given_up(started):
    with pytest.raises(EngineError, match="no answer after 0 s"):
        started("import sys; sys.stdin.read()", limit_s=0.0).ready()


class Scripted(Engine):
    """An engine whose process is a script of this test."""

    __slots__ = ()

    def command(self):
        if self.note == "missing":
            raise NotInstallableError("pip install failed: no such thing")
        return [sys.executable, self.module]


@pytest.fixture
def bench(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    inputs = data.make(ROWS)
    expected(WORD_COUNT, inputs).write_csv(tmp_path / "right.csv", include_header=False)
    copy = f"shutil.copy({str(tmp_path / 'right.csv')!r}, output)"

    def engine(name, act=copy, note=""):
        path = script(ANSWER.replace("ACT", act))[1]
        return Scripted(name, {"word-count": None}, path, note=note)

    return engine


def test_right_wrong_broken_and_missing_engines_are_rows_of_one_table(bench):
    engines = [
        bench(STREAMCORE),
        bench(POLARS),
        bench("liar", "pathlib.Path(output, 'x.csv').write_text('word,1\\n')"),
        bench("crasher", "raise SystemExit(3)"),
        bench("absent", note="missing"),
    ]
    rows = list(run.compare(WORD_COUNT, engines, ROWS, 2))
    by_name = {row["engine"]: row for row in rows}
    for name in (STREAMCORE, POLARS):
        assert by_name[name]["correct"]
        assert by_name[name]["records_per_s"] == ROWS / 0.5
        assert by_name[name]["ratio_to_limit"] == 1.0
        assert by_name[name]["start_s"] == 0.25
    assert not any(by_name[name]["correct"] for name in ("liar", "crasher", "absent"))
    assert all(by_name[name]["records_per_s"] is None for name in ("liar", "crasher", "absent"))
    assert by_name["liar"]["note"].startswith("WRONG: 1 rows instead of")
    assert "ended with code 3" in by_name["crasher"]["note"]
    assert "no such thing" in by_name["absent"]["note"]
    assert not list(run.SCRATCH.glob("*/")), "the engines' results stay behind"

    text = report.table(rows)
    liar = next(line for line in text.splitlines() if "liar" in line)
    assert "WRONG" in liar
    assert " x " not in liar
    json.dumps(rows)


def test_the_ratio_is_that_of_streamcore_to_the_engine():
    def line(engine, rate, correct=True):
        return {"workload": "w", "input": "csv", "engine": engine, "records_per_s": rate, "correct": correct}

    own, peer, wrong = line(STREAMCORE, 6e6), line("peer", 2e6), line("wrong", None, correct=False)
    rows = [own, peer, wrong, line("elsewhere", 1e6) | {"input": "parquet"}]
    assert [report.times_faster(one, rows) for one in rows] == ["", "3 x", "", ""]


def test_the_page_has_a_section_for_every_workload(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = Measured(1_000, 0.5, 0.25, True, "a | note", {"mb_per_s": 2.0})
    rows = [row("first", 1, [measured]), row("second", 2, [measured])]
    assert rows[0]["records_per_s"] == 2_000
    assert rows[0]["ratio_to_limit"] == 0.5
    assert rows[0]["mb_per_s"] == 2.0
    report.write_page(rows, runs=3)
    page = Path("docs/benchmarks.md").read_text()
    assert page.index("## first") < page.index("## second") < page.index("## To reproduce")
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 1


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_engine_has_a_script_and_known_workloads(engine):
    if engine.module:
        assert (ROOT / "tests" / "bench" / f"{engine.module.replace('.', '/')}.py").exists()
    assert engine.workloads.keys() <= {workload.id for workload in WORKLOADS}
    assert [entry.kinds for entry in entries(engine, next(iter(engine.workloads)))] == [
        (kind,) for kind in engine.kinds
    ]


@pytest.mark.parametrize("batch_size", [1, exchange.BATCH])
def test_the_exchange_gives_every_number_back(monkeypatch, batch_size):
    monkeypatch.chdir(ROOT)
    measured = exchange.exchange(20_000, batch_size)
    assert measured.correct
    assert 0 < measured.facts["exchange_share"] < 1
