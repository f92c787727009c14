"""Triggers: when a window gives its results, and whether it then forgets its records (as in Apache Flink)."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamcore.errors import TopologyError
from streamcore.time import MAX_TIME, Duration

if TYPE_CHECKING:
    from streamcore.runtime.assigners import Window

T = TypeVar("T")


class TriggerResult(enum.Enum):
    """What a window is to do: nothing, give its results, forget its records, or both in that order."""

    CONTINUE = (False, False)
    FIRE = (True, False)
    PURGE = (False, True)
    FIRE_AND_PURGE = (True, True)

    def __init__(self, fires: bool, purges: bool) -> None:
        self.fires = fires
        self.purges = purges


class TriggerContext(ABC):
    """What a trigger may use: time, timers and state, all of the window at hand.

    Attributes:
        key: the window's key.
        watermark: how far event time has come, milliseconds; `MIN_TIME` before the first watermark.
        processing_time: whether the windows are of processing time.
    """

    key: Any
    watermark: int
    processing_time: bool

    @abstractmethod
    def now_ms(self) -> int:
        """Processing time, milliseconds since the epoch."""

    @abstractmethod
    def register_event_timer(self, time_ms: int) -> None:
        """Calls `on_event_time` when the watermark has come to `time_ms`."""

    @abstractmethod
    def cancel_event_timer(self, time_ms: int) -> None:
        """Removes an event timer of this window."""

    @abstractmethod
    def register_timer(self, time_ms: int) -> None:
        """Calls `on_processing_time` when the clock has come to `time_ms`."""

    @abstractmethod
    def cancel_timer(self, time_ms: int) -> None:
        """Removes a processing timer of this window."""

    @abstractmethod
    def get(self, name: str, default: Any = None) -> Any:
        """A value of this window's state."""

    @abstractmethod
    def set(self, name: str, value: Any) -> None:
        """Keeps a value in this window's state; None forgets it."""

    @abstractmethod
    def merged(self, name: str) -> list[Any]:
        """In `on_merge`: the values under a name in the windows that have merged, of those that had one."""


