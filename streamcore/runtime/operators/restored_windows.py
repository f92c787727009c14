"""What operators of windows on columns find in a snapshot: their own windows, or an error that says whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.operator import OperatorContext


def restored_windows(context: OperatorContext, windows: str) -> list[Mapping[str, Any]]:
    """What the old subtasks had outside of keyed state: mappings with `windows`, which windows they had in words, which
    are those that the operator has now.

    Raises:
        IncompatibleSnapshotError: they were others, so that what was added up belongs to no window there is now; or
            the snapshot is of another kind of operator.
    """
    states = context.all_states()
    for state in states:
        there = state.get("windows") if isinstance(state, dict) else None
        if there != windows:
            was = f"windows of {there}" if there is not None else "no such windows"
            raise IncompatibleSnapshotError(
                f"the snapshot has {was}, and now they are of {windows}",
                hint="restore with the windows of the snapshot, or give the operator another uid",
            )
    return states
