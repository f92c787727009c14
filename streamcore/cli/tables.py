"""Plain tables for the command line; nothing is cut off, so that they can be piped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from streamcore.checkpoint.log import Entry


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def checkpoint_table(entries: Sequence[Entry], latest: int | None) -> str:
    """Complete checkpoints, one a row; `latest` is marked."""
    rows = [["ID", "WHEN", "JOB", "OPERATORS", "SUBTASKS", "SIZE", "EPOCH", ""]]
    rows += [
        [
            str(entry.checkpoint_id),
            f"{datetime.fromtimestamp(entry.created_ms / 1000, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S}",
            entry.job,
            str(len(entry.operators)),
            str(len(entry.subtasks)),
            size(entry.size_bytes),
            str(entry.epoch),
            "← --restore latest" if entry.checkpoint_id == latest else "",
        ]
        for entry in entries
    ]
    return table(rows)


def size(count: float) -> str:
    """`512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
