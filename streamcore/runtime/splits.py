"""Which splits a source's subtask reads, and which of them had ended. Pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamcore.connectors.base import Source, Split

Offsets = Mapping[str, tuple[Any, bool]]
"""Split's id → (offset, whether it had been read to its end)."""


def all_splits(source: Source[Any], splits: Iterable[Split], offsets: Offsets) -> dict[str, Split]:
    """The splits there are, with those of the snapshot that were found while the job ran, by id."""
    found = {split.id: split for split in splits}
    for split_id in offsets.keys() - found.keys():
        if (split := source.split(split_id)) is not None:
            found[split_id] = split
    return found


def own_splits(source: Source[Any], splits: Iterable[Split], subtask: int, parallelism: int) -> list[Split]:
    """Those that the subtask reads, in the order of their ids: by position in it, unless the source says whose each
    is."""
    own: list[Split] = []
    for position, split in enumerate(sorted(splits, key=lambda split: split.id)):
        owner = source.subtask_of(split, parallelism)
        if (position % parallelism if owner is None else owner) == subtask:
            own.append(split)
    return own


def has_ended(source: Source[Any], split: Split, offsets: Offsets) -> bool:
    """Whether the split had been read to its end, and the source doesn't say that it goes on."""
    offset, exhausted = offsets.get(split.id, (None, False))
    return exhausted and not source.resumes(split, offset)
