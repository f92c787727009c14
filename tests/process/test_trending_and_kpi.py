"""trending and kpi, killed and restored, write what they write undisturbed, line for line."""

import signal

import pytest
from process_harness import Run, counted

from streamcore import StreamEnvironment
from streamcore.apps.kpi.topology import build as build_kpi
from streamcore.apps.trending.topology import build as build_trending
from streamcore.connectors.file_sink import read_jsonl

APPS = {
    "trending": (build_trending, {"every": 1800.0}, ("windows", "totals", "decayed")),
    "kpi": (build_kpi, {"users": 3000, "peeking_runs": 0}, ("active", "keys", "funnel", "experiment", "click_through")),
}


@pytest.mark.parametrize("name", APPS)
def test_after_kill_9_and_restore_the_results_are_those_of_an_undisturbed_run(name, tmp_path):
    build, settings, outputs = APPS[name]
    build(env := StreamEnvironment(name), output=str(tmp_path / "whole"), **settings)
    env.execute()
    options = [name, "--no-progress", "--workers", "2", "--batch-size", "256"]
    options += ["--checkpoint-dir", str(tmp_path / "checkpoints"), "--checkpoint-interval", "50ms"]
    for key, value in {"output": tmp_path / "out", **settings}.items():
        options += ["--set", f"{key}={value}"]
    run = Run(tmp_path / "log.txt", *options)
    try:
        run.wait_for("checkpoint complete", count=3)
        run.signal(signal.SIGKILL)
        assert run.process.wait() == -signal.SIGKILL, "the job was over before the kill"
        run = Run(tmp_path / "log.txt", *options, "--restore", "latest")
        run.expect(0)
    finally:
        run.kill()
    for output in outputs:
        whole = read_jsonl(tmp_path / "whole" / output)
        assert whole
        assert counted(read_jsonl(tmp_path / "out" / output)) == counted(whole)
