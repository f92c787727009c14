from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamcore.cli.main import cli
from streamcore.cli.tables import size

ROOT = Path(__file__).resolve().parents[2]

TOPOLOGY = """
from streamcore import App, StreamEnvironment
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource


def build(env: StreamEnvironment, *, n: int = 100, output: str = "out") -> None:
    env.from_values(range(n)).map(lambda x: {"x": x}).sink(FileSink(output))


def halve(x):
    if x == 7:
        raise ValueError("seven is odd")
    return {"x": x / 2}


def fails(env: StreamEnvironment, *, output: str = "out") -> None:
    env.from_values(range(100)).map(halve).sink(FileSink(output))


def endless(env: StreamEnvironment, *, output: str = "out", rate: float = 2000.0) -> None:
    source = GeneratorSource(lambda start, stop: list(range(start, stop)), rate=rate)
    env.source(source).map(lambda x: {"x": x}).sink(FileSink(output))


def report(result, n, output):
    return f"wrote to {output}, n={n + 1}"


def bad_report(result, **settings):
    return settings["nothing"]


REPORTED = App("reported", build, report=report)
BADLY_REPORTED = App("badly", build, report=bad_report)
"""


@pytest.fixture
def topology(tmp_path, monkeypatch):
    """A file of topologies under a name of its own, in the current directory; undoes what a run leaves behind."""
    name = f"topology_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(TOPOLOGY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    logger = logging.getLogger("streamcore")
    before = logger.handlers[:], logger.level, logger.propagate
    yield f"{name}.py"
    logger.handlers[:], logger.level, logger.propagate = before
    sys.modules.pop(name, None)


