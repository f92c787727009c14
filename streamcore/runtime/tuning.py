"""What the interpreter does behind a job's back, kept short while records flow.

- The *garbage collector* walks through all objects that can be in a cycle: numba and pyarrow alone bring so many that
  a full collection stops the process for 25 to 100 ms. What lives when the operators are open is set aside
  (`gc.freeze`) until the attempt is over; only what comes later is walked through.
- A *thread* that computes in Python, as one that encodes a snapshot, hands over the interpreter every 5 ms by default,
  and so a record can wait that long for each hand-over. It is asked for it ten times as often.

Both are settings of the whole process, which may be the user's own: they are put back when no attempt runs any more.
"""

from __future__ import annotations

import gc
import sys
import threading

SWITCH_INTERVAL_S = 0.0005


class _Tuning:
    """Counts the attempts that run in this process, in whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts = 0
        self._froze = False
        self._interval_s = 0.0

    def begin(self) -> None:
        with self._lock:
            self._attempts += 1
            if self._attempts > 1:
                return
            self._interval_s = sys.getswitchinterval()
            sys.setswitchinterval(min(self._interval_s, SWITCH_INTERVAL_S))
            self._froze = gc.get_freeze_count() == 0  # what the user has frozen could not be told from ours later
            if self._froze:
                gc.freeze()

    def end(self) -> None:
        with self._lock:
            self._attempts -= 1
            if self._attempts > 0:
                return
            sys.setswitchinterval(self._interval_s)
            if self._froze:
                gc.unfreeze()


_tuning = _Tuning()


def begin_steady_state() -> None:
    """An attempt has been set up in this process and will now run."""
    _tuning.begin()


def end_steady_state() -> None:
    """It is over; to be called once for each `begin_steady_state`."""
    _tuning.end()
