"""Networks of subtasks that follow `runtime.alignment`, on any schedule: what a checkpoint has of a channel is exactly
what its sender had sent when it was captured, once and in order; and no schedule makes a checkpoint hang.

A model of its own: messages are numbers, channels are lists, outputs wait for room. On it run only the rules.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.runtime.alignment import Alignment
from streamcore.runtime.elements import Mode

ROOM = 2
CHAIN = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 4), (3, 4)], []
LOOP = [(0, 1), (0, 2)], [(1, 1), (1, 2), (2, 1), (2, 2)]  # two heads whose feedback is shuffled straight back
NESTED = [(0, 1), (1, 2), (2, 3)], [(2, 2), (3, 1)]


@dataclass(frozen=True)
class Barrier:
    number: int
    mode: Mode


@dataclass
class Channel:
    source: int
    target: int
    feedback: bool
    made: int = 0
    output: deque = field(default_factory=deque)
    queue: deque = field(default_factory=deque)
    processed: list = field(default_factory=list)

    def send(self) -> None:
        while self.output and (self.feedback or sum(isinstance(e, int) for e in self.queue) < ROOM):
            self.queue.append(self.output.popleft())


@dataclass
class Part:
    """What one subtask has of a checkpoint, by channel."""

    made: dict[int, int] = field(default_factory=dict)
    overtaken: dict[int, list] = field(default_factory=dict)
    processed: dict[int, list] = field(default_factory=dict)
    recorded: dict[int, list] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)


class Network:
    def __init__(self, graph, chance: random.Random, messages: int) -> None:
        forward, feedback = graph
        self.chance = chance
        self.channels = [Channel(*ends, False) for ends in forward] + [Channel(*ends, True) for ends in feedback]
        self.nodes = range(1 + max(max(ends) for ends in (*forward, *feedback)))
        self.alignments = [
            Alignment(
                [n for n, c in enumerate(self.channels) if c.target == node and not c.feedback],
                [n for n, c in enumerate(self.channels) if c.target == node and c.feedback],
            )
            for node in self.nodes
        ]
        self.sources = [node for node in self.nodes if all(c.target != node for c in self.channels)]
        self.left = messages
        self.parts: dict[tuple[int, int], Part] = {}
        self.complete: dict[int, dict[int, Part]] = {}
        self.mail: list[tuple[int, str, int, Mode]] = []
        """(subtask, what, checkpoint, mode): control messages on their way."""

    def inputs(self, node):
        return [n for n, c in enumerate(self.channels) if c.target == node]

    def outputs(self, node):
        return [n for n, c in enumerate(self.channels) if c.source == node]

    def send(self, node: int) -> None:
        for number in self.outputs(node):
            channel, before = self.channels[number], len(self.channels[number].queue)
            channel.send()
            for element in list(channel.queue)[before:]:
                self.arrived(number, element)

    def arrived(self, number: int, element) -> None:
        target = self.channels[number].target
        part = self.parts.get((target, self.alignments[target].current or 0))
        if part is not None and number in part.open:
            part.recorded[number].append(element)

    def make(self, node: int) -> None:
        """One message on one output, or none."""
        outputs = self.outputs(node)
        if outputs and self.left > 0:
            self.left -= 1
            channel = self.channels[self.chance.choice(outputs)]
            channel.made += 1
            channel.output.append(channel.made)

    def is_blocked(self, node: int) -> bool:
        return any(self.channels[number].output for number in self.outputs(node))

    def perform(self, node: int) -> None:
        alignment = self.alignments[node]
        due = alignment.capture_due
        if due is not None and (alignment.overtakes or not self.is_blocked(node)):
            self.capture(node, due)
        due = alignment.complete_due
        if due is not None:
            self.complete.setdefault(due, {})[node] = self.parts[node, due]
            alignment.completed()

    def capture(self, node: int, number: int) -> None:
        alignment, part = self.alignments[node], Part()
        self.parts[node, number] = part
        for channel in self.inputs(node):
            part.processed[channel] = list(self.channels[channel].processed)
        barrier = Barrier(number, alignment.mode)
        self.send(node)
        for channel in self.outputs(node):
            part.made[channel] = self.channels[channel].made
            part.overtaken[channel] = list(self.channels[channel].output)
        for channel in alignment.captured():
            recorded = part.recorded[channel] = []
            for element in self.channels[channel].queue:
                if isinstance(element, Barrier) and element.number >= number:
                    break
                recorded.append(element)
            else:
                part.open.add(channel)
        for channel in self.outputs(node):
            self.channels[channel].queue.append(barrier)
            target = self.channels[channel].target
            opened = self.parts.get((target, number))
            if opened is not None:
                opened.open.discard(channel)
            self.alignments[target].arrives(channel, number, barrier.mode)

    def step(self) -> bool:
        """One event by chance; false when nothing can happen any more."""
        events = [("mail", i) for i in range(len(self.mail))]
        for node in self.nodes:
            if self.is_blocked(node):
                if any(
                    c.output and (c.feedback or sum(isinstance(e, int) for e in c.queue) < ROOM)
                    for c in map(self.channels.__getitem__, self.outputs(node))
                ):
                    events.append(("send", node))
                if self.alignments[node].overtakes and self.alignments[node].capture_due is not None:
                    events.append(("perform", node))
                continue
            if self.alignments[node].capture_due is not None or self.alignments[node].complete_due is not None:
                events.append(("perform", node))
                continue
            if node in self.sources and self.left > 0:
                events.append(("make", node))
            events.extend(
                ("take", number)
                for number in self.inputs(node)
                if self.channels[number].queue and not self.alignments[node].holds(number)
            )
        if not events:
            return False
        what, which = self.chance.choice(events)
        if what == "mail":
            node, kind, number, mode = self.mail.pop(which)
            if kind == "abort":
                self.alignments[node].abort(number)
            else:
                self.alignments[node].trigger(number, mode)
            self.perform(node)
        elif what == "send":
            self.send(which)
            self.perform(which)
        elif what == "perform":
            self.perform(which)
        elif what == "make":
            self.make(which)
            self.send(which)
        else:
            self.take(which)
        return True

    def take(self, number: int) -> None:
        channel = self.channels[number]
        node, element = channel.target, channel.queue.popleft()
        if isinstance(element, Barrier):
            self.alignments[node].barrier(number, element.number, element.mode)
            self.perform(node)
        else:
            channel.processed.append(element)
            for _ in range(self.chance.choice([0, 1, 1, 2])):
                self.make(node)
            self.send(node)

    def trigger(self, number: int, mode: Mode) -> None:
        self.mail.extend((node, "trigger", number, mode) for node in self.nodes)

    def abort(self, number: int) -> None:
        self.mail.extend((node, "abort", number, Mode.ALIGNED) for node in self.nodes)

    def check(self, number: int, *, exactly: bool) -> None:
        parts = self.complete[number]
        for i, channel in enumerate(self.channels):
            sender, receiver = parts[channel.source], parts[channel.target]
            inherited = [e for e in receiver.recorded.get(i, []) if isinstance(e, int)] + sender.overtaken[i]
            has = [*receiver.processed[i], *inherited]
            sent = list(range(1, sender.made[i] + 1))
            if exactly:
                assert has == sent, f"channel {i}: sent {sent}, but the checkpoint has {has}"
            else:  # what is lost would be among what was sent; more may have been processed
                assert set(sent) <= set(has), f"channel {i}: sent {sent}, but the checkpoint has {has}"
            if channel.feedback:
                assert not sender.overtaken[i], "records of a back edge are saved by their sender"


def run(graph, chance: random.Random, mode: Mode, *, turns: bool = False, aborts: bool = False) -> int:
    network = Network(graph, chance, messages=chance.randint(0, 60))
    number, pending, running = 0, None, True
    while running:
        for _ in range(chance.randint(0, 25)):
            running = network.step()
        if pending is not None and len(network.complete.get(pending, ())) == len(network.nodes):
            network.check(pending, exactly=mode is not Mode.AT_LEAST_ONCE)
            pending = None
        if pending is None and number < 4:
            number = pending = number + 1
            network.trigger(number, mode)
            running = True
        elif pending is not None and turns and chance.random() < 0.3:
            network.trigger(pending, Mode.UNALIGNED)
            running = True
        elif pending is not None and aborts and chance.random() < 0.1:
            network.abort(pending)
            pending = None
            running = True
    assert pending is None, f"checkpoint {pending} hangs"
    assert not any(channel.queue or channel.output for channel in network.channels), "records hang"
    return number


@pytest.mark.parametrize("graph", [CHAIN, LOOP, NESTED], ids=["chain", "loop", "nested"])
@pytest.mark.parametrize("kind", ["aligned", "unaligned", "timeout", "at-least-once", "aborts"])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_checkpoint_has_each_channel_s_records_once_and_in_order(graph, kind, seed):
    modes = {"unaligned": Mode.UNALIGNED, "at-least-once": Mode.AT_LEAST_ONCE}
    mode = modes.get(kind, Mode.ALIGNED)
    run(graph, random.Random(seed), mode, turns=kind in ("timeout", "aborts"), aborts=kind == "aborts")


def found_by(seeds: int, graph, mode: Mode, *, turns: bool = False) -> bool:
    for seed in range(seeds):
        try:
            run(graph, random.Random(seed), mode, turns=turns)
        except AssertionError:
            return True
    return False


def test_the_model_finds_records_read_behind_a_barrier(monkeypatch):
    assert not found_by(100, LOOP, Mode.ALIGNED)
    monkeypatch.setattr(Alignment, "holds", lambda self, channel: False)
    assert found_by(100, LOOP, Mode.ALIGNED)


def test_the_model_finds_channels_that_are_not_recorded(monkeypatch):
    captured = Alignment.captured
    monkeypatch.setattr(Alignment, "captured", lambda self: captured(self) and [])
    assert found_by(100, CHAIN, Mode.UNALIGNED)
    assert found_by(100, LOOP, Mode.ALIGNED)


def test_the_model_finds_a_head_that_waits_for_its_feedback(monkeypatch):
    due = Alignment.capture_due.fget

    def waits(self):
        number = due(self)
        return number if number is not None and self._feedback <= self._marked | self._ended else None

    monkeypatch.setattr(Alignment, "capture_due", property(waits))
    assert found_by(20, LOOP, Mode.ALIGNED)


def test_the_model_finds_that_a_channel_held_at_the_timeout_is_recorded(monkeypatch):
    """What is behind a marked barrier is the sender's to make again."""
    captured = Alignment.captured

    def everything(self):
        captured(self)
        return sorted(self._all)

    monkeypatch.setattr(Alignment, "captured", everything)
    assert found_by(100, CHAIN, Mode.ALIGNED, turns=True)
