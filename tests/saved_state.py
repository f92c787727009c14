"""What a keyed store captures, as the files of a snapshot give it back."""

from __future__ import annotations

from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.parts import read_part, write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.testing.memory import MemoryStorage


def saved_store(store, *, allow_pickle=False):
    """A whole capture of the store, written and read."""
    keyed, tables = store.capture(1)
    return through_files(keyed, tables, allow_pickle=allow_pickle)


def through_files(keyed, tables, own=None, *, allow_pickle=False):
    """A capture of one operator, copied to its end, written and read; its keyed state."""
    part = OperatorSnapshot(keyed, own, tables)
    for capture in part.captures:
        capture.finish()
    storage, snapshot = MemoryStorage(), SubtaskSnapshot({"op": part})
    file, chain = write_part(storage, "chk-00000001/x.state", snapshot, [], allow_pickle=allow_pickle)
    entry = SubtaskEntry(0, 0, 1, ["op"], finished=False, file=file, tables=chain)
    return read_part(storage, entry, allow_pickle=allow_pickle).operators["op"].keyed
