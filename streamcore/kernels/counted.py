"""Windows by count in compiled code: the running number of each record within its key, and the windows it completes.

The records of a key are cut into slices of `gcd(size, every)` records. Of each key the last `size / slice` slices are
kept in a ring; the slices that a batch touches are *rows* until its end, so that a key may complete any number of
windows in it.
"""

from __future__ import annotations

from typing import Any

from streamcore.kernels.compile import kernel

ROW_SLOT, ROW_SLICE, ROW_BEFORE, ROW_BEGUN = range(4)


@kernel
def number(
    slots: Any, seen: Any, slice_size: Any, every: Any, row_of: Any, rows: Any, touched: Any, completed: Any
) -> Any:
    """Gives each record the row of its slice.

    Args:
        slots: of the records' keys, int64 (n,).
        seen: how many records each slot has had; int64, is moved on.
        row_of: int64 by slot, all -1; left so again.
        rows: receives the row of each record; int64 (n,).
        touched: receives of each row the slot, the slice's number, the key's row before it (-1: none in this batch),
            and whether the slice was begun in an earlier batch; int64 (n, 4).
        completed: receives the row in which each window ends, in the order in which they are completed; int64 (n,).

    Returns:
        (rows, windows): how many there are of each.
    """
    count = windows = 0
    for i in range(len(slots)):
        slot = slots[i]
        number = seen[slot]
        row = row_of[slot]
        begins = number % slice_size == 0
        if begins or row < 0:
            line = touched[count]
            line[ROW_SLOT], line[ROW_SLICE], line[ROW_BEFORE] = slot, number // slice_size, row
            line[ROW_BEGUN] = 0 if begins else 1
            row = count
            row_of[slot] = row
            count += 1
        rows[i] = row
        seen[slot] = number + 1
        if (number + 1) % every == 0:
            completed[windows] = row
            windows += 1
    for row in range(count):
        row_of[touched[row, ROW_SLOT]] = -1
    return count, windows


@kernel
def slices_of(completed: Any, touched: Any, slices: Any, kept_for: Any, kept: Any, rows_for: Any, rows: Any) -> Any:
    """The slices of which windows consist, oldest first.

    Args:
        completed: the rows in which the windows end; int64 (w,).
        touched: as `number` gave it.
        slices: how many a window has, and a key's ring keeps.
        kept_for, kept: receive the window and the place of each slice that is in a ring; int64 (w * slices,).
        rows_for, rows: receive the window and the row of each slice that is a row; int64 (w * slices,).

    Returns:
        (kept, rows): how many there are of each.
    """
    kept_count = row_count = 0
    for window in range(len(completed)):
        row = completed[window]
        slot, last = touched[row, ROW_SLOT], touched[row, ROW_SLICE]
        first = max(last - slices + 1, 0)
        newest_kept, from_rows = last, 0
        while row >= 0 and newest_kept >= first:
            row = touched[row, ROW_BEFORE]
            newest_kept -= 1
            from_rows += 1
        for number in range(first, newest_kept + 1):
            kept_for[kept_count], kept[kept_count] = window, slot * slices + number % slices
            kept_count += 1
        row = completed[window]
        for back in range(from_rows):
            place = row_count + from_rows - 1 - back
            rows_for[place], rows[place] = window, row
            row = touched[row, ROW_BEFORE]
        row_count += from_rows
    return kept_count, row_count
