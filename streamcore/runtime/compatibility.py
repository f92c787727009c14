"""Whether a job can go on from a snapshot, as far as its manifest tells: asked before any worker starts."""

from __future__ import annotations

import logging

import numpy as np

from streamcore.batch.widening import is_exact
from streamcore.checkpoint.log import Entry, OperatorEntry
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.messages import Restore
from streamcore.runtime.spec import JobSpec, OperatorSpec, Route, VertexSpec

_NUMBERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_TEXT = {"string", "large_string"}

logger = logging.getLogger("streamcore.job")


def operator_entries(job: JobSpec) -> dict[str, OperatorEntry]:
    """What a manifest says of the job's operators, by uid."""
    return {
        spec.uid: OperatorEntry(
            spec.name, vertex.parallelism, vertex.max_parallelism, spec.place, _key(job, vertex, spec)
        )
        for vertex in job.vertices
        for spec in vertex.saved_operators
    }


def _key(job: JobSpec, vertex: VertexSpec, spec: OperatorSpec) -> list[str]:
    """The fields of the operator's key and their types; empty: it has none, or its type is not known."""
    for edge in job.edges if spec.parent < 0 else ():
        selector = edge.partitioning.key
        if edge.target == vertex.id and edge.partitioning.route is Route.HASH and selector and edge.schema is not None:
            fields = [edge.schema.by_name[name] for name in selector.fields]
            if fields:
                return [f"{field.name}: {field.type}" for field in fields]
    return []


def check_compatible(job: JobSpec, restore: Restore) -> None:
    """Refuses a snapshot that this topology can't take over; says which operators' state is dropped, where it may be.

    Raises:
        IncompatibleSnapshotError: another job's, or with operators that the topology doesn't have or has elsewhere,
            or with another number of key groups or type of key.
    """
    manifest = restore.manifest
    place = f"checkpoint {manifest.checkpoint_id} in {restore.storage_url}"
    if manifest.job != job.name:
        raise IncompatibleSnapshotError(
            f"{place} was taken by job {manifest.job!r}; it doesn't fit the topology of {job.name!r}: it is of another "
            "job",
            hint="restore with the topology that wrote it, under the job's own name",
        )
    known = operator_entries(job)
    _check_gone(manifest, known, place, allow_dropped=restore.allow_dropped)
    made_up = {spec.uid for vertex in job.vertices for spec in vertex.saved_operators if spec.has_made_up_uid}
    _check_places(manifest, known, made_up, place)
    for uid, old in manifest.operators.items():
        new = known.get(uid, old)
        if old.max_parallelism != new.max_parallelism:
            raise IncompatibleSnapshotError(
                f"{place}: operator {uid!r} has max_parallelism {old.max_parallelism} there and "
                f"{new.max_parallelism} here",
                hint=f"set max_parallelism={old.max_parallelism}: it is fixed for the life of the state",
            )
        if old.key and new.key and not _same_keys(old.key, new.key):
            raise IncompatibleSnapshotError(
                f"{place}: operator {uid!r} is kept by {', '.join(old.key)} in the snapshot, and by "
                f"{', '.join(new.key)} now: records would not find the state of their key",
                hint="keep the key's type (whole numbers may become wider), or give the operator another uid",
            )


def _check_gone(manifest: Entry, known: dict[str, OperatorEntry], place: str, *, allow_dropped: bool) -> None:
    gone, new = sorted(set(manifest.operators) - set(known)), sorted(set(known) - set(manifest.operators))
    if gone and not allow_dropped:
        but = f"; it has operators {', '.join(new)}, which the snapshot does not have" if new else ""
        raise IncompatibleSnapshotError(
            f"{place} was taken by job {manifest.job!r}; it doesn't fit the topology now: it has operators "
            f"{', '.join(gone)}, which the topology does not have{but}",
            hint="restore with the topology that wrote it; or give an operator that was only moved or renamed its old "
            f"uid, as in .uid({gone[0]!r}); or have the state of those that are gone dropped: --allow-dropped-state",
        )
    for uid in gone:
        logger.warning("%s: the topology has no operator %r any more; its state is dropped", place, uid)


def _check_places(manifest: Entry, known: dict[str, OperatorEntry], made_up: set[str], place: str) -> None:
    """A uid that was made up of name and place is no proof where operators before it have come or gone."""
    for uid in sorted(made_up & set(manifest.operators), key=lambda uid: known[uid].place):
        at = known[uid].place
        before = {other for other, old in manifest.operators.items() if -1 < old.place < at}
        if manifest.operators[uid].place != -1 and before != {other for other, new in known.items() if new.place < at}:
            raise IncompatibleSnapshotError(
                f"{place}: operator {uid!r} is known by its place in the topology only, and before it there are "
                f"{_listed(known, at)} now, in the snapshot {_listed(manifest.operators, at)}",
                hint=f"say which operator it was: .uid({uid!r}); give every operator with state a uid of its own",
            )


def _listed(operators: dict[str, OperatorEntry], below: int) -> str:
    before = sorted((entry.place, uid) for uid, entry in operators.items() if -1 < entry.place < below)
    return ", ".join(uid for _, uid in before) or "none"


def _same_keys(old: list[str], new: list[str]) -> bool:
    types = [tuple(field.rpartition(": ")[2] for field in pair) for pair in zip(old, new, strict=False)]
    return len(old) == len(new) and all(_same_hash(*pair) for pair in types)


def _same_hash(old: str, new: str) -> bool:
    """Whether equal keys of both types are equal keys with equal hashes: whole numbers hash by value."""
    if {old, new} <= _NUMBERS:
        return is_exact(np.dtype(old), np.dtype(new))
    return old == new or {old, new} <= _TEXT
