"""Starts `streamcore run` as a process of its own, and waits for what it says and does."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.connectors.file_sink import read_jsonl

JOBS = Path(__file__).parent / "process_jobs.py"
TIMEOUT_S = 60.0
PAUSE_S = 0.005


def until(condition, what, timeout_s=TIMEOUT_S):
    """Waits for `condition()` to give something true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(PAUSE_S)
    return result


class Run:
    """One `streamcore run`; what it prints goes to `log`."""

    def __init__(self, log, *arguments, environment=None):
        self.log = Path(log)
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-P", "-m", "streamcore", "run", *arguments]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **(environment or {})}
            )

    @property
    def text(self):
        return self.log.read_bytes()[self._begin :].decode()

    def wait_for(self, text, count=1):
        """Waits until the run has printed `text` so often."""
        try:
            until(lambda: self.text.count(text) >= count or self.process.poll() is not None, text)
        except AssertionError as error:
            raise AssertionError(f"{error}; it printed:\n{self.text}") from None
        assert self.text.count(text) >= count, f"it left with {self.process.returncode} before {text!r}:\n{self.text}"

    def wait(self):
        """The exit code."""
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it doesn't end; it printed:\n{self.text}") from None

    def expect(self, code):
        """Waits for the end, which must have this exit code."""
        assert self.wait() == code, self.text
        return self

    def signal(self, number):
        self.process.send_signal(number)

    @property
    def workers(self):
        return children(self.process.pid)

    def kill(self):
        """Ends the coordinator and its workers, stopped ones too."""
        for pid in [self.process.pid, *self.workers]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Runs:
    """Makes runs of one job in one directory and kills what is left of them."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.output = self.directory / "out"
        self.checkpoints = self.directory / "checkpoints"
        self._runs = []

    def start(self, function, *options, restore=None, checkpoints=True, environment=None, target=JOBS, **settings):
        arguments = [f"{target}:{function}", "--no-progress", *options]
        if checkpoints:
            arguments += ["--checkpoint-dir", str(self.checkpoints), "--checkpoint-interval", "50ms"]
        if restore is not None:
            arguments += ["--restore", str(restore)]
        for name, value in {"output": self.output, **settings}.items():
            arguments += ["--set", f"{name}={value}"]
        run = Run(self.directory / "log.txt", *arguments, environment=environment)
        self._runs.append(run)
        return run

    def rows(self, name):
        """The committed rows of one sink."""
        path = self.output / name
        return read_jsonl(path) if path.is_dir() else []

    def checkpoint_ids(self):
        return [entry.checkpoint_id for entry in CheckpointLog(open_storage(str(self.checkpoints))).checkpoints()]

    def kill(self):
        for run in self._runs:
            run.kill()


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def counted(rows):
    """Rows that can be compared whatever their order."""
    return Counter(tuple(sorted(row.items())) for row in rows)
