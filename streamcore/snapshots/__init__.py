"""Snapshots from the outside: state read as rows and Arrow, and snapshots made of data, without running a job."""

from streamcore.snapshots.builder import SnapshotBuilder
from streamcore.snapshots.reader import OperatorInfo, Snapshot, SplitInfo, StateInfo
from streamcore.snapshots.state import SnapshotState

__all__ = ["OperatorInfo", "Snapshot", "SnapshotBuilder", "SnapshotState", "SplitInfo", "StateInfo"]
