"""Readers are told which of their offsets are in a completed checkpoint, also when their split has ended."""

from streamcore import Checkpointing, StreamEnvironment
from streamcore.connectors.base import Source, Split, SplitReader


class Slow(Source):
    """Two splits of 3 and of 30 numbers, one a poll."""

    def __init__(self, log):
        self.log = log

    def splits(self):
        return [Split("a", 3), Split("b", 30)]

    def reader(self, split, offset, context):
        return SlowReader(split, self.log, context)


class SlowReader(SplitReader):
    def __init__(self, split, log, context):
        self.offset = 0
        self.split, self.log, self.now = split, log, context.now
        self.next_at = 0.0

    def poll(self, limit):
        if self.now() < self.next_at:
            self.wake_at = self.next_at
            return None
        self.next_at = self.now() + 0.005
        self.offset += 1
        self.exhausted = self.offset == self.split.info
        return [self.offset]

    def committed(self, offset):
        self.log.append((self.split.id, offset))

    def close(self):
        self.log.append((self.split.id, "closed"))


def test_readers_are_told_of_every_completed_checkpoint_and_of_their_end_once(tmp_path):
    log = []
    env = StreamEnvironment(checkpoint=Checkpointing(str(tmp_path), interval=0.01))
    env.source(Slow(log)).print()
    env.execute()
    for split, end in (("a", 3), ("b", 30)):
        of_it = [entry for name, entry in log if name == split]
        told = [entry for entry in of_it if entry != "closed"]
        assert told == sorted(told)
        assert told.count(end) == 1
        assert told[-1] == end
        assert of_it.index("closed") < of_it.index(end)
