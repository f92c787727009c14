"""Connections between simulated processes: what is sent arrives in order, late, in pieces - and only in part where a
process dies or a connection is cut.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from streamcore.testing.loop import PLACE, Mortal, SimulatedLoop, SimulatedProcess

_LATENCY_S = 50e-6
_PIECES = 0.15
"""How often what was sent at once arrives in two pieces."""


class Network:
    """All connections and listeners of a world. `delay` is asked, for all that is sent, how late it is."""

    def __init__(self, loop: SimulatedLoop, chance: random.Random, delay: Callable[[], float]) -> None:
        self.loop = loop
        self.chance = chance
        self.delay = delay
        self.connections: dict[int, Connected] = {}
        self._listeners: dict[str, _Listener] = {}
        self._numbers = 0
        loop.create_unix_connection = self.connect  # type: ignore[assignment]
        loop.create_unix_server = self.listen  # type: ignore[assignment]

    async def connect(self, factory: Callable[[], Any], path: str) -> tuple[asyncio.Transport, Any]:
        """See `asyncio.loop.create_unix_connection`.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        await asyncio.sleep(self.latency())
        listener = self._listeners.get(path)
        process, now = current_process(), self.loop.time()
        if listener is None or now < max(process.isolated_until, listener.process.isolated_until):
            raise ConnectionRefusedError(f"nobody listens on {path}")
        self._numbers += 1
        connected = Connected(self, self._numbers, process, listener.process)
        client, server = connected.ends
        protocol = factory()
        client.protocol = protocol
        client.made = True
        protocol.connection_made(client)
        server.process.context.copy().run(server.be_made, listener.factory)
        return client, protocol

    async def listen(self, factory: Callable[[], Any], path: str) -> _Listener:
        """See `asyncio.loop.create_unix_server`.

        Raises:
            OSError: somebody listens there.
        """
        if path in self._listeners:
            raise OSError(f"{path} is taken")
        listener = self._listeners[path] = _Listener(self, path, factory)
        return listener

    def isolate(self, process: SimulatedProcess, seconds: float) -> None:
        """Ends all connections of a process, which notices nothing of it for some time."""
        process.isolated_until = self.loop.time() + seconds
        for connected in list(self.connections.values()):
            for end in connected.ends:
                if end.process is process:
                    end.isolate(seconds)

    def forget(self, path: str) -> None:
        """Nobody listens there any more."""
        self._listeners.pop(path, None)

    def latency(self) -> float:
        """Seconds that something takes on its way."""
        return self.chance.expovariate(1 / _LATENCY_S)


def current_process() -> SimulatedProcess:
    """The process that runs now."""
    process = PLACE.get().process
    assert process is not None, "a place without process"
    return process


class _Listener(Mortal):
    """A listening socket."""

    def __init__(self, network: Network, path: str, factory: Callable[[], Any]) -> None:
        self.factory = factory
        self.process = current_process()
        self._network = network
        self._path = path
        self.process.parts[self] = None

    def close(self) -> None:
        """Stops to listen."""
        self._network.forget(self._path)
        self.process.parts.pop(self, None)

    def die(self) -> None:
        self.close()


class Connected:
    """A connection: two ends and what is on its way between them."""

    def __init__(self, network: Network, number: int, client: SimulatedProcess, server: SimulatedProcess) -> None:
        self.network = network
        self.number = number
        self.name = " - ".join(sorted((client.name, server.name)))
        self.ends = (_End(self, client), _End(self, server))
        self.ends[0].peer, self.ends[1].peer = self.ends[1], self.ends[0]
        network.connections[number] = self

    def cut(self) -> None:
        """Breaks it; what is on its way may be lost."""
        for end in self.ends:
            end.break_off()


