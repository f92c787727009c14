"""A subtask whose storage is slow: one snapshot is written at a time, one that was given up is dropped, and what was
written of it is deleted."""

import asyncio

import pytest

from streamcore.checkpoint.in_flight import InFlight
from streamcore.checkpoint.snapshot_file import OperatorSnapshot
from streamcore.runtime.messages import Acknowledge
from streamcore.runtime.services import Services
from streamcore.runtime.snapshot_writer import SnapshotWriter
from streamcore.runtime.spec import VertexSpec
from streamcore.state.descriptors import ValueState
from streamcore.state.store import KeyedStore
from streamcore.testing.memory import MemoryStorage


class SlowServices(Services):
    """Background work begins when it is let."""

    def __init__(self):
        super().__init__()
        self.waiting = []

    async def in_background(self, work):
        turn = asyncio.Event()
        self.waiting.append(turn)
        await turn.wait()
        return work()


class Stage:
    """A writer, its state and its storage."""

    def __init__(self):
        self.sent, self.storage, self.services = [], MemoryStorage(), SlowServices()
        vertex = VertexSpec(0, "v", (), 1, 8)
        self.writer = SnapshotWriter(vertex, 0, 1, self.storage, self.services, self.sent.append, allow_pickle=False)
        self.store = KeyedStore(8, range(8), [], allow_pickle=False)
        self.handle = self.store.declare(ValueState("v", 0))

    async def snapshot(self, number):
        self.store.go_to(number)
        self.handle.set(number)
        base = self.writer.base(number)
        captured = {"op": OperatorSnapshot(*_in_order(*self.store.capture(number, base)))}
        self.writer.begin(number, captured, base)
        self.writer.write(number, captured, _nothing_in_flight, 0.0, 0.0, finished=False)
        await settled()

    async def let_one_go(self):
        self.services.waiting.pop(0).set()
        await settled()


def _in_order(keyed, tables):
    return keyed, None, tables


async def _nothing_in_flight():
    return InFlight()


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_is_written_at_a_time_and_those_given_up_not_at_all():
    async def scenario():
        stage = Stage()
        for number in (1, 2, 3):
            await stage.snapshot(number)
            if number < 3:
                stage.writer.abort(number)
        assert len(stage.services.waiting) == 1
        await stage.let_one_go()  # 1 is written, and has been given up meanwhile
        assert {path[:12] for path in stage.storage.files} == {"chk-00000001"}
        await stage.let_one_go()  # so it is deleted; 2 was never begun
        assert not stage.storage.files
        await stage.let_one_go()
        assert [(type(message), message.checkpoint_id) for message in stage.sent] == [(Acknowledge, 3)]
        assert {path[:12] for path in stage.storage.files} == {"chk-00000003"}
        assert not stage.services.waiting

    asyncio.run(scenario())


@pytest.mark.parametrize("given_up", [True, False])
def test_what_is_given_up_is_not_encoded_any_further(given_up):
    async def scenario():
        stage = Stage()
        stage.store.table("big").batch(()).update((key, [key]) for key in range(100_000))
        keyed, tables = stage.store.capture(1)
        captured = {"op": OperatorSnapshot(keyed, None, tables)}
        stage.writer.begin(1, captured, None)
        stage.writer.write(1, captured, _nothing_in_flight, 0.0, 0.0, finished=False)
        await settled()
        assert not tables["big"].done
        if given_up:
            stage.writer.abort(1)
            await settled()
        assert tables["big"].done == given_up
        assert not stage.sent

    asyncio.run(scenario())