class Trigger(ABC, Generic[T]):
    """Decides when a window gives its results. Derive from it for rules of your own.

    A trigger serves all windows of a subtask: what it has to remember of one it keeps through the context, where it
    is part of the snapshot.

    Attributes:
        can_merge: it implements `on_merge`; windows that merge (sessions) need it.
        needs_event_time: it makes sense with event time alone.
    """

    can_merge = False
    needs_event_time = False

    @abstractmethod
    def on_record(self, record: T, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        """A record has been added to the window. `time_ms` is its event time, or of windows of processing time the
        moment at which it came (of global and count windows over a stream without event time, too)."""

    def on_event_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        """An event timer of the window is due. Windows of event time get a call when their time, with the allowed
        lateness, is over, too; then their state goes."""
        return TriggerResult.CONTINUE

    def on_processing_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        """A processing timer of the window is due. Windows of processing time get a call at their end, too."""
        return TriggerResult.CONTINUE

    def on_merge(self, window: Window, ctx: TriggerContext) -> None:
        """Windows have become `window`: sets its timers and state anew. Theirs are removed afterwards."""

    def clear(self, window: Window, ctx: TriggerContext) -> None:
        """The window goes: removes the timers that were set for it. Its state goes by itself."""


@dataclass(frozen=True)
class WindowEndTrigger(Trigger[Any]):
    """Fires at the end of the window, in event or in processing time, and again for each late record that is still
    allowed."""

    processing_time: bool | None = None  # None: as the windows are
    can_merge = True

    @property
    def needs_event_time(self) -> bool:  # type: ignore[override]
        return self.processing_time is False

    def on_record(self, record: Any, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        if self._by_clock(ctx):
            ctx.register_timer(window.last_ms)
        elif window.last_ms <= ctx.watermark:
            return TriggerResult.FIRE
        else:
            ctx.register_event_timer(window.last_ms)
        return TriggerResult.CONTINUE

    def on_event_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        fires = time_ms == window.last_ms and not self._by_clock(ctx)
        return TriggerResult.FIRE if fires else TriggerResult.CONTINUE

    def on_processing_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        fires = time_ms == window.last_ms and self._by_clock(ctx)
        return TriggerResult.FIRE if fires else TriggerResult.CONTINUE

    def on_merge(self, window: Window, ctx: TriggerContext) -> None:
        if self._by_clock(ctx):
            ctx.register_timer(window.last_ms)
        elif window.last_ms > ctx.watermark:
            ctx.register_event_timer(window.last_ms)

    def clear(self, window: Window, ctx: TriggerContext) -> None:
        if self._by_clock(ctx):
            ctx.cancel_timer(window.last_ms)
        else:
            ctx.cancel_event_timer(window.last_ms)

    def _by_clock(self, ctx: TriggerContext) -> bool:
        return ctx.processing_time if self.processing_time is None else self.processing_time


@dataclass(frozen=True)
class CountTrigger(Trigger[Any]):
    """Fires after every `size` records of a window."""

    size: int
    can_merge = True

    def on_record(self, record: Any, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        count = ctx.get("count", 0) + 1
        if count >= self.size:
            ctx.set("count", None)
            return TriggerResult.FIRE
        ctx.set("count", count)
        return TriggerResult.CONTINUE

    def on_merge(self, window: Window, ctx: TriggerContext) -> None:
        ctx.set("count", sum(ctx.merged("count")) or None)


@dataclass(frozen=True)
class ContinuousTrigger(Trigger[Any]):
    """Fires at every whole multiple of `every_ms` while a window lasts, and at its end as the default does. Where a
    session has grown after its last firing was set to its end, it goes on from there (as in Apache Flink)."""

    every_ms: int
    by_clock: bool = False
    can_merge = True

    @property
    def needs_event_time(self) -> bool:  # type: ignore[override]
        return not self.by_clock

    def on_record(self, record: Any, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        result = _AT_END.on_record(record, time_ms, window, ctx)
        if not result.fires and ctx.get("next") is None:
            now_ms = ctx.now_ms() if self.by_clock else time_ms
            self._set_next(now_ms - now_ms % self.every_ms, window, ctx)
        return result

    def on_event_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        at_end = _AT_END.on_event_time(time_ms, window, ctx)
        return at_end if at_end.fires or self.by_clock else self._tick(time_ms, window, ctx)

    def on_processing_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        at_end = _AT_END.on_processing_time(time_ms, window, ctx)
        return at_end if at_end.fires or not self.by_clock else self._tick(time_ms, window, ctx)

    def on_merge(self, window: Window, ctx: TriggerContext) -> None:
        _AT_END.on_merge(window, ctx)
        if waiting := ctx.merged("next"):
            ctx.set("next", min(waiting))
            self._register(min(waiting), ctx)

    def clear(self, window: Window, ctx: TriggerContext) -> None:
        _AT_END.clear(window, ctx)
        if (waiting := ctx.get("next")) is not None:
            (ctx.cancel_timer if self.by_clock else ctx.cancel_event_timer)(waiting)

    def _tick(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        if ctx.get("next") != time_ms:
            return TriggerResult.CONTINUE
        ctx.set("next", None)
        self._set_next(time_ms, window, ctx)
        return TriggerResult.FIRE

    def _set_next(self, time_ms: int, window: Window, ctx: TriggerContext) -> None:
        has_no_end = window.end_ms == MAX_TIME  # its multiples could be without number
        if has_no_end and not self.by_clock and time_ms < ctx.watermark:
            time_ms = ctx.watermark - ctx.watermark % self.every_ms
        at = time_ms + self.every_ms
        if self.by_clock == ctx.processing_time:
            at = min(at, window.last_ms)
        elif ctx.watermark >= window.last_ms:
            return
        ctx.set("next", at)
        self._register(at, ctx)

    def _register(self, time_ms: int, ctx: TriggerContext) -> None:
        (ctx.register_timer if self.by_clock else ctx.register_event_timer)(time_ms)


class PurgingTrigger(Trigger[T]):
    """Another trigger, after whose firing the window forgets its records."""

    def __init__(self, inner: Trigger[T]) -> None:
        self._inner = inner
        self.can_merge = inner.can_merge
        self.needs_event_time = inner.needs_event_time

    def on_record(self, record: T, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        return _purged(self._inner.on_record(record, time_ms, window, ctx))

    def on_event_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        return _purged(self._inner.on_event_time(time_ms, window, ctx))

    def on_processing_time(self, time_ms: int, window: Window, ctx: TriggerContext) -> TriggerResult:
        return _purged(self._inner.on_processing_time(time_ms, window, ctx))

    def on_merge(self, window: Window, ctx: TriggerContext) -> None:
        self._inner.on_merge(window, ctx)

    def clear(self, window: Window, ctx: TriggerContext) -> None:
        self._inner.clear(window, ctx)


_AT_END = WindowEndTrigger()


def at_window_end() -> WindowEndTrigger:
    """Fires when a window is over in its own time, and again at once for every late record that is still allowed: the
    default. Global windows are over at the end of input."""
    return _AT_END


def event_time_trigger() -> WindowEndTrigger:
    """Fires when the watermark has come to a window's last millisecond: for windows of event time the default."""
    return WindowEndTrigger(processing_time=False)


def processing_time_trigger() -> WindowEndTrigger:
    """Fires when the clock has come to a window's last millisecond: for windows of processing time the default."""
    return WindowEndTrigger(processing_time=True)


def count_trigger(size: int) -> CountTrigger:
    """Fires after every `size` records of a window, and not at its end: a rest has no result (as in Apache Flink).

    Raises:
        TopologyError: the size is below 1.
    """
    if size < 1:
        raise TopologyError(f"a trigger after {size} records", hint="after 1 at least")
    return CountTrigger(size)


def continuous_trigger(every: Duration, *, processing_time: bool = False) -> ContinuousTrigger:
    """Early firing: results so far at every multiple of `every` seconds that the watermark passes, from a window's
    first record on, and the last ones at its end.

    So do windows of event time with a trigger by the clock, which in Apache Flink have no results at their end: what
    has come since the last firing is lost there. In a session that grows when its next firing would have been at its
    end, the firings after that are `every` seconds apart from there on.

    Args:
        processing_time: by the clock, whatever time the windows go by.

    Raises:
        TopologyError: the interval is below a millisecond, or infinite.
    """
    if not math.isfinite(every) or round(every * 1000) < 1:
        raise TopologyError(f"a trigger every {every} s", hint="the shortest is a millisecond")
    return ContinuousTrigger(round(every * 1000), processing_time)


def purging(trigger: Trigger[T]) -> PurgingTrigger[T]:
    """The same trigger, but a window forgets its records when it has fired: results are of what came since."""
    return PurgingTrigger(trigger)


def _purged(result: TriggerResult) -> TriggerResult:
    return TriggerResult.FIRE_AND_PURGE if result.fires else result
