"""Whole jobs that write to Kafka, killed and started again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from broker import until
from sink_jobs import KEYS

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage

JOBS = Path(__file__).with_name("sink_jobs.py")
TIMEOUT_S = 40.0
RECORDS = 7500


class Job:
    """`streamcore run` of a topology of `sink_jobs`, in a process group of its own."""

    def __init__(self, directory, broker, topic, *, restore=False, records=RECORDS, rate=5000, workers=1, **settings):
        self.checkpoints = directory / "checkpoints"
        self.log = directory / "log.txt"
        given = {"servers": broker.servers, "topic": topic, "records": records, "rate": rate, **settings}
        command = [sys.executable, "-P", "-m", "streamcore", "run", f"{JOBS}:count", "--no-progress"]
        command += ["--parallelism", "2", "--workers", str(workers)]
        command += ["--checkpoint-dir", str(self.checkpoints), "--checkpoint-interval", "50ms"]
        command += ["--restore", "latest"] if restore else []
        for name, value in given.items():
            command += ["--set", f"{name}={value}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait_for_checkpoints(self, count):
        """Waits until so many more checkpoints are complete."""
        known = self._newest()
        until(lambda: self._newest() >= known + count or self.process.poll() is not None, "checkpoints")
        assert self.process.poll() is None, self.text

    def kill9(self):
        """Kills the coordinator and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_S)

    def end(self):
        """The exit code."""
        return self.process.wait(TIMEOUT_S)

    @property
    def text(self):
        return self.log.read_text()

    def _newest(self):
        entries = CheckpointLog(open_storage(str(self.checkpoints))).checkpoints() if self.checkpoints.exists() else []
        return max((entry.checkpoint_id for entry in entries), default=0)


@pytest.fixture
def start(tmp_path):
    """Starts jobs, and kills what is left of them."""
    jobs = []

    def start_job(*arguments, name="job", **options):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        jobs.append(Job(directory, *arguments, **options))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill9()


def found(broker, topic):
    """(key, number) of each message, by partition and offset."""
    values = [json.loads(message.value) for message in broker.read_committed(topic)]
    return [(value["key"], value["number"]) for value in values]


def test_a_job_killed_again_and_again_writes_every_record_once_and_in_order(broker, topic, start):
    broker.create_topic(topic, 4)
    for attempt in range(2):
        job = start(broker, topic, restore=attempt > 0, prefix=topic, workers=2 - attempt)
        job.wait_for_checkpoints(2)
        job.kill9()
    job = start(broker, topic, restore=True, prefix=topic)
    assert job.end() == 0, job.text
    messages = found(broker, topic)
    assert len(messages) == len(set(messages)) == RECORDS
    for key in range(KEYS):
        assert [number for one, number in messages if one == key] == list(range(RECORDS // KEYS))


def test_a_job_whose_prefix_another_takes_stops_for_good(broker, topic, start):
    broker.create_topic(topic, 4)
    first = start(broker, topic, name="first", prefix=topic, records=10_000_000, rate=10_000)
    first.wait_for_checkpoints(2)
    second = start(broker, topic, name="second", prefix=topic)
    assert first.end() == 4, first.text
    assert f"another run writes to Kafka at {broker.servers} with the prefix '{topic}'" in first.text
    assert second.end() == 0, second.text
    assert Counter(found(broker, topic)).most_common(1)[0][1] <= 2  # one of the first job, and one of the second
