"""An event loop without I/O: what runs next, and what time it is, come from a seed; and everything that runs belongs to
a simulated process, which can be killed, stopped and slowed.

Whose a callback is stands in its context (`PLACE`), which callbacks and tasks hand on to those that they make.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import inspect
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from streamcore.errors import StreamcoreError

T = TypeVar("T")

_STEP_S = 20e-6


class SimulationStuckError(StreamcoreError):
    """The job did not end within the allowed steps, or nothing is left that could happen."""


class Killed(BaseException):
    """Unwinds the callback in whose middle its process was killed."""


class Place:
    """Where callbacks belong: to a process, or to one subtask in it."""

    __slots__ = ("busy_until", "held", "name", "process", "slowness_s", "waiting")

    def __init__(self, name: str, process: SimulatedProcess | None = None) -> None:
        self.name = name
        self.process = process
        self.held = False
        """Whether the loop has to look closer before it runs something here."""
        self.busy_until = 0.0
        self.slowness_s = 0.0
        self.waiting: list[asyncio.Handle] = []
        """What could run if the place were not busy; one of them becomes ready when it isn't any more."""


PLACE: contextvars.ContextVar[Place] = contextvars.ContextVar("simulated_place")


class SimulatedProcess(Place):
    """A process of the simulated world."""

    __slots__ = (
        "clock_offset_s",
        "context",
        "exit_code",
        "isolated_until",
        "loop",
        "on_end",
        "on_exit",
        "parts",
        "stopped",
        "subtasks",
        "work",
    )

    def __init__(self, name: str, loop: SimulatedLoop) -> None:
        super().__init__(name, self)
        self.loop = loop
        self.work: Coroutine[Any, Any, Any] | None = None
        self.exit_code: int | None = None
        self.stopped = False
        self.isolated_until = 0.0
        self.clock_offset_s = 0.0
        self.subtasks: dict[str, Place] = {}
        self.on_end: Callable[[SimulatedProcess], None] = lambda process: None
        """Called when the process has ended or stands still."""
        self.on_exit: Callable[[int], None] = lambda code: None
        """Called when it has ended, for the process that has started it."""
        self.parts: dict[Mortal, None] = {}
        self.context = contextvars.copy_context()
        self.context.run(PLACE.set, self)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended; one that is stopped is alive."""
        return self.exit_code is None

    @property
    def has_begun(self) -> bool:
        """Whether it has done its first step."""
        return self.work is not None and inspect.getcoroutinestate(self.work) != inspect.CORO_CREATED

    @property
    def is_reachable(self) -> bool:
        """Whether others can connect to it, or kill it."""
        return not self.stopped and self.loop.time() >= self.isolated_until

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs what the process does."""
        self.work = work
        return self.context.run(self.loop.create_task, work)

    def subtask(self, name: str) -> Place:
        """The place of a subtask, which is as slow and as alive as its process, and may be slower."""
        place = self.subtasks.get(name)
        if place is None:
            place = self.subtasks[name] = Place(name, self)
            place.held = self.held
        return place

    def end(self, code: int) -> None:
        """Ends it: nothing of it runs any more, and its connections end. -9: by kill."""
        if self.exit_code is not None:
            return
        self.exit_code = code
        self._hold()
        self.loop.keep_remains(self)
        for part in list(self.parts):
            part.die()
        self.on_exit(code)
        self.on_end(self)

    def kill(self) -> None:
        """Kill -9."""
        self.end(-9)

    def stop(self, seconds: float) -> None:
        """Stands still for some time; a kill can't reach it meanwhile."""
        self.stopped = True
        self.busy_until = max(self.busy_until, self.loop.time() + seconds)
        self._hold()
        self.on_end(self)

    def slow(self, seconds: float, subtask: str = "") -> None:
        """Makes every step, or those of one subtask, last longer by `seconds` on average."""
        place = self.subtask(subtask) if subtask else self
        place.slowness_s = seconds
        self._hold() if place is self else setattr(place, "held", True)

    def _hold(self) -> None:
        for place in [self, *self.subtasks.values()]:
            place.held = True


class Mortal:
    """What a process owns and what ends with it: connections, servers."""

    def die(self) -> None:
        """The process is gone."""
        raise NotImplementedError


