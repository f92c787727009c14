"""What a subtask counts while it works; plain numbers, read by `streamcore.metrics`."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamcore.runtime.latency import LatencyHistogram


@dataclass(slots=True)
class Counters:
    """Totals of one subtask in one attempt; times in seconds."""

    records_in: int = 0
    records_out: int = 0
    bad_records: int = 0
    late_records: int = 0
    bad_times: int = 0
    waiting_for: tuple[str, ...] = ()
    """The services that operators wait for, because they can't be reached."""
    idle_s: float = 0.0
    backpressured_s: float = 0.0
    running_s: float = 0.0
    queued: int = 0
    feedback_queued: int = 0
    watermark_ms: int | None = None
    """How far event time has come here; None: there is none yet."""
    watermark_lag_s: float | None = None
    """How far that is behind the clock."""
    time_idle: bool = False
    """Whether all inputs are idle, so that this subtask doesn't hold back time."""
    drift_s: float | None = None
    """How far a source's furthest split is ahead of its alignment group; None: in no group, or alone."""
    held_s: float = 0.0
    """Time in which alignment kept a source from reading a split."""
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    """From the source to here, of the latency markers that came by."""

    @property
    def waiting(self) -> bool:
        """Whether an operator waits for a service."""
        return bool(self.waiting_for)

    @property
    def watermark_s(self) -> float | None:
        """Event time in seconds since 1970."""
        return None if self.watermark_ms is None else self.watermark_ms / 1000

    @property
    def busy_s(self) -> float:
        """Time spent neither waiting for input nor for credit."""
        return max(0.0, self.running_s - self.idle_s - self.backpressured_s)
