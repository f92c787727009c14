"""What one subtask takes from a snapshot: its operators' state, its records in flight, at any parallelism."""

from __future__ import annotations

import functools

from streamcore.batch import Batch, Columns
from streamcore.batch.codec import decode_saved
from streamcore.batch.widening import as_of_now
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import Storage
from streamcore.errors import IncompatibleSnapshotError, StateCodecError
from streamcore.runtime.chain import RestoredOperator
from streamcore.runtime.finished import Endings, Offsets
from streamcore.runtime.messages import Restore
from streamcore.runtime.operator_task import edge_name
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.spec import EdgeSpec, JobSpec, Route, VertexSpec
from streamcore.runtime.subtask import RestoredSubtask
from streamcore.state.store import refuse_dropped

NOTHING_RESTORED = RestoredSubtask({}, [], finished=False)


def check_endings(restore: Restore, storage: Storage, job: JobSpec) -> None:
    """Refuses a snapshot in which something had ended that would have to go on; blocking.

    Raises:
        IncompatibleSnapshotError: see `Endings`.
    """
    _endings(restore, storage, job)


def read_subtask(restore: Restore, storage: Storage, job: JobSpec, vertex: VertexSpec, index: int) -> RestoredSubtask:
    """Reads what the subtask needs; blocking.

    Raises:
        DamagedCheckpointError: a file is missing or damaged.
        IncompatibleSnapshotError: something had ended that would have to go on; or records were in flight on a back
            edge that is no more; or a value can't be read.
    """
    uids = {spec.uid for spec in vertex.operators}
    entries = [entry for entry in restore.manifest.subtasks if uids & set(entry.operators)]
    if not entries:
        return NOTHING_RESTORED
    same = all(entry.parallelism == vertex.parallelism for entry in entries)
    if same and not vertex.is_source:  # a source looks its splits up wherever they were
        entries = [entry for entry in entries if entry.index == index]
    try:
        parts = [(entry, read_part(storage, entry, allow_pickle=job.settings.allow_pickle)) for entry in entries]
        feedback = _in_flight(job, vertex, index, parts, same=same, allow_dropped=restore.allow_dropped)
    except StateCodecError as error:
        raise IncompatibleSnapshotError(f"{vertex.name}: {error.message}", hint=error.hint) from error
    endings = _endings(restore, storage, job)
    ended = frozenset(entry.index for entry in entries if entry.finished)
    operators = {
        uid: RestoredOperator([], endings.has_finished(uid, index), ended, restore.allow_dropped) for uid in uids
    }
    for entry, snapshot in parts:
        for uid in uids & snapshot.operators.keys():
            part = snapshot.operators[uid]
            if endings.is_spent(uid, index, entry.index):
                part = OperatorSnapshot({"states": {}, "timers": {}}, part.own)
            operators[uid].parts.append((entry.index, entry.parallelism, part))
    known = [operators[uid] for uid in uids if operators[uid].parts]
    finished = not feedback and all(operator.finished for operator in known)
    return RestoredSubtask(operators, feedback, finished)


def _endings(restore: Restore, storage: Storage, job: JobSpec) -> Endings:
    def offsets_of(uid: str) -> Offsets:
        found: dict[str, tuple[object, bool]] = {}
        for entry in restore.manifest.subtasks:
            if uid in entry.operators:
                part = SubtaskSnapshot.decode(storage.get(entry.file), allow_pickle=job.settings.allow_pickle)
                found.update(part.operators[uid].own["offsets"])
        return found

    return Endings(job, restore.manifest, functools.cache(offsets_of))


def _in_flight(
    job: JobSpec,
    vertex: VertexSpec,
    index: int,
    parts: list[tuple[SubtaskEntry, SubtaskSnapshot]],
    *,
    same: bool,
    allow_dropped: bool,
) -> list[tuple[int, Batch]]:
    """This subtask's share of the records that were in flight on back edges, by port."""
    back = {edge_name(job, edge): edge for edge in job.edges if edge.feedback and edge.target == vertex.id}
    feedback: list[tuple[int, Batch]] = []
    for entry, snapshot in parts:
        for name, batches in snapshot.feedback.items():
            edge = back.get(name)
            if edge is None:
                if batches and f">{vertex.operators[0].uid}." in name:
                    refuse_dropped(
                        f"{vertex.name}: the snapshot has records in flight on the back edge {name}, "
                        "which the topology no longer has",
                        allowed=allow_dropped,
                    )
                continue
            for form, body in batches:
                batch = decode_saved(form, body, allow_pickle=job.settings.allow_pickle)
                if isinstance(batch, Columns) and edge.schema is not None:
                    batch = as_of_now(batch, edge.schema, f"records in flight on the back edge {name}")
                own = batch if same else _own_records(edge, batch, entry, vertex, index)
                if len(own):
                    feedback.append((edge.port, own))
    return feedback


def _own_records(edge: EdgeSpec, batch: Batch, entry: SubtaskEntry, vertex: VertexSpec, index: int) -> Batch:
    """A logged batch, sent again by the edge's own rule."""
    if edge.partitioning.route is Route.BROADCAST:
        raise IncompatibleSnapshotError(
            f"{vertex.name}: records were in flight on a back edge that is broadcast, of which each of the "
            f"{entry.parallelism} subtasks had seen another part: its parallelism can't change now",
            hint=f"restore with parallelism {entry.parallelism}",
        )
    if edge.partitioning.route in (Route.HASH, Route.CUSTOM):
        partition = make_partitioner(edge.partitioning, 0, vertex.parallelism, vertex.max_parallelism)
        return dict(partition(batch)).get(index, [])
    return batch if entry.index % vertex.parallelism == index else []
