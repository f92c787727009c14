"""The clock by which inputs become idle."""

from __future__ import annotations

_WORK_LIMIT_S = 0.1


class Attention:
    """Seconds in which a subtask would have seen a record that came: it waited for input, or did work between two
    looks. It stands still while the subtask waits for room downstream or for barriers (as in Apache Flink since
    FLINK-35886), and a long piece of work counts for little: what came meanwhile can't have been seen."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def rested(self, seconds: float) -> None:
        """The subtask has waited for input."""
        self.seconds += seconds

    def worked(self, seconds: float) -> None:
        """The subtask has done one piece of work."""
        self.seconds += min(seconds, _WORK_LIMIT_S)
