"""Reads the state in a checkpoint without running the job."""

from __future__ import annotations

from typing import Any

from streamcore.checkpoint.log import Entry
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.storage import Storage
from streamcore.state.store import entries


def read_state(storage: Storage, manifest: Entry) -> dict[str, dict[str, dict[Any, Any]]]:
    """The keyed state of every operator: uid → state name → key → value (columnar state: field → value; table
    state: list of rows).

    Raises:
        DamagedCheckpointError: a file is missing or damaged.
        StateCodecError: a value is of a class that isn't loaded, or pickled.
    """
    result: dict[str, dict[str, dict[Any, Any]]] = {}
    for subtask in manifest.subtasks:
        snapshot = read_part(storage, subtask, allow_pickle=False)
        for uid, operator in snapshot.operators.items():
            states = result.setdefault(uid, {})
            for name, table in entries(operator.keyed).items():
                states.setdefault(name, {}).update(table)
    return result
