"""When a loop is over: never while a message is in flight, always in the end; simulated members, random schedules."""

from __future__ import annotations

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.job.termination import LoopTermination


class Members:
    """Members that pass messages on: each message has a number of hops left, and may be buffered before it goes."""

    def __init__(self, count, outside, rng):
        self.rng = rng
        self.names = [(1, i) for i in range(count)]
        self.channels = {(a, b): deque() for a in self.names for b in self.names}
        self.outside = {name: list(outside[i]) for i, name in enumerate(self.names)}
        self.buffered = {name: [] for name in self.names}
        self.held = {name: [] for name in self.names}  # taken from a channel, not processed yet
        self.sent = dict.fromkeys(self.names, 0)
        self.received = dict.fromkeys(self.names, 0)
        self.told = set()

    def is_passive(self, name):
        waits = any(self.channels[other, name] for other in self.names)
        return not (waits or self.buffered[name] or self.held[name] or self.outside[name])

    def is_over(self):
        return not any(self.channels.values()) and all(map(self.is_passive, self.names))

    def moves(self):
        result = [("outside", n) for n in self.names if self.outside[n]]
        result += [("end", n) for n in self.names if not self.outside[n] and n not in self.told]
        result += [("take", pair) for pair, queue in self.channels.items() if queue]
        result += [("process", n) for n in self.names if self.held[n]]
        result += [("send", n) for n in self.names if self.buffered[n]]
        return result

    def act(self, move, detector):
        """Makes a move; whether it was the last end of outside input."""
        kind, what = move
        if kind == "outside":
            self.buffered[what].append(self.outside[what].pop())
        elif kind == "end":
            self.told.add(what)
            return detector.outside_ended(what)
        elif kind == "take":
            self.received[what[1]] += 1
            self.held[what[1]].append(self.channels[what].popleft())
        elif kind == "process":
            hops = self.held[what].pop()
            self.buffered[what] += [hops - 1] * self.rng.choice([0, 1, 1, 2]) if hops else []
        else:
            self.channels[what, self.rng.choice(self.names)].append(self.buffered[what].pop())
            self.sent[what] += 1
        return False


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=n, max_size=n)),
    st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_never_too_early_and_never_never(outside, seed):
    rng = random.Random(seed)
    members = Members(len(outside), outside, rng)
    detector = LoopTermination(members.names)
    wave, asked, idle_waves = None, [], 0
    for _ in range(5000):
        moves = members.moves()
        if wave is not None and asked and (not moves or rng.random() < 0.3):
            name = asked.pop(rng.randrange(len(asked)))
            done = detector.reply(
                wave, name, members.sent[name], members.received[name], passive=members.is_passive(name)
            )
            assert done is (not asked)
            if detector.is_over:
                assert members.is_over(), "over while something was in flight"
                break
            if done:
                idle_waves += not moves
                assert idle_waves <= 3, "nothing moves any more, but the loop is not over"
                wave, asked = detector.start_wave(), list(members.names)
        elif moves and members.act(rng.choice(moves), detector):
            assert wave is None, "the first wave was started twice"
            wave, asked = detector.start_wave(), list(members.names)
    else:
        raise AssertionError("the simulation did not end")


def waves(detector, *replies):
    """Runs waves, each a list of (sent, received, passive) by member; whether it is over after each."""
    result = []
    for wave in replies:
        number = detector.start_wave()
        for i, (sent, received, passive) in enumerate(wave):
            detector.reply(number, (0, i), sent, received, passive=passive)
        result.append(detector.is_over)
    return result


def test_one_wave_is_never_enough():
    assert waves(LoopTermination([(0, 0)]), [(5, 5, True)]) == [False]


def test_two_equal_waves_are():
    assert waves(LoopTermination([(0, 0)]), [(5, 5, True)], [(5, 5, True)]) == [False, True]
    assert waves(LoopTermination([(0, 0), (0, 1)]), [(3, 1, True), (0, 2, True)], [(3, 1, True), (0, 2, True)]) == [
        False,
        True,
    ]


def test_the_first_wave_s_receipts_are_compared_with_the_second_s_sendings():
    same = LoopTermination([(0, 0)])
    assert waves(same, [(4, 4, True)], [(6, 6, True)], [(6, 6, True)]) == [False, False, True]
    behind = LoopTermination([(0, 0)])
    assert waves(behind, [(5, 4, True)], [(5, 4, True)], [(5, 5, True)], [(5, 5, True)]) == [False, False, False, True]


def test_an_active_member_in_either_wave_keeps_it_going():
    for first, second in ((True, False), (False, True)):
        detector = LoopTermination([(0, 0), (0, 1)])
        assert waves(detector, [(1, 1, first), (0, 0, True)], [(1, 1, second), (0, 0, True)]) == [False, False]


def test_late_and_double_replies_are_ignored():
    detector = LoopTermination([(0, 0), (0, 1)])
    first = detector.start_wave()
    assert not detector.reply(first, (0, 0), 0, 0, passive=True)
    assert not detector.reply(first, (0, 0), 9, 9, passive=False)
    assert detector.reply(first, (0, 1), 0, 0, passive=True)
    assert not detector.reply(first, (0, 1), 0, 0, passive=True)
    second = detector.start_wave()
    assert second != first
    assert not detector.reply(first, (0, 0), 9, 9, passive=False)
    detector.reply(second, (0, 0), 0, 0, passive=True)
    assert detector.reply(second, (0, 1), 0, 0, passive=True)
    assert detector.is_over


def test_the_first_wave_starts_when_the_last_member_s_outside_inputs_have_ended():
    detector = LoopTermination([(0, 0), (0, 1), (1, 0)])
    assert [detector.outside_ended(m) for m in [(0, 0), (0, 0), (1, 0), (0, 1), (0, 1)]] == [
        False, False, False, True, False]  # fmt: skip
