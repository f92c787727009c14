"""Connections between simulated processes: the real handshake and frames, in order, late, and cut."""

import asyncio
import random

import pytest

from streamcore.errors import HandshakeError
from streamcore.runtime.connection import FrameKind, connect, listen
from streamcore.testing.loop import SimulatedLoop, SimulatedProcess
from streamcore.testing.network import Network

SECRET = b"s" * 32


class Net:
    """Two processes, the first of which listens; `play` runs until nothing is left to happen or time is over."""

    def __init__(self, seed: int, delay=lambda: 0.0):
        self.loop = SimulatedLoop(seed)
        self.network = Network(self.loop, random.Random(seed), delay)
        self.server, self.client = SimulatedProcess("server", self.loop), SimulatedProcess("client", self.loop)
        self.got: list[bytes] = []
        self.closed: list[str] = []
        self.connection = self.failure = None

    async def serve(self):
        receive = lambda connection, kind, detail, key, body: self.got.append(bytes(body))  # noqa: E731
        await listen("/s", SECRET, receive, lambda connection: self.closed.append("server"))

    async def call(self, bodies, secret=SECRET):
        try:
            self.connection = await connect("/s", secret, lambda *frame: None, lambda _: self.closed.append("client"))
        except (HandshakeError, OSError) as error:
            self.failure = error
            return
        for body in bodies:
            self.connection.send(FrameKind.MESSAGE, body)
            await asyncio.sleep(self.network.latency())

    def play(self, seconds: float = 1.0):
        async def wait():
            await asyncio.sleep(seconds)
            self.loop.stop()

        self.loop.create_task(wait())
        self.loop.run_forever()

    def connected(self, bodies, secret=SECRET):
        self.server.start(self.serve())
        self.play(0.01)
        self.client.start(self.call(bodies, secret))
        return self


BODIES = [random.Random(1).randbytes(size) for size in (0, 1, 5000, 300_000, 17, 0, 65_536)]


@pytest.mark.parametrize("seed", range(20))
def test_frames_come_whole_and_in_order(seed):
    chance = random.Random(seed)
    net = Net(seed, delay=lambda: chance.choice([0.0, 0.0, 0.01])).connected(BODIES)
    net.play()
    assert net.got == BODIES


def test_who_does_not_know_the_secret_is_refused():
    net = Net(1).connected([b"x"], secret=b"wrong" * 6)
    net.play()
    assert isinstance(net.failure, HandshakeError)
    assert net.got == []


def test_nobody_listens():
    net = Net(1)
    net.client.start(net.call([]))
    net.play()
    assert isinstance(net.failure, ConnectionRefusedError)


def test_somebody_listens_already():
    net = Net(1).connected([])
    second = net.client.start(net.serve())
    net.play()
    assert isinstance(second.exception(), OSError)


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_process_leaves_a_part_of_what_it_sent_and_an_end(seed):
    net = Net(seed, delay=lambda: 0.005).connected([b"%d" % n for n in range(50)])
    net.play(0.02)
    net.client.kill()
    net.play()
    assert net.got == [b"%d" % n for n in range(len(net.got))]
    assert net.closed == ["server"]  # the dead one notices nothing


def test_a_cut_connection_ends_on_both_sides():
    net = Net(1).connected(BODIES)
    net.play(0.1)
    next(iter(net.network.connections.values())).cut()
    net.play()
    assert sorted(net.closed) == ["client", "server"]
    assert not net.network.connections


def test_an_isolated_process_notices_later_than_the_others():
    net = Net(1).connected([])
    net.play(0.1)
    net.network.isolate(net.client, 0.5)
    net.play(0.1)
    assert net.closed == ["server"]
    net.connection.send(FrameKind.MESSAGE, b"into the void")
    late = net.client.start(net.call([]))
    net.play(0.1)
    assert isinstance(net.failure, ConnectionRefusedError)
    assert late.done()
    net.play(1.0)
    assert net.closed == ["server", "client"]
    assert net.got == []


def test_what_a_stopped_process_got_it_reads_when_it_goes_on():
    net = Net(1).connected([b"1", b"2"])
    net.play(0.0001)
    net.server.stop(0.5)
    net.play(0.4)
    assert net.got == []
    net.play(0.4)
    assert net.got == [b"1", b"2"]
