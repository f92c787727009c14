"""Sessions in compiled code: which session a record belongs to, what merges, and which sessions are due.

A session is an entry of `SESSION`. Those of one key are linked, the latest first; they neither overlap nor touch. Every
entry stands in one bucket of a calendar, by the time at which it must be looked at, round and round like a timing
wheel (Varghese and Lauck 1987). A record that extends its session leaves it in its bucket: when the time comes, and the
session has a later end by then, it moves on. So a record costs the calendar nothing, and a watermark costs what is due.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel

SESSION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "start",  # of the session, milliseconds
            "end",  # its end, exclusive: the latest record and the gap
            "slot",  # the key
            "older",  # the key's session before it, -1: none
            "ahead",  # the neighbours in the calendar's bucket, -1: none
            "behind",
            "bucket",
            "phase",  # within one call of `assign`: how often it has been merged or fired
        )
    ]
)
"""One cache line."""

MERGE_FROM, MERGE_INTO, MERGE_PHASE = range(3)
FIRE_ENTRY, FIRE_PHASE, FIRE_RECORD, FIRE_START, FIRE_END = range(5)
USED, FREE, ADDED, MERGED, FIRED, LATE = range(6)


@kernel
def assign(
    times: Any, slots: Any, gap: Any, lateness: Any, watermark: Any,
    sessions: Any, heads: Any, calendar: Any, width: Any, free: Any,
    entries: Any, phases: Any, added: Any, merges: Any, fires: Any, counts: Any,
) -> None:  # fmt: skip
    """Puts records into sessions one after the other, by the rules of Apache Flink: a record opens [time, time + gap),
    which merges with what it overlaps or touches; what is over by more than `lateness` then is late.

    What happens to the values of sessions is written down, to be done for the whole batch: within a phase first records
    are added, then sessions fire, then sessions merge. Entries that were merged into others are not given out again
    within the call.

    Args:
        times, slots: of the records, int64 (n,).
        gap, lateness, watermark: milliseconds.
        sessions: `SESSION`, with room for n more.
        heads: the latest session of each slot, int64; -1: none.
        calendar: the first entry of each bucket, int64 (a power of two).
        width: milliseconds of a bucket.
        free: entries that may be given out again; counts[FREE] of them.
        entries: receives the session of each record, -1: late; int64 (n,).
        phases: receives the phase in which each record is added; int64 (n,).
        added: receives the new entries; int64 (n,).
        merges: receives (from, into, phase); int64 (n, 3).
        fires: receives (entry, phase, record, start, end) of sessions that fire at once; int64 (n, 5).
        counts: how many there are of each, by USED to LATE; int64 (6,).
    """
    for i in range(len(times)):
        low, high, slot = times[i], times[i] + gap, slots[i]
        newer, entry = np.int64(-1), heads[slot]
        while entry >= 0 and sessions[entry].start > high:
            newer, entry = entry, sessions[entry].older
        if entry < 0 or sessions[entry].end < low:
            if high - 1 + lateness <= watermark:
                entries[i] = -1
                counts[LATE] += 1
                continue
            older = entry
            if counts[FREE] > 0:
                counts[FREE] -= 1
                entry = free[counts[FREE]]
            else:
                entry = counts[USED]
                counts[USED] += 1
            session = sessions[entry]
            session.start, session.end, session.slot, session.older, session.phase = low, high, slot, older, 0
            _hang_in(sessions, heads, slot, newer, entry)
            _file(sessions, calendar, width, entry, _look_at(high, lateness, watermark))
            added[counts[ADDED]] = entry
            counts[ADDED] += 1
        else:
            before = sessions[entry].end
            older = sessions[entry].older
            if older >= 0 and sessions[older].end >= low:  # the record closes the gap between two sessions
                phase = max(sessions[older].phase, sessions[entry].phase)
                merge = merges[counts[MERGED]]
                merge[MERGE_FROM], merge[MERGE_INTO], merge[MERGE_PHASE] = entry, older, phase
                counts[MERGED] += 1
                _hang_in(sessions, heads, slot, newer, older)
                _take_out(sessions, calendar, entry)
                before = sessions[older].end
                sessions[older].end = sessions[entry].end
                sessions[older].phase = phase + 1
                entry = older
            session = sessions[entry]
            session.start, session.end = min(session.start, low), max(session.end, high)
            if before - 1 <= watermark < session.end - 1:  # had fired, and is open again
                _take_out(sessions, calendar, entry)
                _file(sessions, calendar, width, entry, session.end - 1)
        session = sessions[entry]
        entries[i], phases[i] = entry, session.phase
        if session.end - 1 <= watermark:
            fire = fires[counts[FIRED]]
            fire[FIRE_ENTRY], fire[FIRE_PHASE], fire[FIRE_RECORD] = entry, session.phase, i
            fire[FIRE_START], fire[FIRE_END] = session.start, session.end
            counts[FIRED] += 1
            session.phase += 1


@kernel
def take_due(
    first: Any, count: Any, before: Any, watermark: Any, lateness: Any,
    sessions: Any, heads: Any, calendar: Any, width: Any, free: Any, free_count: Any, fired: Any,
) -> Any:  # fmt: skip
    """Moves event time from `before` to `watermark`: looks at `count` buckets of the calendar from `first` on.

    Args:
        fired: receives the sessions whose end has come, as many as there are.
        free: receives those that are over for good; what is in them stays readable until `assign` is called.

    Returns:
        (fired, free): how many there are of each.
    """
    fired_count = 0
    moving = np.int64(-1)  # filed when all buckets have been looked at, lest one is looked at twice
    for step in range(count):
        entry = calendar[(first + step) & (len(calendar) - 1)]
        while entry >= 0:
            session = sessions[entry]
            following = session.behind
            if before < session.end - 1 <= watermark:
                fired[fired_count] = entry
                fired_count += 1
            if session.end - 1 + lateness <= watermark:
                _take_out(sessions, calendar, entry)
                _leave_key(sessions, heads, entry)
                free[free_count] = entry
                free_count += 1
            elif _bucket(calendar, width, _look_at(session.end, lateness, watermark)) != session.bucket:
                _take_out(sessions, calendar, entry)
                session.behind = moving
                moving = entry
            entry = following
    while moving >= 0:
        following = sessions[moving].behind
        _file(sessions, calendar, width, moving, _look_at(sessions[moving].end, lateness, watermark))
        moving = following
    return fired_count, free_count


@kernel
def insert(
    slots: Any, starts: Any, ends: Any, lateness: Any, watermark: Any,
    sessions: Any, heads: Any, calendar: Any, width: Any,
) -> None:  # fmt: skip
    """Makes entry i of each session of a snapshot; nothing else is in the arrays."""
    for i in range(len(slots)):
        newer, older = np.int64(-1), heads[slots[i]]
        while older >= 0 and sessions[older].start > starts[i]:
            newer, older = older, sessions[older].older
        session = sessions[i]
        session.start, session.end, session.slot, session.older, session.phase = starts[i], ends[i], slots[i], older, 0
        _hang_in(sessions, heads, slots[i], newer, i)
        _file(sessions, calendar, width, i, _look_at(ends[i], lateness, watermark))


@kernel
def _look_at(end: Any, lateness: Any, watermark: Any) -> Any:
    """When a session must be looked at: when it ends; then, when nothing can be added any more."""
    return end - 1 if end - 1 > watermark else end - 1 + lateness


@kernel
def _hang_in(sessions: Any, heads: Any, slot: Any, newer: Any, entry: Any) -> None:
    if newer < 0:
        heads[slot] = entry
    else:
        sessions[newer].older = entry


@kernel
def _leave_key(sessions: Any, heads: Any, entry: Any) -> None:
    slot = sessions[entry].slot
    newer, other = np.int64(-1), heads[slot]
    while other != entry:
        newer, other = other, sessions[other].older
    _hang_in(sessions, heads, slot, newer, sessions[entry].older)


@kernel
def _bucket(calendar: Any, width: Any, time: Any) -> Any:
    return (time // width) & (len(calendar) - 1)


@kernel
def _file(sessions: Any, calendar: Any, width: Any, entry: Any, time: Any) -> None:
    bucket = _bucket(calendar, width, time)
    first = calendar[bucket]
    session = sessions[entry]
    session.bucket, session.ahead, session.behind = bucket, -1, first
    if first >= 0:
        sessions[first].ahead = entry
    calendar[bucket] = entry


@kernel
def _take_out(sessions: Any, calendar: Any, entry: Any) -> None:
    session = sessions[entry]
    if session.ahead < 0:
        calendar[session.bucket] = session.behind
    else:
        sessions[session.ahead].behind = session.behind
    if session.behind >= 0:
        sessions[session.behind].ahead = session.ahead
