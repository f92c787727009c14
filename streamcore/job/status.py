"""What is known of a running job, for the progress line, the metrics endpoint and the result."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamcore.runtime.counters import Counters
from streamcore.runtime.messages import Subtask
from streamcore.runtime.spec import JobSpec


@dataclass(slots=True)
class CheckpointStats:
    """One complete checkpoint; times in seconds. `in_flight_bytes`: what of its size is records in flight."""

    checkpoint_id: int
    duration_s: float
    size_bytes: int
    alignment_s: float
    pause_s: float
    in_flight_bytes: int = 0


@dataclass(slots=True)
class JobStatus:
    """The job as it stands."""

    job: JobSpec
    state: str = "starting"
    epoch: int = 0
    restarts: int = 0
    checkpoints: int = 0
    checkpoint_failures: int = 0
    last_checkpoint: CheckpointStats | None = None
    savepoints: int = 0
    last_savepoint: str | None = None
    counters: dict[Subtask, Counters] = field(default_factory=dict)

    @property
    def records_read(self) -> int:
        """Records that the sources have read in this attempt."""
        sources = {vertex.id for vertex in self.job.vertices if vertex.is_source}
        return sum(counters.records_in for (vertex, _), counters in self.counters.items() if vertex in sources)

    @property
    def is_waiting(self) -> bool:
        """Whether a source or sink waits for a service that can't be reached."""
        return any(counters.waiting_for for counters in self.counters.values())

    @property
    def bad_records(self) -> int:
        """Malformed records that were skipped or sent aside in this attempt."""
        return sum(counters.bad_records for counters in self.counters.values())


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a run ended.

    Attributes:
        records_read: by the sources, in the last attempt.
        duration_s: seconds from the beginning to the end, workers started and stopped included.
        start_s: seconds of these until the first record could be read: workers up, connected, state restored, compiled
            code loaded, every operator open. Of the first attempt.
        run_s: seconds from there until every subtask had closed: restarts are in it, stopping the workers is not.
        stopped: on request, before the input's end.
        last_checkpoint: where to restore from.
        savepoint: the one that the job was stopped with; also where to restore from.
    """

    job: str
    records_read: int
    duration_s: float
    start_s: float
    run_s: float
    restarts: int
    checkpoints: int
    stopped: bool
    last_checkpoint: str | None
    savepoint: str | None = None
