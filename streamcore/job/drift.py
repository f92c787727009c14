"""The alignment groups of one attempt, as the coordinator sees them: how far each has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamcore.runtime.messages import Align, SlowestSplit, Subtask
from streamcore.runtime.spec import JobSpec


@dataclass(slots=True)
class _Group:
    times: dict[Subtask, int] = field(default_factory=dict)
    """The subtasks that have to be waited for, and for which event time."""
    told_ms: int | None = None


class DriftWatch:
    """All alignment groups of a job. A group has come as far as the furthest behind of its subtasks; those with nothing
    to wait for - idle, ended, without a record yet - don't count."""

    def __init__(self, job: JobSpec, epoch: int) -> None:
        self._epoch = epoch
        aligned = [(vertex, vertex.alignment) for vertex in job.vertices if vertex.alignment is not None]
        self._names = {vertex.id: alignment.group for vertex, alignment in aligned}
        self._groups = {name: _Group() for name in self._names.values()}
        self.every_s = min((alignment.every_s for _, alignment in aligned), default=None)
        """Seconds between two looks; None: there are no groups."""

    def report(self, slowest: SlowestSplit) -> None:
        """A subtask has told how far it has come."""
        times = self._groups[self._names[slowest.subtask[0]]].times
        if slowest.slowest_ms is None:
            times.pop(slowest.subtask, None)
        else:
            times[slowest.subtask] = slowest.slowest_ms

    def ended(self, subtask: Subtask) -> None:
        """A subtask has ended, perhaps one that is in no group."""
        if subtask[0] in self._names:
            self._groups[self._names[subtask[0]]].times.pop(subtask, None)

    def moved(self) -> list[Align]:
        """What to tell all workers: the groups that have moved since the last call."""
        messages: list[Align] = []
        for name, group in self._groups.items():
            time_ms = min(group.times.values(), default=None)
            if time_ms != group.told_ms:
                group.told_ms = time_ms
                messages.append(Align(self._epoch, name, time_ms))
        return messages
