from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile

import msgspec
import pytest

from streamcore.errors import MachineError, UnknownJobError
from streamcore.job.registry import DIRECTORY_VARIABLE, Registration, find_job, running_jobs, runtime_directory


@pytest.fixture
def directory(tmp_path_factory, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as path:
        monkeypatch.setenv(DIRECTORY_VARIABLE, f"{path}/jobs")
        yield runtime_directory()


@pytest.fixture
def register(directory):
    made = []

    def register(job, started_ms=0):
        made.append(Registration(directory))
        made[-1].publish(job, started_ms, 1, None)
        return made[-1]

    yield register
    for registration in made:
        registration.close()


def test_nobody_else_can_enter(directory, register):
    register("a")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_directory_that_others_can_enter_is_refused(directory, mode):
    directory.chmod(mode)
    with pytest.raises(MachineError, match="others may write to it or read it"):
        runtime_directory()


def test_a_link_to_somewhere_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "link"))
    with pytest.raises(MachineError):
        runtime_directory()


def test_without_a_variable_it_is_the_session_s_or_a_temporary_one_s(tmp_path, monkeypatch):
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() == tmp_path / "streamcore"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert runtime_directory() == tmp_path / f"streamcore-{os.getuid()}"


def test_a_job_is_found_by_name_until_it_is_over(register):
    registration = register("counts")
    assert (find_job("counts").pid, find_job("counts").job) == (os.getpid(), "counts")
    with pytest.raises(UnknownJobError, match="no job 'other' runs here") as refused:
        find_job("other")
    assert refused.value.hint == "these do: counts"
    registration.close()
    with pytest.raises(UnknownJobError):
        find_job("counts")


def test_of_two_jobs_with_one_name_the_process_is_asked_for(register):
    register("counts", 1)
    register("counts", 2)
    with pytest.raises(UnknownJobError, match="2 jobs with the name 'counts'") as refused:
        find_job("counts")
    assert str(os.getpid()) in refused.value.hint


def test_a_process_id_stands_for_a_name(register):
    register("counts")
    assert find_job(str(os.getpid())).job == "counts"


KILLED = """
import os, signal
from pathlib import Path
from streamcore.job.registry import Registration, runtime_directory
registration = Registration(runtime_directory())
registration.publish("killed", 0, 1, None)
{last}
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_killed(last=""):
    subprocess.run([sys.executable, "-c", KILLED.format(last=last)], check=False, timeout=60)


def test_what_a_killed_process_left_is_removed(directory, register):
    register("alive")
    run_killed()
    assert len(list(directory.iterdir())) == 4
    assert [entry.job for entry in running_jobs()] == ["alive"]
    assert len(list(directory.iterdir())) == 2


FORKS = """
import time
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
Path(os.environ["STREAMCORE_RUNTIME_DIR"], "child").write_text(str(child))
"""


def test_a_child_that_holds_the_socket_open_is_not_the_job(directory):
    """A process that user code has forked outlives the job, and the system keeps the socket for it."""
    run_killed(FORKS)
    child = int((directory / "child").read_text())
    try:
        (path,) = directory.glob("*.sock")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        assert running_jobs() == []
    finally:
        os.kill(child, 9)


def test_another_process_with_the_same_id_is_not_the_job(directory, register):
    register("counts")
    (path,) = directory.glob("*.json")
    entry = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**entry, "process_start": 1}))
    assert running_jobs() == []


def test_an_entry_that_can_t_be_read_is_passed_over(directory, register):
    register("counts")
    (directory / "1-x.json").write_text("{")
    assert [entry.job for entry in running_jobs()] == ["counts"]


def test_a_path_too_long_for_a_socket_says_so(tmp_path, monkeypatch):
    place = tmp_path / ("long" * 30)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(place))
    with pytest.raises(MachineError, match="can't listen") as refused:
        Registration(runtime_directory())
    assert "short path" in refused.value.hint
