"""What a snapshot takes of state: captured at once, copied in steps between the batches of the stream, then written."""

from __future__ import annotations

from typing import Any, Protocol


class Capture(Protocol):
    """A state as of one moment. All but `saved` belongs to the subtask's task; `saved` may be called in any thread once
    the capture is done, and what it returned be used until `release`."""

    @property
    def is_whole(self) -> bool:
        """Whether it needs no earlier checkpoint."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed since the checkpoint that it builds on."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to be done in steps."""

    def step(self) -> object:
        """Does a little of what is left to do: some tenths of a millisecond."""

    def finish(self) -> None:
        """Does all that is left."""

    def abandon(self) -> None:
        """The checkpoint is given up: nothing is to be copied any more. What is left to do, if it isn't `done`, is to
        leave the state as if it had not been captured."""

    def saved(self) -> Any:
        """What is to be written."""

    def release(self) -> None:
        """What `saved` returned has been written."""
