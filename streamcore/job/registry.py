"""Which jobs of this user run on this machine: an entry and a socket for each, in a directory that only they can open.

::

    DIR/PID-NUMBER.json    job, process, start, checkpoint directory; written when the socket listens
    DIR/PID-NUMBER.sock    where the job can be asked (`streamcore.job.control`)

`DIR` is `$STREAMCORE_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/streamcore`, else `streamcore-UID` in the directory for
temporary files. It has mode 0700 and must be the user's own, so others can neither ask a job nor pretend to be one. A
process that was killed leaves its entry. Whoever lists the jobs sees that its process is gone, or that nobody listens
at its socket, and removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
import tempfile
from pathlib import Path

import msgspec

from streamcore.errors import MachineError, UnknownJobError

DIRECTORY_VARIABLE = "STREAMCORE_RUNTIME_DIR"
_CONNECT_TIMEOUT_S = 2.0


class JobEntry(msgspec.Struct, frozen=True):
    """A running job.

    Attributes:
        job: its name; several may have the same.
        process_start: when the process began, in the clock ticks of `/proc`: another process may get the same id. None
            where the system doesn't tell.
        started_ms: when the job was started, milliseconds since 1970.
        checkpoints: its checkpoint directory.
        socket: the name of its socket beside the entry.
    """

    job: str
    pid: int
    process_start: int | None
    started_ms: int
    workers: int
    checkpoints: str | None
    socket: str


def runtime_directory() -> Path:
    """Where this user's jobs are registered; made if need be.

    Raises:
        MachineError: it can't be made, or others may write to it.
    """
    given, of_session = os.environ.get(DIRECTORY_VARIABLE), os.environ.get("XDG_RUNTIME_DIR")
    if given:
        directory = Path(given)
    elif of_session:
        directory = Path(of_session) / "streamcore"
    else:
        directory = Path(tempfile.gettempdir()) / f"streamcore-{os.getuid()}"
    hint = f"set {DIRECTORY_VARIABLE} to a directory of your own, with a short path"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        reason = error.strerror or error
        raise MachineError(f"jobs can't be registered in {directory}: {reason}", hint=hint) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise MachineError(f"jobs can't be registered in {directory}: others may write to it or read it", hint=hint)
    return directory


class Registration:
    """The place of one running job: a listening socket and an entry. Freed by `close`."""

    def __init__(self, directory: Path) -> None:
        """Makes the socket.

        Raises:
            MachineError: it can't be made.
        """
        self._directory = directory
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._entry: Path | None = None
        self.socket_path = directory / f"{self._name}.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(str(self.socket_path))
            self.socket_path.chmod(0o600)
            self.socket.listen(16)
        except OSError as error:
            self.close()
            reason = error.strerror or error
            raise MachineError(
                f"can't listen on {self.socket_path}: {reason}",
                hint=f"set {DIRECTORY_VARIABLE} to a directory of your own, with a short path",
            ) from error

    def publish(self, job: str, started_ms: int, workers: int, checkpoints: str | None) -> None:
        """Writes the entry, so that the job is found.

        Raises:
            MachineError: it can't be written.
        """
        pid = os.getpid()
        entry = JobEntry(job, pid, _process_start(pid), started_ms, workers, checkpoints, self.socket_path.name)
        path, temporary = self._directory / f"{self._name}.json", self._directory / f".{self._name}.tmp"
        try:
            temporary.touch(mode=0o600)
            temporary.write_bytes(msgspec.json.encode(entry))
            temporary.replace(path)
        except OSError as error:
            raise MachineError(f"the job can't be registered: {error}") from error
        self._entry = path

    def close(self) -> None:
        """Frees the place."""
        if self._entry is not None:
            self._entry.unlink(missing_ok=True)
        self.socket.close()
        self.socket_path.unlink(missing_ok=True)


def running_jobs() -> list[JobEntry]:
    """The jobs that run now, by name and start. Entries of processes that were killed are removed.

    Raises:
        MachineError: there is no directory to look in that is the user's own.
    """
    directory = runtime_directory()
    found: list[JobEntry] = []
    for path in directory.glob("*.json"):
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=JobEntry)
        except (FileNotFoundError, msgspec.DecodeError):
            continue  # it has just ended, or is of another version
        if _is_alive(entry, directory / entry.socket):
            found.append(entry)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                (directory / entry.socket).unlink(missing_ok=True)
    return sorted(found, key=lambda entry: (entry.job, entry.started_ms, entry.pid))


def find_job(name: str) -> JobEntry:
    """The running job with a name, or with a process id.

    Raises:
        UnknownJobError: there is none, or there are several with the name.
        MachineError: there is no directory to look in that is the user's own.
    """
    jobs = running_jobs()
    found = [entry for entry in jobs if entry.job == name] or [entry for entry in jobs if str(entry.pid) == name]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(sorted({entry.job for entry in jobs}))
        raise UnknownJobError(
            f"no job {name!r} runs here",
            hint=f"these do: {known}" if known else "no job of this user runs on this machine: see `streamcore jobs`",
        )
    raise UnknownJobError(
        f"{len(found)} jobs with the name {name!r} run here",
        hint=f"give the process instead of the name: {', '.join(str(entry.pid) for entry in found)}",
    )


def is_running(entry: JobEntry) -> bool:
    """Whether the job has not ended."""
    return socket_path(entry).exists() and _has_process(entry)


def socket_path(entry: JobEntry) -> Path:
    """Where a job can be asked."""
    return runtime_directory() / entry.socket


def _is_alive(entry: JobEntry, path: Path) -> bool:
    """Whether the process is the one that wrote the entry, and listens: what it started may hold its socket open."""
    if not _has_process(entry):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def _has_process(entry: JobEntry) -> bool:
    """Whether the process that wrote the entry is there."""
    try:
        os.kill(entry.pid, 0)
    except (ProcessLookupError, PermissionError):  # or its id has gone to a process of another user
        return False
    return entry.process_start == _process_start(entry.pid) and not _has_left(entry.pid)


def _process_start(pid: int) -> int | None:
    fields = _process(pid)
    return int(fields[19]) if fields else None


def _has_left(pid: int) -> bool:
    """Whether the process has ended, and only its parent has not taken note yet."""
    fields = _process(pid)
    return bool(fields) and fields[0] in "ZX"


def _process(pid: int) -> list[str]:
    """What the system tells of a process behind its name; nothing where it doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