class _Task(asyncio.Task[Any]):
    """A task whose order in sets doesn't depend on where it is in memory. One that is named "subtask" is a subtask's,
    and what it starts belongs to the subtask too."""

    def __init__(self, number: int, coroutine: Any, loop: SimulatedLoop, name: str | None, context: Any) -> None:
        self.number = number
        self.place = context.get(PLACE)
        self._context = context
        super().__init__(coroutine, loop=loop, context=context)
        if name is not None:
            self.set_name(name)

    def set_name(self, value: object) -> None:
        super().set_name(value)
        if self.place is not None and str(value).startswith("subtask "):
            self.place = self.place.process.subtask(str(value))
            self._context.run(PLACE.set, self.place)

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop. Each step runs one callback, which the seed picks among those that are ready; time moves by a little
    with each, and jumps to the next timer when nothing is ready."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)  # noqa: S311 - chance under a seed is the point
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []  # the base class appends to it and clears it
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = self._tasks = 0
        self._remains: list[_Task] = []
        self.steps = 0
        self.digest = 0
        """Equal when all steps were the same."""
        self.alarm_at = 0
        """The step before which `on_alarm` is called."""
        self.on_alarm: Callable[[], None] = lambda: None
        self.until_s = math.inf
        """Virtual time beyond which the run counts as stuck."""
        self.tracer: Callable[[float, asyncio.Handle], None] | None = None
        self.failure: BaseException | None = None
        """What a callback has raised, which no callback may do."""

    def advance(self, seconds: float) -> None:
        """Moves the clock on; what was due meanwhile is late."""
        self._now += seconds

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **options: Any) -> Any:
        """A task, which belongs where it is made."""
        self._tasks += 1
        return _Task(self._tasks, coro, self, name, contextvars.copy_context() if context is None else context)

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """One of what may run next; in which order is the seed's choice."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """What may run from a time on."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def keep_remains(self, process: SimulatedProcess) -> None:
        """Keeps the tasks of a process that has ended until `abandon`: whenever Python collects one, it is unwound."""
        self._remains += [
            task
            for task in asyncio.all_tasks(self)
            if isinstance(task, _Task) and task.place is not None and task.place.process is process
        ]

    def abandon(self, *, everything: bool) -> None:
        """Unwinds the tasks of dead processes, or all, so that Python doesn't complain of them later: nothing is
        awaited any more, and what they say on their way out reaches nobody."""
        orphans = [task for task in asyncio.all_tasks(self) if isinstance(task, _Task)] if everything else self._remains
        ready, self._remains = len(self._ready), []
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for orphan in sorted(orphans, key=hash):
                orphan._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = orphan.get_coro()
                assert coroutine is not None, "a task without coroutine"
                with contextlib.suppress(RuntimeError, Killed):  # it would have awaited, or written, on its way out
                    coroutine.close()
        finally:
            asyncio._set_running_loop(running)
        del self._ready[ready:]

    def __del__(self) -> None:
        """It has nothing to close, and needn't be."""

    def _run_once(self) -> None:
        timers = self._timers
        chance, log = self._chance.random, math.log
        while not self._stopping:  # type: ignore[attr-defined]
            ready = self._ready
            now = self._now = self._now - log(1.0 - chance()) * _STEP_S
            if timers and (not ready or timers[0][0] <= now):
                self._take_due()
                if not ready:
                    continue  # all that was due had been cancelled
            elif not ready:
                raise SimulationStuckError("nothing is left that could happen")
            self.steps += 1
            if self.steps >= self.alarm_at:
                self.on_alarm()
                if not ready or self._stopping:  # type: ignore[attr-defined]
                    continue
            count = len(ready)
            if count == 1:
                handle = ready.pop()
                self.digest = hash((self.digest, now))
            else:
                position = int(chance() * count)
                handle, last = ready[position], ready.pop()
                if handle is not last:
                    ready[position] = last
                self.digest = hash((self.digest, now, count, position))
            if handle._cancelled:
                continue
            place = handle._context.get(PLACE)  # type: ignore[attr-defined]
            if place is not None and place.held and not self._may_run(handle, place):
                continue
            if self.tracer is not None:
                self.tracer(now, handle)
            handle._run()

    def _take_due(self) -> None:
        """Makes ready what is due; with nothing ready, time jumps to what is due next."""
        ready, timers = self._ready, self._timers
        if not ready:
            self._now = max(self._now, timers[0][0])
            if self._now > self.until_s:
                raise SimulationStuckError(f"nothing came of it until second {self._now:g}")
        while timers and timers[0][0] <= self._now:
            _, _, handle = heapq.heappop(timers)
            if not handle._cancelled:
                ready.append(handle)

    def _may_run(self, handle: asyncio.Handle, place: Place) -> bool:
        """Whether something runs now, at a place that is slow, stopped or dead."""
        process = place.process
        assert process is not None, "a place without process"
        if process.exit_code is not None:
            return False
        for each in (process, place):
            if each.busy_until > self._now:
                each.waiting.append(handle)
                if len(each.waiting) == 1:
                    self.call_at(each.busy_until, self._let_one_go, each)
                return False
        process.stopped = False
        for each in (process, place):
            if each.slowness_s:
                each.busy_until = self._now + self._chance.expovariate(1 / each.slowness_s)
        return True

    def _let_one_go(self, place: Place) -> None:
        """A place may not be busy any more: one of those that wait for it becomes ready, and the others if the place
        has never been slow, or is no more."""
        waiting, process = place.waiting, place.process
        assert process is not None, "a place without process"
        if place.busy_until > self._now and process.exit_code is None:
            self.call_at(place.busy_until, self._let_one_go, place)
            return
        if not place.slowness_s or process.exit_code is not None:
            place.waiting = []
            self._ready.extend(waiting)
            return
        position = int(self._chance.random() * len(waiting))
        self._ready.append(waiting.pop(position))
        if waiting:  # the one that goes makes the place busy again, until when is not known yet
            self.call_soon(self._let_one_go, place)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A callback has failed, which a real loop would log: here it ends the run."""
        error = context.get("exception")
        if isinstance(error, Killed) or "callback" not in context.get("message", ""):
            return
        if error is not None and self.failure is None:
            self.failure = error
            self.stop()

    def _process_events(self, event_list: object) -> None:
        """There are no events from outside."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake the loop from."""

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Cancelled handles are skipped when their time comes."""
