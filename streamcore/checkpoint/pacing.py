"""When the next checkpoint may begin."""

from __future__ import annotations


def earliest_start(begun_s: float, ended_s: float, interval_s: float, min_pause_s: float) -> float:
    """When a checkpoint may begin after one that was taken, or given up, from `begun_s` to `ended_s`; seconds of one
    clock.

    One that took longer than the interval is followed by a whole interval without: where storage is slow, the stream
    and the storage get as much time without checkpoints as was planned between two.
    """
    took_longer = ended_s - begun_s > interval_s
    return ended_s + max(min_pause_s, interval_s if took_longer else 0.0)
