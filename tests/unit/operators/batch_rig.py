"""Runs a keyed BatchFunction without a job: feed it, move its time, take its snapshot and go on from it."""

from streamcore import Columns
from streamcore.batch import to_columns


class Rig:
    """A function, what it has emitted, and the state it has declared. `snapshot`: from another rig's `snapshot()`."""

    def __init__(self, function, snapshot=None):
        self.watermark, self._saved = snapshot or (None, {})
        self._function, self._states = function, {}
        self.emitted, self.late = [], []
        function.open(self)

    def feed(self, rows, schema):
        self._function.process(to_columns(rows, schema), self)

    def advance(self, time_ms):
        self.watermark = time_ms
        self._function.on_watermark(time_ms, self)

    def take(self):
        """What has been emitted since the last call, as sorted tuples."""
        taken, self.emitted = self.emitted, []
        return sorted(tuple(row) for columns in taken for row in columns.to_rows())

    def snapshot(self):
        return self.watermark, {name: state.capture() for name, state in self._states.items()}

    # what the function sees of its Context

    def table_state(self, descriptor):
        self._states[descriptor.name] = descriptor
        if descriptor.name in self._saved:
            descriptor.restore(self._saved[descriptor.name])

    def emit_batch(self, columns: Columns):
        self.emitted.append(columns)

    def side_output_batch(self, tag, columns: Columns):
        self.late += [tuple(row) for row in columns.to_rows()]
