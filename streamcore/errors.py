"""Every error that streamcore raises for a reason a user can act on.

::

    StreamcoreError                     what happened, where, what to do; `exit_code` for the command line
    ├── UsageError                 (2)  a wrong option, an unknown setting, an unknown target
    │   ├── TopologyError          (2)  the graph is wrong; names the operator and the user's line
    │   ├── UnknownJobError        (2)  no running job has that name, or several have
    │   └── UnknownStateError      (2)  a running job has no such operator or state
    ├── DataError                  (3)  input or output that can't be used
    │   ├── BadRecordError         (3)  one malformed record: file, line or offset, the text
    │   └── ConnectorError         (3)  a missing file, a truncated file, an output in the way
    ├── CheckpointError            (4)  anything about snapshots
    │   ├── NoCheckpointError      (4)  nothing to restore from
    │   ├── DamagedCheckpointError (4)  a file is missing or its checksum is wrong
    │   ├── IncompatibleSnapshotError (4)  the snapshot belongs to another topology
    │   ├── FencedError            (4)  another run of the job took over
    │   ├── SavepointError         (4)  a savepoint that was asked for and could not be taken
    │   └── StateCodecError        (4)  a state value that can't be saved
    ├── MachineError               (5)  a port in use, a directory that can't be written, a wrong secret
    │   ├── HandshakeError         (5)  a process that doesn't know the job's secret
    │   └── JobUnavailableError    (5)  a running job that can't be asked just now
    └── JobFailedError             (1)  the job failed and its restart policy gave up
        └── UserFunctionError      (1)  the user's function raised; its own traceback is kept
"""

from __future__ import annotations


class StreamcoreError(Exception):
    """Base of all errors with a clear message: what happened, where, and what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.__dict__))


def _rebuild(cls: type[StreamcoreError], message: str, hint: str, attributes: dict[str, object]) -> StreamcoreError:
    error = cls.__new__(cls)
    StreamcoreError.__init__(error, message, hint=hint)
    error.__dict__.update(attributes)
    return error


class UsageError(StreamcoreError):
    """A wrong option, setting or target on the command line or in the environment's arguments."""

    exit_code = 2


class TopologyError(UsageError):
    """The graph is wrong; raised while it is built, before anything runs."""


class UnknownJobError(UsageError):
    """No running job has that name, or several have."""


class UnknownStateError(UsageError):
    """A running job has no such operator, or the operator no such state."""


class DataError(StreamcoreError):
    """Input or output that can't be used."""

    exit_code = 3


class BadRecordError(DataError):
    """One malformed record; the message has its file, line or offset and the (shortened) text."""


class ConnectorError(DataError):
    """A source or sink can't be opened, read or written."""


class CheckpointError(StreamcoreError):
    """Anything about snapshots: writing, reading, restoring."""

    exit_code = 4


class NoCheckpointError(CheckpointError):
    """There is no complete checkpoint to restore from."""


class DamagedCheckpointError(CheckpointError):
    """A file of a checkpoint is missing, truncated or fails its checksum."""


class IncompatibleSnapshotError(CheckpointError):
    """The snapshot was taken by another topology."""


class FencedError(CheckpointError):
    """Another run of the same job has taken over the checkpoint directory."""


class SavepointError(CheckpointError):
    """A savepoint that was asked for could not be taken; the job goes on."""


class StateCodecError(CheckpointError):
    """A value in state or in flight that has no safe encoding."""


class MachineError(StreamcoreError):
    """The machine is in the way: a port in use, a directory that can't be written, a socket that is gone."""

    exit_code = 5


class HandshakeError(MachineError):
    """The other side of a connection doesn't know the job's secret."""


class JobUnavailableError(MachineError):
    """A job that can't be asked just now: it restarts, has ended meanwhile, or doesn't answer."""


class JobFailedError(StreamcoreError):
    """The job failed and its restart policy gave up."""


class UserFunctionError(JobFailedError):
    """A user's function raised. `traceback_text` is the traceback from the user's own code."""

    def __init__(self, message: str, *, hint: str = "", traceback_text: str = "") -> None:
        super().__init__(message, hint=hint)
        self.traceback_text = traceback_text
