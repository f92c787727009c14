"""An engine's process as the harness sees it: started, asked for runs, its memory watched; see peers/protocol.py."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MARK = "@bench "


class EngineError(Exception):
    """The engine's process failed, or did not answer in time; the message says how, in one line."""


class EngineProcess:
    """Started with its own process group, which `close` ends."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], log: Path, limit_s: float) -> None:
        self._limit_s = limit_s
        self._text = b""
        self.peak_mib = 0.0
        """The most memory (resident, of all its processes together) since the last `run` began."""
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, **variables},
        )
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def ready(self) -> dict[str, Any]:
        """Waits until the engine is ready; says how long that took.

        Raises:
            EngineError: it failed, or took too long.
        """
        return self._answer()

    def run(self) -> dict[str, Any]:
        """One run of the workload.

        Raises:
            EngineError: it failed, or took too long.
        """
        self.peak_mib = 0.0
        assert self._process.stdin is not None, "a process without standard input"
        with contextlib.suppress(BrokenPipeError):  # a dead process is told by the missing answer
            self._process.stdin.write(b"run\n")
            self._process.stdin.flush()
        answer = self._answer()
        self.peak_mib = max(self.peak_mib, _resident_mib(self._process.pid))
        return answer

    def close(self) -> None:
        """Ends the process and all that it has started."""
        self._ended.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._limit_s
        while (line := self._line(deadline)) is not None:
            if line.startswith(_MARK):
                facts: dict[str, Any] = json.loads(line.removeprefix(_MARK))
                if "error" in facts:
                    raise EngineError(facts["error"])
                return facts
        raise EngineError(f"the process ended with code {self._process.wait()}; see {self._log.name}")

    def _line(self, deadline: float) -> str | None:
        """The next line of the process's output; None at its end."""
        assert self._process.stdout is not None, "a process without standard output"
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._text:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    raise EngineError(f"no answer after {self._limit_s:.0f} s")
                got = os.read(self._process.stdout.fileno(), 1 << 16)
                if not got:
                    return None
                self._text += got
        line, self._text = self._text.split(b"\n", 1)
        return line.decode(errors="replace")

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self.peak_mib = max(self.peak_mib, _resident_mib(self._process.pid))


def _resident_mib(root: int) -> float:
    """Resident memory of a process and its descendants; pages that they share count once for each."""
    pages, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, ValueError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
    return pages * _PAGE / (1 << 20)
