"""How a job is run: everything that isn't the topology."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

from streamcore.connectors.base import JobStart
from streamcore.errors import UsageError
from streamcore.job.restart import ExponentialDelay, NoRestart, RestartPolicy
from streamcore.runtime.elements import Mode

StopMode = Literal["snapshot", "drain"]
Control = Literal["off", "on", "required"]
CheckpointMode = Literal["exactly-once", "at-least-once"]


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Where and how often snapshots are taken.

    Attributes:
        url: a directory, or any fsspec URL.
        interval: seconds between the starts of two checkpoints.
        min_pause: seconds without a checkpoint after each one, however long it took. One that took longer than the
            interval is followed by a whole interval anyway.
        timeout: seconds after which a checkpoint is given up.
        retain: how many complete checkpoints are kept.
        tolerable_failures: how many in a row may fail before the attempt is failed.
        allow_pickle: saves values that have no plain form with pickle; only for a directory that nobody
            else can write to.
        mode: with `"at-least-once"`, subtasks read on while they wait for barriers: nothing is lost, but after a
            restore some records may count twice.
        unaligned: barriers overtake the records that wait in queues, which become part of the snapshot, so that
            checkpoints don't take longer where a slow operator holds up the stream.
        aligned_timeout: seconds after which a checkpoint that was begun aligned becomes unaligned; None: never.
        fallback: where the newest checkpoint turns out to be damaged, goes on from the next older whole one, when the
            job starts with `restore="latest"` and when it restarts by itself. What was written to sinks after it is
            then written again.

    Raises:
        UsageError: the mode is unknown, or these don't go together.
    """

    url: str
    interval: float = 10.0
    timeout: float = 600.0
    retain: int = 3
    tolerable_failures: int = 2
    allow_pickle: bool = False
    mode: CheckpointMode = "exactly-once"
    unaligned: bool = False
    aligned_timeout: float | None = None
    fallback: bool = False
    min_pause: float = 0.0

    def __post_init__(self) -> None:
        if self.min_pause < 0:
            raise UsageError(f"min_pause is {self.min_pause:g} s", hint="0, or the seconds between two checkpoints")
        if self.mode not in ("exactly-once", "at-least-once"):
            raise UsageError(f"there is no checkpoint mode {self.mode!r}", hint="use exactly-once or at-least-once")
        if self.mode == "at-least-once" and (self.unaligned or self.aligned_timeout is not None):
            raise UsageError(
                f"{'unaligned' if self.unaligned else 'aligned_timeout'} doesn't go with at-least-once, "
                "where nobody waits for barriers while records wait",
                hint="leave it out, or take mode exactly-once",
            )
        if self.aligned_timeout is not None and not 0 <= self.aligned_timeout < self.timeout:
            raise UsageError(
                f"aligned_timeout is {self.aligned_timeout:g} s: it must be from 0 to below the checkpoint's timeout, "
                f"{self.timeout:g} s",
                hint="0, or unaligned=True, overtakes from the beginning",
            )

    @property
    def begins(self) -> Mode:
        """The mode in which a checkpoint begins."""
        if self.mode == "at-least-once":
            return Mode.AT_LEAST_ONCE
        at_once = self.aligned_timeout == 0 or (self.unaligned and self.aligned_timeout is None)
        return Mode.UNALIGNED if at_once else Mode.ALIGNED


@dataclass(slots=True)
class RunConfig:
    """One run of a job.

    Attributes:
        restore: `"latest"`, a checkpoint's directory, or None to start afresh.
        restart: None chooses by whether there is checkpointing: ExponentialDelay or NoRestart.
        allow_dropped_state: drops what a restored snapshot has for operators, states and back edges that the topology
            no longer has, with a warning for each, instead of refusing it.
        heartbeat_timeout: seconds of silence after which a worker process counts as lost.
        control: whether the job can be asked by other processes of this user; see `streamcore.connect`. `required`: it
            doesn't start where that can't be had.
    """

    workers: int = 1
    checkpointing: Checkpointing | None = None
    restore: str | None = None
    restart: RestartPolicy | None = None
    allow_dropped_state: bool = False
    heartbeat_timeout: float = 60.0
    on_stop: StopMode = field(default="snapshot")
    control: Control = "off"

    def restart_policy(self) -> RestartPolicy:
        """The policy in force, with no failure counted yet."""
        if self.restart is not None:
            return copy.deepcopy(self.restart)
        return ExponentialDelay() if self.checkpointing else NoRestart()

    def job_start(self, job: str, *, restored: bool) -> JobStart:
        """What sinks are told before the first attempt."""
        kept = self.checkpointing
        return JobStart(restored, job, kept.interval if kept else None, kept.timeout if kept else None)
