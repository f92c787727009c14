"""What one subtask takes from a snapshot: its operators' state, its records in flight, at any parallelism."""

from __future__ import annotations

import functools

from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import Storage
from streamcore.errors import IncompatibleSnapshotError, StateCodecError
from streamcore.runtime.chain import RestoredOperator
from streamcore.runtime.finished import Endings
from streamcore.runtime.messages import Restore
from streamcore.runtime.restore_in_flight import RestoredInFlight, read_in_flight
from streamcore.runtime.spec import JobSpec, VertexSpec
from streamcore.runtime.splits import Offsets
from streamcore.runtime.subtask import RestoredSubtask
from streamcore.state.key_groups import group_range
from streamcore.state.rocks_image import fetch_images

NOTHING_RESTORED = RestoredSubtask({}, RestoredInFlight(), finished=False)


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
        IncompatibleSnapshotError: something had ended that would have to go on; or a value can't be read; or records
            were in flight on an edge that is no more, or can't be dealt out among another number of subtasks.
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
        in_flight = [(entry, snapshot.in_flight) for entry, snapshot in parts]
        found = read_in_flight(job, vertex, index, in_flight, allow_dropped=restore.allow_dropped)
    except StateCodecError as error:
        raise IncompatibleSnapshotError(f"{vertex.name}: {error.message}", hint=error.hint) from error
    endings = _endings(restore, storage, job)
    operators = {
        uid: RestoredOperator([], endings.has_finished(uid, index), endings.ended_before(uid), restore.allow_dropped)
        for uid in uids
    }
    groups = group_range(index, vertex.parallelism, vertex.max_parallelism)
    directory = job.settings.state_backend.directory if job.settings.state_backend is not None else None
    for entry, snapshot in parts:
        for uid in uids & snapshot.operators.keys():
            part = snapshot.operators[uid]
            if endings.is_spent(uid, index, entry.index):
                part = OperatorSnapshot({"states": {}, "timers": {}}, part.own)
            fetch_images(part.keyed, groups, directory)
            operators[uid].parts.append((entry.index, entry.parallelism, part))
    known = [operators[uid] for uid in uids if operators[uid].parts]
    nothing_left = not (found.inside or found.inputs or found.outputs)
    finished = nothing_left and all(operator.finished for operator in known)
    return RestoredSubtask(operators, found, finished)


def _endings(restore: Restore, storage: Storage, job: JobSpec) -> Endings:
    def offsets_of(uid: str) -> Offsets:
        found: dict[str, tuple[object, bool]] = {}
        for entry in restore.manifest.subtasks:
            if uid in entry.operators:
                part = SubtaskSnapshot.decode(storage.get(entry.file), allow_pickle=job.settings.allow_pickle)
                found.update(part.operators[uid].own["offsets"])
        return found

    return Endings(job, restore.manifest, functools.cache(offsets_of))
