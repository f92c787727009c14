"""What a subtask does about barriers: performs what `runtime.alignment` decides.

Captures the chain's state, sends the barrier on, records what is in flight, and hands all to the `SnapshotWriter`. An
aligned capture waits until the outputs have been drained. An unaligned one never waits; it is made between two batches,
also while the subtask waits for credit, since backpressure is what it is for.
"""

from __future__ import annotations

from functools import partial

from streamcore.batch import Batch
from streamcore.batch.codec import encode_saved
from streamcore.runtime.chain import Chain
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.edges import edge_name, incoming, outgoing, receivers
from streamcore.runtime.elements import Barrier, Mode, Savepoint
from streamcore.runtime.gate import Gate
from streamcore.runtime.output import Outputs, Target
from streamcore.runtime.recording import RecordedChannel, Recording, Recordings
from streamcore.runtime.services import Services
from streamcore.runtime.snapshot_writer import Captured, SnapshotWriter
from streamcore.runtime.spec import JobSpec, VertexSpec


class Barriers:
    """The checkpoints of one subtask. Tell it of barriers, triggers and ends, then let it `perform`."""

    def __init__(
        self,
        job: JobSpec,
        vertex: VertexSpec,
        index: int,
        chain: Chain,
        gate: Gate,
        outputs: Outputs,
        snapshots: SnapshotWriter,
        services: Services,
    ) -> None:
        self._alignment = gate.alignment
        self._chain = chain
        self._gate = gate
        self._outputs = outputs
        self._snapshots = snapshots
        self._services = services
        self._clock = services.clock
        self._allow_pickle = job.settings.allow_pickle
        channels = incoming(job, vertex.id, index)
        names = {edge.id: edge_name(job, edge) for edge in job.edges if vertex.id in (edge.source, edge.target)}
        counts = [sum(other is edge for other, _ in channels) for edge, _ in channels]
        self._senders = [
            (names[edge.id], sender, count) for (edge, sender), count in zip(channels, counts, strict=True)
        ]
        self._receivers = [(names[edge.id], receivers(job, edge, index)) for edge in outgoing(job, vertex.id)]
        self._draining_for: int | None = None
        self._captured: Captured | None = None
        self._recordings: Recordings | None = None
        self._aligning: int | None = None
        self._aligning_since = 0.0
        self._alignment_s = 0.0
        self._pause_s = 0.0
        self.last_captured = 0
        self.is_finished = False
        """Whether the operators have finished, and only what they emitted waits to be sent."""

    # --- what happened -------------------------------------------------------------------------------------

    def heed(self) -> None:
        """Looks at the barriers and ends that have arrived in the channels."""
        marks = self._gate.marks
        for number, mark in marks:
            if isinstance(mark, Barrier):
                self._snapshots.announce(mark.checkpoint_id, mark.savepoint)
                self._alignment.arrives(number, mark.checkpoint_id, mark.mode)
            else:
                self._alignment.end_arrives(number)
        marks.clear()
        self._follow()

    def barrier(self, channel: InputChannel, barrier: Barrier) -> None:
        """A barrier's turn has come."""
        self._snapshots.announce(barrier.checkpoint_id, barrier.savepoint)
        self._alignment.barrier(channel.number, barrier.checkpoint_id, barrier.mode)
        self._follow()

    def trigger(self, checkpoint_id: int, mode: Mode, savepoint: Savepoint | None = None) -> None:
        """The coordinator asks for a snapshot."""
        self._snapshots.announce(checkpoint_id, savepoint)
        self._alignment.trigger(checkpoint_id, mode)
        self._follow()

    def end(self, channel: InputChannel) -> None:
        """A channel has ended."""
        self._alignment.end(channel.number)
        if channel.recording is not None:
            channel.recording.close()

    def abort(self, checkpoint_id: int) -> None:
        """The coordinator has given a checkpoint up."""
        self._alignment.abort(checkpoint_id)
        self._snapshots.abort(checkpoint_id)
        if self.last_captured <= checkpoint_id:
            self._give_up()
        self._follow()
        self._gate.refresh()  # what was held for it is read again

    # --- what is due ---------------------------------------------------------------------------------------

    async def perform(self) -> None:
        """Does what is due, when the outputs have been drained if that has to be waited for."""
        drained_for = None
        due = self._alignment.capture_due
        if due is not None and not self._alignment.overtakes:
            self._chain.before_barrier()
            self._outputs.flush()
            self._alignment_s = self._clock.monotonic() - self._aligning_since
            self._draining_for = due
            is_drained = await self._outputs.drain()
            self._draining_for = None
            drained_for = due if is_drained else None
        self.perform_at_rest(drained_for)

    def perform_at_rest(self, drained_for: int | None = None) -> None:
        """Does what is due and needs no waiting, or is that for which the outputs have been drained."""
        self.heed()
        alignment = self._alignment
        due = alignment.capture_due
        if due is not None and (alignment.overtakes or due == drained_for):
            self._capture(due)
        if alignment.complete_due is not None:
            self._complete(alignment.complete_due)
        self._gate.refresh()

    @property
    def drains_in_vain(self) -> bool:
        """Whether the outputs are being drained for a capture that is no longer due, or has been made."""
        return self._draining_for is not None and self._draining_for != self._alignment.capture_due

    def _follow(self) -> None:
        """Takes the time when a checkpoint begins here, and drops what was kept for one that it has superseded."""
        current = self._alignment.current
        if current is not None and current != self._aligning:
            self._aligning, self._aligning_since = current, self._clock.monotonic()
            self._give_up()

    def _give_up(self) -> None:
        """Drops what was captured or recorded for a checkpoint that can't be completed any more."""
        if self._recordings is not None:
            self._recordings.give_up()
        self._captured = self._recordings = None

    def _capture(self, checkpoint_id: int) -> None:
        mode = self._alignment.mode
        if mode is Mode.UNALIGNED and not self.is_finished:
            self._chain.before_barrier()
        self._outputs.flush()
        started = self._clock.monotonic()
        if mode is Mode.UNALIGNED:
            self._alignment_s = started - self._aligning_since
        base = self._snapshots.base(checkpoint_id)
        self._captured = self._chain.capture(checkpoint_id, since=base)
        self.last_captured = checkpoint_id
        # inputs first: the barrier arrives at once where a channel leads from here to here
        inputs = [self._record_input(checkpoint_id, number) for number in self._alignment.captured()]
        overtaken = self._outputs.send_ahead(Barrier(checkpoint_id, mode, self._snapshots.savepoint(checkpoint_id)))
        self._recordings = Recordings(inputs, [self._record_output(checkpoint_id, *which) for which in overtaken])
        self._pause_s = self._clock.monotonic() - started
        self._snapshots.begin(checkpoint_id, self._captured, base)

    def _complete(self, checkpoint_id: int) -> None:
        assert self._captured is not None, "a snapshot is complete that was not captured"
        assert self._recordings is not None, "a snapshot is complete without its recordings"
        in_flight = partial(self._recordings.saved, self._clock, self._services.copying_turn_s)
        self._snapshots.write(
            checkpoint_id, self._captured, in_flight, self._alignment_s, self._pause_s, finished=self.is_finished
        )
        self._captured = None
        self._alignment.completed()

    def _record_input(self, checkpoint_id: int, number: int) -> RecordedChannel:
        channel = self._gate.channels[number]
        is_open = not self._alignment.has_arrived(number)
        recording = Recording(checkpoint_id, channel.waiting(), self._encode, is_open=is_open)
        channel.recording = recording
        return RecordedChannel(*self._senders[number], recording, partial(_detach, channel, recording))

    def _record_output(self, checkpoint_id: int, edge: int, position: int, target: Target) -> RecordedChannel:
        recording = Recording(checkpoint_id, target.ready, self._encode)
        target.recording = recording
        name, peers = self._receivers[edge]
        return RecordedChannel(name, peers[position], len(peers), recording, partial(_detach, target, recording))

    def _encode(self, batch: Batch) -> tuple[int, bytes]:
        form, body = encode_saved(batch, allow_pickle=self._allow_pickle)
        return int(form), body


def _detach(holder: InputChannel | Target, recording: Recording) -> None:
    if holder.recording is recording:
        holder.recording = None
