"""A histogram of latencies in buckets of equal ratio, so that percentiles hold to 5 % from 1 µs to hours."""

from __future__ import annotations

import math

_PER_DOUBLING = 16
_LOWEST_S = 1e-6
_BUCKETS = 34 * _PER_DOUBLING


class LatencyHistogram:
    """Counts latencies in seconds."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        """Bucket number → how many; bucket n begins at 2 ** (n / 16) microseconds."""
        self.total_s = 0.0
        """The sum of all latencies."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatencyHistogram) and self.counts == other.counts and self.total_s == other.total_s

    __hash__ = None  # type: ignore[assignment]

    def add(self, latency_s: float) -> None:
        """Counts one latency; clocks that disagree can make it negative, which counts as zero."""
        ratio = max(latency_s / _LOWEST_S, 1.0)
        bucket = min(int(math.log2(ratio) * _PER_DOUBLING), _BUCKETS - 1)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total_s += max(latency_s, 0.0)

    def merge(self, other: LatencyHistogram) -> None:
        """Adds the counts of another histogram."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total_s += other.total_s

    def copy(self) -> LatencyHistogram:
        """The same counts, in an object of its own."""
        copied = LatencyHistogram()
        copied.counts, copied.total_s = dict(self.counts), self.total_s
        return copied

    def __len__(self) -> int:
        return sum(self.counts.values())

    def percentile(self, share: float) -> float:
        """The latency in seconds that `share` (0 to 1) of all stay below: the upper end of its bucket; 0.0 when
        there are none."""
        wanted, seen = share * len(self), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return float(_LOWEST_S * 2 ** ((bucket + 1) / _PER_DOUBLING))
        return 0.0
