"""The users' functions of whole windows, what they are given, and the records that untyped windows give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from streamcore.errors import TopologyError
from streamcore.runtime.assigners import Window
from streamcore.runtime.functions import Context

K = TypeVar("K")
In = TypeVar("In")
Out = TypeVar("Out")


class WindowResult(NamedTuple):
    """The result of a window over an untyped stream: `value` by key and window (end exclusive; milliseconds)."""

    key: Any
    window_start: int
    window_end: int
    value: Any


class KeyResult(NamedTuple):
    """The result of a count or global window over an untyped stream."""

    key: Any
    value: Any


@dataclass(slots=True)
class Pane:
    """What a window of a key holds: records or a folded value, the trigger's state, the function's.

    Snapshots name this class.
    """

    held: list[Any] = field(default_factory=list)
    trigger: dict[str, Any] | None = None
    state: dict[str, Any] | None = None


class WindowContext(Context[Out]):
    """What a window function may use: outputs, time, and state. `timestamp` is the window's last millisecond."""

    _pane: Pane

    @property
    def window_state(self) -> dict[str, Any]:
        """State of this window alone; it goes with the window, after `clear`. Of sessions that merge, what the later
        ones have is kept where both have a value under a name."""
        if self._pane.state is None:
            self._pane.state = {}
        return self._pane.state

    @property
    def waiting(self) -> int:
        """How many results have been gathered."""
        return len(self._rows)

    def at(self, key: Any, window: Window | None, pane: Pane) -> None:
        """Goes to another window; None is one without bounds. The runtime calls it."""
        self._current.key = key
        self._moment = window.last_ms if window is not None else None
        self._pane = pane

    def register_timer(self, time_ms: int) -> NoReturn:
        self._no_timers()

    def register_event_timer(self, time_ms: int) -> NoReturn:
        self._no_timers()

    def _no_timers(self) -> NoReturn:
        raise TopologyError(
            "a window function sets no timers", hint="a Trigger does, or a ProcessFunction on the windows' results"
        )


class WindowFunction(Generic[K, In, Out]):
    """A function of all records of a window (Flink's ProcessWindowFunction)."""

    def open(self, ctx: Context[Out]) -> None:
        """Declares state of keys, with `ctx.state(...)`; called once before any window."""

    def process(self, key: K, window: Window, records: list[In], ctx: WindowContext[Out]) -> None:
        """Takes the records of a window that fires, in the order in which they came; where sessions have merged, those
        of the earlier one first (in Apache Flink, in either order). `key` is None in `window_all`; `window` is all time
        in global and count windows."""
        raise NotImplementedError

    def clear(self, window: Window, ctx: WindowContext[Out]) -> None:
        """The window of `ctx.key` goes: its lateness is over, too."""

    def close(self) -> None:
        """Frees what `open` took; called after failures too."""