class _End(asyncio.Transport, Mortal):
    """One end of a connection, and what is on its way to it."""

    peer: _End

    def __init__(self, connected: Connected, process: SimulatedProcess) -> None:
        super().__init__()
        self.protocol: Any = None
        self.process = process
        self.made = False
        self._connected = connected
        self._network = connected.network
        self._loop = connected.network.loop
        self._context = process.context.copy()
        self._coming: deque[bytes | None] = deque()
        self._times: deque[float] = deque()
        self._is_pumping = False
        self._closing = False
        self._isolated = False
        process.parts[self] = None

    # --- what a protocol may ask of its transport

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        data = b"".join(list_of_data)
        if self._closing or self._isolated or self.process.exit_code is not None:
            return
        late_s, chance = self._network.delay(), self._network.chance.random()
        if chance < _PIECES:  # cut by a share of it: what happens doesn't depend on how long something is
            middle = int(len(data) * chance / _PIECES)
            self.peer.expect(data[:middle], late_s)
            data = data[middle:]
        self.peer.expect(data, late_s)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._isolated:
                self.peer.expect(None, 0.0)
            self._loop.call_soon(self._lose, context=self._context)

    def abort(self) -> None:
        self.peer.lose_the_last()
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever paused: who sends is held by credits."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    # --- what the network does

    def be_made(self, factory: Callable[[], Any]) -> None:
        """The listening side learns of the connection; what comes for it waits until then."""
        self._is_pumping = True
        self._loop.call_later(self._network.latency(), self._make, factory)

    def _make(self, factory: Callable[[], Any]) -> None:
        self.protocol, self.made = factory(), True
        self.protocol.connection_made(self)
        self._is_pumping = False
        self._pump_later()

    def expect(self, data: bytes | None, late_s: float) -> None:
        """Something is on its way to this end: data, or (None) the end of it."""
        due = self._loop.time() + self._network.latency() + late_s
        if self._times and due < self._times[-1]:
            due = self._times[-1]
        self._coming.append(data)
        self._times.append(due)
        self._pump_later()

    def lose_the_last(self) -> None:
        """Loses some of the newest data on its way here."""
        for _ in range(self._network.chance.randrange(len(self._coming) + 1)):
            self._coming.pop()
            self._times.pop()

    def break_off(self) -> None:
        """The connection has broken."""
        self.lose_the_last()
        if self.process.exit_code is None:
            self.expect(None, 0.0)

    def isolate(self, seconds: float) -> None:
        """Nothing comes and goes here any more; this end notices it after some time, the other at once."""
        self._isolated = True
        self._coming.clear()
        self._times.clear()
        self.expect(None, seconds)
        self.peer.break_off()

    def die(self) -> None:
        """This end's process is gone; the other end gets some of what was on its way, and then the end."""
        self._coming.clear()
        self._times.clear()
        self._closing = True
        self._forget()
        if not self._isolated:
            self.peer.break_off()

    def _pump_later(self) -> None:
        if self._coming and not self._is_pumping:
            self._is_pumping = True
            self._loop.call_at(self._times[0], self._pump, context=self._context)

    def _pump(self) -> None:
        self._is_pumping = False
        if self._coming and self._times[0] > self._loop.time():  # what it woke up for has been lost
            self._pump_later()
            return
        if self._coming and not self._closing:
            data = self._coming.popleft()
            self._times.popleft()
            if data is None:
                self.close()
            else:
                self._deliver(data)
            self._pump_later()

    def _deliver(self, data: bytes) -> None:
        protocol = cast(asyncio.BufferedProtocol, self.protocol)
        left = memoryview(data)
        while left and not self._closing:
            buffer = memoryview(protocol.get_buffer(len(left)))
            size = min(len(buffer), len(left))
            buffer[:size] = left[:size]
            left = left[size:]
            protocol.buffer_updated(size)

    def _lose(self) -> None:
        self._forget()
        self.protocol.connection_lost(None)

    def _forget(self) -> None:
        self.process.parts.pop(self, None)
        self._network.connections.pop(self._connected.number, None)
