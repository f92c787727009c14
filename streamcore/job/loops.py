"""The loops of one attempt, as the coordinator follows them to their end: which wave to send, when, and who is over."""

from __future__ import annotations

from streamcore.job.termination import LoopTermination
from streamcore.runtime.messages import LoopOver, OutsideEnded, Wave, WaveReply
from streamcore.runtime.spec import JobSpec

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.001, 0.05


class LoopWatch:
    """All loops of a job. Answers with the message to send to all workers."""

    def __init__(self, job: JobSpec, epoch: int) -> None:
        self._epoch = epoch
        self._detectors: dict[int, LoopTermination] = {}
        self._pauses_s: dict[int, float] = {}
        for loop in sorted({vertex.loop for vertex in job.vertices if vertex.loop is not None}):
            members = [
                (vertex.id, index)
                for vertex in job.vertices
                if vertex.loop == loop
                for index in range(vertex.parallelism)
            ]
            self._detectors[loop] = LoopTermination(members)
            self._pauses_s[loop] = _FIRST_PAUSE_S

    def outside_ended(self, ended: OutsideEnded) -> Wave | None:
        """A subtask on a loop has seen the end of its inputs from outside; the last one starts the first wave."""
        return self.wave(ended.loop) if self._detectors[ended.loop].outside_ended(ended.subtask) else None

    def wave(self, loop: int) -> Wave:
        """The next wave."""
        return Wave(self._epoch, loop, self._detectors[loop].start_wave())

    def reply(self, reply: WaveReply) -> LoopOver | float | None:
        """A subtask's reply: after the last one of a wave, that the loop is over, or the pause in seconds before the
        next wave."""
        detector = self._detectors[reply.loop]
        if not detector.reply(reply.number, reply.subtask, reply.sent, reply.received, passive=reply.passive):
            return None
        if detector.is_over:
            return LoopOver(self._epoch, reply.loop)
        pause_s = self._pauses_s[reply.loop]
        self._pauses_s[reply.loop] = min(2 * pause_s, _LAST_PAUSE_S)
        return pause_s
