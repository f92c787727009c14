"""The fraud app, killed in the middle."""

import json
import os
import signal

from process_harness import Run, until

from streamcore import StreamEnvironment
from streamcore.apps.fraud.topology import build
from streamcore.connectors.file_sink import read_jsonl

SETTINGS = {"payments": 60_000, "cards_in_all": 500}


def results(output):
    return {name: sorted(map(json.dumps, read_jsonl(f"{output}/{name}"))) for name in ("alerts", "summary")}


def test_after_kill_9_the_same_alerts(tmp_path):
    env = StreamEnvironment()
    build(env, output=str(tmp_path / "undisturbed"), **SETTINGS)
    env.execute()
    expected = results(tmp_path / "undisturbed")
    assert len(expected["alerts"]) > 50
    settings = {**SETTINGS, "output": tmp_path / "out", "rate": 25_000}
    command = ["fraud", "--workers", "2", "--checkpoint-dir", str(tmp_path / "ckpt"), "--checkpoint-interval", "200ms"]
    command += [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    run = Run(tmp_path / "log", *command)
    run.wait_for("checkpoint complete", 2)
    os.kill(until(lambda: run.workers, "workers")[0], signal.SIGKILL)  # a worker: the job restarts by itself
    run.wait_for("checkpoint complete", 4)
    run.kill()  # all of it
    Run(tmp_path / "log", *command, "--restore", "latest").expect(0)
    assert results(tmp_path / "out") == expected
