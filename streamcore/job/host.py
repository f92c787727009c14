"""Where worker processes run: what starting, killing and meeting them needs of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from streamcore.errors import MachineError

TMPDIR_HINT = "set TMPDIR to a directory that this user may write to, with a short path"


class WorkerProcess(Protocol):
    """A process that was started."""

    async def wait(self) -> int:
        """Waits for its end and returns the exit code; negative: the signal that killed it."""

    def kill(self) -> None:
        """Kills it, if it still runs."""


class Host(Protocol):
    """A place for processes and their sockets."""

    def make_directory(self) -> Path:
        """A new directory for sockets, which only this user can enter.

        Raises:
            MachineError: none can be made.
        """

    def remove_directory(self, directory: Path) -> None:
        """Removes it with all that is in it."""

    async def start_worker(self, config: dict[str, Any]) -> WorkerProcess:
        """Starts a worker process: `streamcore.job.worker_main` with its configuration."""


class ThisMachine:
    """Processes of the operating system."""

    def make_directory(self) -> Path:
        try:
            return Path(tempfile.mkdtemp(prefix="streamcore-"))
        except OSError as error:
            raise MachineError(f"there is no place for the workers' sockets: {error}", hint=TMPDIR_HINT) from error

    def remove_directory(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)

    async def start_worker(self, config: dict[str, Any]) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamcore.job.worker_main", stdin=subprocess.PIPE
        )
        assert process.stdin is not None, "the process was started with a pipe"
        process.stdin.write(json.dumps(config).encode())
        process.stdin.close()
        return _OsProcess(process)


class _OsProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # Process.kill would reap it unseen by its watcher
