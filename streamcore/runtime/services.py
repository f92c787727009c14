"""What the runtime needs of the outside world, in one place that a test or a simulation can replace."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from typing import BinaryIO, NoReturn, TypeVar, cast

from streamcore.checkpoint.storage import Storage, open_storage
from streamcore.runtime import tuning
from streamcore.state.backends import RocksDB, open_backend
from streamcore.state.object_table import Saved, StateBackend
from streamcore.time import Clock

T = TypeVar("T")

_STEPS = 5


class Services:
    """Time, background work, storage and scratch space of a real process."""

    work_per_turn = 16
    """How much a subtask does before it lets others run: one per batch and one per 1,024 records of it."""
    turn_s = 0.005
    """How long that may take; if it takes longer, it does less, and lets the others run until all they have begun is
    done: messages and barriers must not wait for slow work."""
    copying_turn_s = 0.001
    """How long captured state is copied at a time before the stream goes on."""
    rocksdb_compacts = True
    """Whether RocksDB merges files when it likes, in threads of its own."""

    def __init__(self, scratch_directory: str | None = None) -> None:
        self.clock = Clock()
        self._scratch_directory = scratch_directory

    async def give_way(self) -> None:
        """Lets the others run until what each of them has begun is done: a message that has come is through the worker
        to the subtask that acts on it, captured state is being written. Otherwise they would have to wait for a long
        piece of work at each step."""
        for _ in range(_STEPS):
            await asyncio.sleep(0)

    async def in_background(self, work: Callable[[], T]) -> T:
        """Runs blocking work (encoding, hashing, writing) beside the event loop."""
        return await asyncio.to_thread(work)

    def scratch_file(self) -> BinaryIO:
        """A nameless file for spilled records; gone when closed."""
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._scratch_directory, prefix="streamcore-spill-"))

    def state_backend(
        self, choice: RocksDB | None, max_parallelism: int, groups: range, saved: list[Saved], *, allow_pickle: bool
    ) -> StateBackend:
        """The backend of one operator subtask's object state: see `streamcore.state.backends.open_backend`."""
        compacts = self.rocksdb_compacts
        return open_backend(choice, max_parallelism, groups, saved, allow_pickle=allow_pickle, compacts=compacts)

    def open_storage(self, url: str) -> Storage:
        """The snapshot storage at a path or URL."""
        return open_storage(url)

    def process_id(self) -> int:
        """The number of this process."""
        return os.getpid()

    def complain(self, text: str) -> None:
        """Tells whoever started this process why it leaves."""
        print(text, file=sys.stderr)

    def leave(self, code: int) -> NoReturn:
        """Ends this process at once: nothing is closed, nothing else is written."""
        os._exit(code)

    def begin_steady_state(self) -> None:
        """An attempt has been set up and will now run: see `streamcore.runtime.tuning`."""
        tuning.begin_steady_state()

    def end_steady_state(self) -> None:
        """The attempt is over."""
        tuning.end_steady_state()

    def first_channel(self, count: int, turn: int) -> int:
        """Which of `count` input channels a gate looks at first in its `turn`-th look: round robin."""
        return turn % count
