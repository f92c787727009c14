"""Which operators of a snapshot had come to their end, and what that means at another parallelism. Pure decisions.

An operator's subtask that has finished has emitted its last (`Operator.finish`): that must not be done again for its
keys. Subtasks of one operator end at different times, so a snapshot may have some that have and some that have not.

==========================  ================================================================================
operator                    what becomes of it
==========================  ================================================================================
source                      its splits say it: a subtask with a split that has not been read to its end, or that the
                            source resumes, goes on, and each of a source that looks for new splits.
                            One that had ended altogether, as after a drain, stays so, and takes no new splits
all subtasks had finished   has finished
some had finished           a new subtask has finished if all those that it takes over had. Else it runs to its end
                            without the keyed state of those that had: it is spent, no record of its keys can come
had finished, but will get  goes on if it has no key; with keys it is refused, since what it has emitted as the
records again               last of a key would not be
new in the topology         starts empty
==========================  ================================================================================

Records come again where a source goes on that feeds a finished subtask from one to one, and where the topology has
changed.
"""

from __future__ import annotations

from collections.abc import Callable

from streamcore.checkpoint.log import Entry
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.spec import EdgeSpec, JobSpec, Route, VertexSpec
from streamcore.runtime.splits import Offsets, all_splits, has_ended, own_splits
from streamcore.state.key_groups import group_range

_OldFlags = dict[int, tuple[int, bool]]
"""Old subtask → (old parallelism, whether it had finished)."""


class Endings:
    """What had ended, of a job that is about to go on from a snapshot.

    Args:
        offsets_of: gives the offsets that the snapshot has of a source, by the uid of its operator; asked only for
            sources that had ended in part.

    Raises:
        IncompatibleSnapshotError: an operator with keys had ended and would get records again, or a source had ended
            and has new splits.
    """

    def __init__(self, job: JobSpec, manifest: Entry, offsets_of: Callable[[str], Offsets]) -> None:
        self._inputs: dict[int, list[EdgeSpec]] = {vertex.id: [] for vertex in job.vertices}
        for edge in job.edges:
            if not edge.feedback:
                self._inputs[edge.target].append(edge)
        self._vertices = {vertex.id: vertex for vertex in job.vertices}
        self._old: dict[str, _OldFlags] = {}
        for entry in manifest.subtasks:
            for uid in entry.operators:
                self._old.setdefault(uid, {})[entry.index] = entry.parallelism, entry.has_ended(uid)
        self._offsets_of = offsets_of
        self._finished: set[tuple[str, int]] = set()
        self._live: dict[tuple[int, int], bool] = {}
        self._any: dict[int, bool] = {}
        if any(entry.finished or entry.ended for entry in manifest.subtasks):
            for vertex in job.vertices:
                for index in range(vertex.parallelism):
                    self._is_live(vertex.id, index)

    def has_finished(self, uid: str, index: int) -> bool:
        """Whether an operator has emitted its last in this new subtask, so that it gets nothing and ends at once."""
        return (uid, index) in self._finished

    def is_spent(self, uid: str, index: int, old_index: int) -> bool:
        """Whether this new subtask must do without the keyed state of that old one."""
        return old_index in self.ended_before(uid) and not self.has_finished(uid, index)

    def ended_before(self, uid: str) -> frozenset[int]:
        """The old subtasks in which an operator had emitted its last."""
        return frozenset(index for index, (_, ended) in self._old.get(uid, {}).items() if ended)

    def _is_live(self, vertex_id: int, index: int) -> bool:
        """Whether the subtask may still emit something. Decides its operators' ends on the way."""
        if (vertex_id, index) not in self._live:
            vertex = self._vertices[vertex_id]
            live: list[bool] = []
            for spec in vertex.operators:
                if spec.parent >= 0:
                    live.append(self._decide(vertex, spec.uid, index, fed=live[spec.parent], by_key=False))
                elif vertex.is_source:
                    live.append(self._decide_source(vertex, index))
                else:
                    fed = self._is_fed(vertex, index)
                    live.append(self._decide(vertex, spec.uid, index, fed=fed, by_key=self._has_key(vertex)))
            self._live[vertex_id, index] = any(live)
        return self._live[vertex_id, index]

    def _is_fed(self, vertex: VertexSpec, index: int) -> bool:
        """Whether records may come to the subtask from outside of it."""
        return any(
            self._is_live(edge.source, index)
            if edge.partitioning.route is Route.FORWARD
            else self._any_live(edge.source)
            for edge in self._inputs[vertex.id]
        )

    def _any_live(self, vertex_id: int) -> bool:
        if vertex_id not in self._any:
            indices = range(self._vertices[vertex_id].parallelism)
            self._any[vertex_id] = any(self._is_live(vertex_id, index) for index in indices)
        return self._any[vertex_id]

    def _decide(self, vertex: VertexSpec, uid: str, index: int, *, fed: bool, by_key: bool) -> bool:
        old = self._old.get(uid)
        if not old:
            return fed
        taken = [old[i][1] for i in self._taken_over(vertex, old, index)]
        if all(taken) and not fed:
            self._finished.add((uid, index))
            return False
        if fed and any(taken) and by_key:
            raise IncompatibleSnapshotError(
                f"{vertex.name}: had come to its end in the snapshot, or a part of it, and would now get records again",
                hint="restore with the input and the topology of the snapshot, or give the operator another uid and "
                "have its old state dropped: --allow-dropped-state",
            )
        return True

    def _decide_source(self, vertex: VertexSpec, index: int) -> bool:
        uid = vertex.operators[0].uid
        old = self._old.get(uid, {})
        flags = [finished for _, finished in old.values()]
        if not any(flags):
            return True
        offsets = self._offsets_of(uid)
        if all(flags):
            _refuse_new_splits(vertex, offsets)
            self._finished.add((uid, index))
            return False
        source = vertex.source
        assert source is not None, f"{vertex.name} has splits but is no source"
        if source.discovers:
            return True
        known = all_splits(source, vertex.splits or (), offsets).values()
        if all(has_ended(source, split, offsets) for split in own_splits(source, known, index, vertex.parallelism)):
            self._finished.add((uid, index))
            return False
        return True

    def _taken_over(self, vertex: VertexSpec, old: _OldFlags, index: int) -> list[int]:
        """The old subtasks whose state the new one takes: by key group, and what is dealt out one by one."""
        groups = group_range(index, vertex.parallelism, vertex.max_parallelism)
        taken = []
        for i, (parallelism, _) in old.items():
            theirs = group_range(i, parallelism, vertex.max_parallelism)
            overlap = groups.start < theirs.stop and theirs.start < groups.stop
            if overlap or (not self._has_key(vertex) and i % vertex.parallelism == index):
                taken.append(i)
        return taken

    def _has_key(self, vertex: VertexSpec) -> bool:
        return any(edge.partitioning.route is Route.HASH for edge in self._inputs[vertex.id])


def _refuse_new_splits(vertex: VertexSpec, offsets: Offsets) -> None:
    new = sorted({split.id for split in vertex.splits or ()} - set(offsets))
    if new:
        raise IncompatibleSnapshotError(
            f"{vertex.name}: had read its input to the end in the snapshot, and now there is more: {', '.join(new)}",
            hint="start a job of its own for the new input, or take it away to go on with the old",
        )