def invoke(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def spawn(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "streamcore", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def numbers(directory):
    return sorted(json.loads(line)["x"] for part in Path(directory).glob("part-*") for line in part.open())


def wait_for(condition, process, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_run_says_how_long_compiling_took(tmp_path):
    path = tmp_path / "typed.py"
    path.write_text(
        "from typing import NamedTuple\n"
        "class Number(NamedTuple):\n    x: int\n"
        "def build(env):\n"
        "    env.from_values([Number(1)], Number).map(lambda r: Number(r.x + 1), returns=Number).print()\n"
    )
    result = invoke("run", f"{path}:build")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"^functions compiled or loaded in \d+\.\d\d s$", result.stderr, re.MULTILINE)


def test_run_writes_the_output_and_a_summary(topology):
    result = invoke("run", f"{topology}:build", "--set", "n=50", "--set", "output=here")
    assert result.exit_code == 0
    assert numbers("here") == list(range(50))
    assert re.match(r"finished: 50 records in \d\.\d\d s \([\d,]+/s\) after \d\.\d\d s to start, ", result.stderr)
    assert "restarts: 0, checkpoints: 0" in result.stderr
    assert result.stdout == ""


def test_the_report_gets_the_settings_and_goes_to_stdout(topology):
    result = invoke("run", f"{topology}:REPORTED", "--set", "n=4", "--set", "output=here")
    assert result.stdout == "wrote to here, n=5\n"


def test_a_report_that_raises_shows_the_users_line(topology):
    result = invoke("run", f"{topology}:BADLY_REPORTED")
    assert result.exit_code == 1
    assert 'return settings["nothing"]' in result.stderr
    assert "KeyError: 'nothing'" in result.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("m=5", "has no setting 'm'"),
        ("n=five", "setting n must be int, not 'five'"),
        ("n", "'n' is not KEY=VALUE"),
        ("=5", "'=5' is not KEY=VALUE"),
    ],
)
def test_wrong_settings_are_usage_errors(topology, setting, message):
    result = invoke("run", f"{topology}:build", "--set", setting)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint-interval", "soon"], "'soon' is not a duration: write a number and a unit"),
        (["--checkpoint-interval", "0"], "it must be above 0"),
        (["--buffer-timeout", "5"], "'5' is not a duration"),
        (["--compression", "gzip"], "'gzip' is not one of"),
        (["--state-backend", "redis"], "'redis' is not one of"),
        (["--workers", "0"], "0 is not in the range x>=1"),
        (["--on-stop", "crash"], "'crash' is not one of"),
        (["--restore", "latest"], "--restore latest needs --checkpoint-dir"),
        (["--restore", "ck/chk-00000001"], "--restore ck/chk-00000001 needs --checkpoint-dir"),
        (["--unaligned"], "--unaligned and --aligned-timeout need --checkpoint-dir"),
        (["--aligned-timeout", "1s"], "--unaligned and --aligned-timeout need --checkpoint-dir"),
        (["--checkpoint-mode", "at-least-once"], "--aligned-timeout need --checkpoint-dir"),
        (["--checkpoint-mode", "twice"], "'twice' is not one of"),
        (["--aligned-timeout", "soon", "--checkpoint-dir", "ck"], "'soon' is not a duration"),
        (
            ["--checkpoint-dir", "ck", "--checkpoint-mode", "at-least-once", "--unaligned"],
            "unaligned doesn't go with at-least-once",
        ),
    ],
)
def test_wrong_options_are_usage_errors(topology, options, message):
    result = invoke("run", f"{topology}:build", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("out").exists()


def test_an_unknown_app_is_a_usage_error(topology):
    result = invoke("run", "no_such_app")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no app 'no_such_app'\n  hint: ")


def test_restoring_from_an_empty_directory_ends_with_4(topology):
    Path("empty").mkdir()
    result = invoke("run", f"{topology}:build", "--checkpoint-dir", "empty", "--restore", "latest")
    assert result.exit_code == 4
    assert "there is no checkpoint in empty" in result.stderr


def test_a_checkpoint_directory_that_cant_be_ends_with_5(topology):
    Path("file").write_text("")
    result = invoke("run", f"{topology}:build", "--checkpoint-dir", "file/checkpoints")
    assert result.exit_code == 5
    assert "the checkpoint directory file/checkpoints can't be written" in result.stderr


def test_output_that_is_there_already_ends_with_3(topology):
    assert invoke("run", f"{topology}:build").exit_code == 0
    again = invoke("run", f"{topology}:build")
    assert again.exit_code == 3
    assert again.stderr.startswith("error: ")


def test_a_metrics_port_in_use_ends_with_5_before_anything_runs(topology):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = invoke("run", f"{topology}:build", "--metrics-port", port)
    assert result.exit_code == 5
    assert f"error: port {port} on 127.0.0.1 is in use" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_exception_shows_the_users_frames_alone(topology, workers):
    process = spawn("run", f"{topology}:fails", "--workers", workers, "--no-progress")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'raise ValueError("seven is odd")' in err
    assert "error: operator 'map'" in err
    assert "on record 7" in err
    frames = [line for line in err.splitlines() if line.lstrip().startswith("File ")]
    assert len(frames) == 1
    assert topology in frames[0]
    assert out == ""


def test_two_workers_import_the_users_file(topology):
    process = spawn("run", f"{topology}:build", "--workers", 2, "--set", "n=1000")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert numbers("out") == list(range(1000))
    assert len(list(Path("out").glob("part-*"))) == 2


def test_a_stopped_job_says_how_to_go_on_and_does(topology):
    options = ["run", f"{topology}:endless", "--checkpoint-dir", "ck", "--checkpoint-interval", "100ms"]
    first = spawn(*options)
    wait_for(lambda: Path("ck/log/00000003.json").exists(), first)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert "stopped on request: " in err
    assert "--restore latest (from ck/chk-" in err
    written = numbers("out")
    assert written == list(range(len(written)))

    second = spawn(*options, "--restore", "latest", "--on-stop", "drain")
    wait_for(lambda: len(numbers("out")) > len(written), second)
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert "stopping: the input ends here" in err
    assert "--restore latest" not in err
    everything = numbers("out")
    assert len(everything) > len(written)
    assert everything == list(range(len(everything)))


def test_checkpoints_are_listed_and_the_latest_is_marked(topology):
    result = invoke("run", f"{topology}:build", "--checkpoint-dir", "ck")
    assert result.exit_code == 0
    listed = invoke("checkpoints", "ck").stdout.splitlines()
    assert listed[0].split() == ["ID", "WHEN", "JOB", "OPERATORS", "SUBTASKS", "SIZE", "EPOCH"]
    (cells,) = (line.split() for line in listed[1:])
    assert cells[0] == "1"
    assert cells[3:6] == [Path(topology).stem, "3", "1"]
    assert listed[1].endswith("← --restore latest")


def test_checkpoints_before_a_fresh_run_are_listed_but_not_the_latest(topology):
    assert invoke("run", f"{topology}:build", "--checkpoint-dir", "ck").exit_code == 0
    options = ["--checkpoint-dir", "ck", "--restart-attempts", "0", "--set", "output=other"]
    assert invoke("run", f"{topology}:fails", *options).exit_code == 1
    result = invoke("checkpoints", "ck")
    assert result.exit_code == 0
    assert "← --restore latest" not in result.stdout
    assert "--restore latest takes none of them: the last run in ck completed no checkpoint" in result.stdout


def test_no_checkpoints_end_with_4(tmp_path):
    result = invoke("checkpoints", tmp_path)
    assert result.exit_code == 4
    assert f"error: there is no checkpoint in {tmp_path}" in result.stderr


def test_restart_attempts_are_a_fixed_number(topology):
    result = invoke("run", f"{topology}:fails", "--restart-attempts", "1")
    assert result.exit_code == 1
    assert result.stderr.count("attempt failed: ") == 1
    assert "restarting in 1.0 s" in result.stderr


def test_describe_shows_the_plan_and_runs_nothing(topology):
    result = invoke("describe", f"{topology}:build", "--set", "output=here")
    assert result.exit_code == 0
    assert "values → map → FileSink" in result.stdout
    assert f"{topology}:8" in result.stdout
    assert not Path("here").exists()


def test_json_logs_are_json(topology):
    result = invoke("run", f"{topology}:build", "--checkpoint-dir", "ck", "--log-format", "json")
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [line["checkpoint"] for line in lines if line["message"].startswith("checkpoint complete")] == [1]


def test_the_log_level_silences(topology):
    result = invoke("run", f"{topology}:build", "--checkpoint-dir", "ck", "--log-level", "warning")
    assert result.stderr.startswith("finished: ")


def test_help_documents_the_exit_codes():
    text = invoke("--help").stdout
    documented = {line.split()[0] for line in text.partition("Exit codes:")[2].splitlines() if line.strip()}
    assert documented == {"0", "1", "2", "3", "4", "5", "130"}


def test_sizes_are_short():
    assert [size(value) for value in (0, 1023, 1536, 5 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]


@pytest.mark.parametrize("options", [[], ["--no-control"]])
def test_a_run_can_be_asked_unless_it_is_told_not_to(topology, tmp_path, monkeypatch, options):
    registered = []
    monkeypatch.setattr("streamcore.job.registry.Registration.publish", lambda *told: registered.append(told[1]))
    done = invoke("run", f"{topology}:build", "--set", f"output={tmp_path}/out", "--no-progress", *options)
    assert done.exit_code == 0, done.output
    assert registered == ([] if options else [topology.removesuffix(".py")])
