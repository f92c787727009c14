"""What one subtask takes from a snapshot: its operators' state, its records in flight, at any parallelism."""

from __future__ import annotations

from streamcore.checkpoint.in_flight import InFlight
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.storage import Storage
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.chain import RestoredOperator
from streamcore.runtime.messages import Restore
from streamcore.runtime.restore_in_flight import RestoredInFlight, read_in_flight
from streamcore.runtime.spec import JobSpec, VertexSpec
from streamcore.runtime.subtask import RestoredSubtask

NOTHING_RESTORED = RestoredSubtask({}, RestoredInFlight(), finished=False)


def check_compatible(job: JobSpec, restore: Restore) -> None:
    """Refuses a snapshot that this topology can't take over.

    Raises:
        IncompatibleSnapshotError: another job's, or with operators that the topology doesn't have, or with
            another number of key groups.
    """
    manifest = restore.manifest
    place = f"checkpoint {manifest.checkpoint_id} in {restore.storage_url}"
    known = {spec.uid: vertex for vertex in job.vertices for spec in vertex.operators}
    unknown = sorted(set(manifest.operators) - set(known))
    if manifest.job != job.name or unknown:
        what = f"has operators {', '.join(unknown)}, which it does not have" if unknown else "is of another job"
        raise IncompatibleSnapshotError(
            f"{place} was taken by job {manifest.job!r}; it doesn't fit the topology of {job.name!r}: it {what}",
            hint="restore with the topology that wrote it; an operator with a uid is found again when others change",
        )
    for uid, old in manifest.operators.items():
        if old.max_parallelism != known[uid].max_parallelism:
            raise IncompatibleSnapshotError(
                f"{place}: operator {uid!r} has max_parallelism {old.max_parallelism} there and "
                f"{known[uid].max_parallelism} here",
                hint=f"set max_parallelism={old.max_parallelism}: it is fixed for the life of the state",
            )


def read_subtask(restore: Restore, storage: Storage, job: JobSpec, vertex: VertexSpec, index: int) -> RestoredSubtask:
    """Reads what the subtask needs; blocking.

    Raises:
        DamagedCheckpointError: a file is missing or damaged.
        IncompatibleSnapshotError: the subtasks had finished in part, and the parallelism has changed; or records
            were in flight on an edge that is no more, or can't be dealt out among another number of subtasks.
    """
    uids = {spec.uid for spec in vertex.operators}
    entries = [entry for entry in restore.manifest.subtasks if uids & set(entry.operators)]
    if not entries:
        return NOTHING_RESTORED
    same = all(entry.parallelism == vertex.parallelism for entry in entries)
    if same and not vertex.is_source:  # a source looks its splits up wherever they were
        entries = [entry for entry in entries if entry.index == index]
    operators: dict[str, RestoredOperator] = {uid: RestoredOperator([]) for uid in uids}
    in_flight: list[tuple[SubtaskEntry, InFlight]] = []
    for entry in entries:
        snapshot = read_part(storage, entry, allow_pickle=job.settings.allow_pickle)
        for uid, part in snapshot.operators.items():
            if uid in operators:
                operators[uid].parts.append((entry.index, entry.parallelism, part))
        in_flight.append((entry, snapshot.in_flight))
    finished = _has_finished(entries, vertex, index, same=same)
    if vertex.is_source and any(entry.finished for entry in entries):
        _refuse_new_splits(vertex, operators)
    return RestoredSubtask(operators, read_in_flight(job, vertex, index, in_flight), finished)


def _refuse_new_splits(vertex: VertexSpec, operators: dict[str, RestoredOperator]) -> None:
    """A subtask that had finished reads no more, so nothing new may be dealt out among the subtasks."""
    old = {split for part in operators[vertex.operators[0].uid].parts for split in part[2].own["offsets"]}
    new = sorted({split.id for split in vertex.splits or ()} - old)
    if new:
        raise IncompatibleSnapshotError(
            f"{vertex.name}: had read a part of its input to the end in the snapshot, and now there is more: "
            f"{', '.join(new)}",
            hint="start a job of its own for the new input, or take it away to go on with the old",
        )


def _has_finished(entries: list[SubtaskEntry], vertex: VertexSpec, index: int, *, same: bool) -> bool:
    if same:
        return all(entry.finished for entry in entries if entry.index == index)
    finished = [entry.finished for entry in entries]
    if any(finished) and not all(finished):
        raise IncompatibleSnapshotError(
            f"{vertex.name}: some of its subtasks had finished in the snapshot, so its parallelism can't change now",
            hint=f"restore with parallelism {entries[0].parallelism}",
        )
    return all(finished)
