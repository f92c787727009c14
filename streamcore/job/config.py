"""How a job is run: everything that isn't the topology."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

from streamcore.job.restart import ExponentialDelay, NoRestart, RestartPolicy

StopMode = Literal["snapshot", "drain"]
Control = Literal["off", "on", "required"]


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Where and how often snapshots are taken.

    Attributes:
        url: a directory, or any fsspec URL.
        interval: seconds between the starts of two checkpoints.
        timeout: seconds after which a checkpoint is given up.
        retain: how many complete checkpoints are kept.
        tolerable_failures: how many in a row may fail before the attempt is failed.
        allow_pickle: saves values that have no plain form with pickle; only for a directory that nobody
            else can write to.
    """

    url: str
    interval: float = 10.0
    timeout: float = 600.0
    retain: int = 3
    tolerable_failures: int = 2
    allow_pickle: bool = False


@dataclass(slots=True)
class RunConfig:
    """One run of a job.

    Attributes:
        restore: `"latest"`, a checkpoint's directory, or None to start afresh.
        restart: None chooses by whether there is checkpointing: ExponentialDelay or NoRestart.
        heartbeat_timeout: seconds of silence after which a worker process counts as lost.
        control: whether the job can be asked by other processes of this user; see `streamcore.connect`. `required`: it
            doesn't start where that can't be had.
    """

    workers: int = 1
    checkpointing: Checkpointing | None = None
    restore: str | None = None
    restart: RestartPolicy | None = None
    heartbeat_timeout: float = 60.0
    on_stop: StopMode = field(default="snapshot")
    control: Control = "off"

    def restart_policy(self) -> RestartPolicy:
        """The policy in force, with no failure counted yet."""
        if self.restart is not None:
            return copy.deepcopy(self.restart)
        return ExponentialDelay() if self.checkpointing else NoRestart()
