"""One attempt in one worker: makes the subtasks, wires the channels, runs, stops.

In three steps, each on all workers before the next on any (gang start): `deploy` makes the receiving ends; `connect`
makes the sending ends and the chains, and `open` restores and opens them; `start` runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamcore.runtime.attention import Attention
from streamcore.runtime.chain import Chain
from streamcore.runtime.channel import InputChannel, OutputChannel, connect_locally
from streamcore.runtime.connection import ChannelKey
from streamcore.runtime.counters import Counters
from streamcore.runtime.data_plane import DataPlane
from streamcore.runtime.edges import incoming, outgoing, receivers
from streamcore.runtime.failures import as_failure
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.gate import Gate
from streamcore.runtime.messages import (
    Abort,
    Align,
    Closed,
    Complete,
    Deploy,
    Drain,
    Failed,
    LoopOver,
    Opened,
    Query,
    Subtask,
    ToCoordinator,
    ToWorker,
    Trigger,
    Wave,
)
from streamcore.runtime.operator_task import OperatorTask
from streamcore.runtime.output import EdgeOutput, Outputs
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.restore import NOTHING_RESTORED, read_subtask
from streamcore.runtime.services import Services
from streamcore.runtime.source_task import SourceTask
from streamcore.runtime.spec import EdgeSpec, Route, VertexSpec
from streamcore.runtime.subtask import RestoredSubtask, SubtaskTask, SubtaskWiring
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.key_groups import load_key_kernels


class Attempt:
    """The subtasks of one attempt that run in this worker."""

    def __init__(
        self,
        deploy: Deploy,
        send: Callable[[ToCoordinator], None],
        services: Services,
        data_plane: DataPlane | None,
    ) -> None:
        self.epoch = deploy.epoch
        self.is_over = False
        self._deploy = deploy
        self._job = deploy.job
        self._send = send
        self._services = services
        self._data_plane = data_plane
        self._storage = services.open_storage(deploy.storage_url) if deploy.storage_url else None
        self._vertices = {vertex.id: vertex for vertex in self._job.vertices}
        self._own = [subtask for subtask, worker in deploy.placement.items() if worker == deploy.worker]
        self._wakeups = {subtask: Wakeup() for subtask in self._own}
        self._inputs: dict[ChannelKey, InputChannel] = {}
        self._gates: dict[Subtask, Gate] = {}
        self._subtasks: dict[Subtask, SubtaskTask] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._unopened = len(self._own)
        self._start = asyncio.Event()

    def deploy(self) -> None:
        """Makes the receiving ends of all channels."""
        if self._data_plane is not None:
            self._data_plane.begin(self.epoch)
        for subtask in self._own:
            self._make_gate(subtask)

    async def connect(self, addresses: dict[int, str]) -> None:
        """Makes the sending ends, the chains and the subtasks.

        Raises:
            HandshakeError, OSError: another worker can't be reached.
        """
        for vertex_id, index in self._own:
            vertex = self._vertices[vertex_id]
            subtask = (vertex_id, index)
            outputs = [
                (edge, await self._make_output(edge, index, addresses)) for edge in outgoing(self._job, vertex_id)
            ]
            self._subtasks[subtask] = self._make_subtask(vertex, index, outputs)

    def open(self) -> None:
        """Begins to restore and open every subtask; tells the coordinator when all are open."""
        if self._needs_key_kernels():
            load_key_kernels()
        for subtask in self._own:
            self._tasks.append(asyncio.create_task(self._run(subtask), name=f"subtask {subtask}"))
        if not self._own:
            self._send(Opened(self.epoch, self._deploy.worker))

    def start(self) -> None:
        """Runs every subtask."""
        self._services.begin_steady_state()
        self._start.set()

    def post(self, message: ToWorker) -> None:
        """Hands a message to the subtasks it is for."""
        if isinstance(message, Wave | LoopOver):
            for (vertex_id, _), subtask in self._subtasks.items():
                if self._vertices[vertex_id].loop == message.loop:
                    subtask.post(message)
        elif isinstance(message, Drain):
            for (vertex_id, _), subtask in self._subtasks.items():
                if self._vertices[vertex_id].is_source:
                    subtask.post(message)
        elif isinstance(message, Align):
            for (vertex_id, _), subtask in self._subtasks.items():
                alignment = self._vertices[vertex_id].alignment
                if alignment is not None and alignment.group == message.group:
                    subtask.post(message)
        elif isinstance(message, Query):
            self._subtasks[message.subtask].post(message)
        elif isinstance(message, Trigger | Complete | Abort):
            for subtask in self._subtasks.values():
                subtask.post(message)

    async def cancel(self) -> None:
        """Stops every subtask and frees the channels."""
        self.is_over = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._start.is_set():
            self._start.clear()
            self._services.end_steady_state()
        for channel in self._inputs.values():
            if isinstance(channel.queue, FeedbackQueue):
                channel.queue.close()

    def measure(self) -> dict[Subtask, Counters]:
        """The counters of all subtasks."""
        return {subtask: task.measure() for subtask, task in self._subtasks.items()}

    async def _run(self, subtask: Subtask) -> None:
        try:
            await self._subtasks[subtask].run(await self._restored(subtask), self._opened, self._start)
        except Exception as error:  # noqa: BLE001 - whatever it was, the coordinator must hear of it
            place = f"{self._vertices[subtask[0]].name}, subtask {subtask[1]}"
            self._send(Failed(self.epoch, subtask, as_failure(error, place)))
        else:
            self._send(Closed(self.epoch, subtask, self._subtasks[subtask].measure()))

    def _opened(self) -> None:
        self._unopened -= 1
        if self._unopened == 0:
            self._send(Opened(self.epoch, self._deploy.worker))

    def _needs_key_kernels(self) -> bool:
        """Whether a subtask here sends keyed records on, or saves the state of keys."""
        here = {vertex for vertex, _ in self._own}
        return any(
            (edge.source in here and self._vertices[edge.target].parallelism > 1)
            or (edge.target in here and self._storage is not None)
            for edge in self._job.edges
            if edge.partitioning.route is Route.HASH
        )

    async def _restored(self, subtask: Subtask) -> RestoredSubtask:
        restore = self._deploy.restore
        if restore is None:
            return NOTHING_RESTORED
        storage = self._services.open_storage(restore.storage_url)
        vertex = self._vertices[subtask[0]]
        return await self._services.in_background(lambda: read_subtask(restore, storage, self._job, vertex, subtask[1]))

    def _make_gate(self, subtask: Subtask) -> None:
        vertex_id, index = subtask
        settings, wakeup = self._job.settings, self._wakeups[subtask]
        channels: list[InputChannel] = []
        for edge, sender in incoming(self._job, vertex_id, index):
            queue = None
            if edge.feedback:
                queue = FeedbackQueue(self._services, edge.schema, settings.feedback_memory_records)
            channel = InputChannel(len(channels), edge.port, wakeup, feedback=queue, from_loop=edge.loop is not None)
            channels.append(channel)
            key = (edge.id, sender, index)
            self._inputs[key] = channel
            placed = self._deploy.placement[edge.source, sender]
            if placed != self._deploy.worker:
                assert self._data_plane is not None, "a subtask on another worker, but no way there"
                self._data_plane.register(key, channel, edge.schema, placed)
        self._gates[subtask] = Gate(channels, self._services, settings.feedback_limit_records, settings.batch_size)

    async def _make_output(self, edge: EdgeSpec, index: int, addresses: dict[int, str]) -> EdgeOutput:
        target = self._vertices[edge.target]
        forward = edge.partitioning.route is Route.FORWARD
        targets = receivers(self._job, edge, index)
        channels = [await self._make_channel(edge, index, receiver, addresses) for receiver in targets]
        partition = make_partitioner(edge.partitioning, 0 if forward else index, len(targets), target.max_parallelism)
        return EdgeOutput(
            channels, partition, self._job.settings.batch_size, in_loop=edge.loop is not None, is_feedback=edge.feedback
        )

    async def _make_channel(
        self, edge: EdgeSpec, index: int, receiver: int, addresses: dict[int, str]
    ) -> OutputChannel:
        key, wakeup = (edge.id, index, receiver), self._wakeups[edge.source, index]
        settings = self._job.settings
        credit_count = settings.channel_credits
        worker = self._deploy.placement[edge.target, receiver]
        if worker == self._deploy.worker:
            return connect_locally(self._inputs[key], wakeup, credit_count)
        assert self._data_plane is not None, "a subtask on another worker, but no way there"
        return await self._data_plane.open(
            key,
            edge.schema,
            wakeup,
            None if edge.feedback else credit_count,
            worker,
            addresses[worker],
            settings.compression,
        )

    def _make_subtask(self, vertex: VertexSpec, index: int, outputs: list[tuple[EdgeSpec, EdgeOutput]]) -> SubtaskTask:
        subtask, settings = (vertex.id, index), self._job.settings
        wakeup, counters, attention = self._wakeups[subtask], Counters(), Attention()
        chain = Chain(
            vertex,
            index,
            self.epoch,
            outputs,
            self._services,
            wakeup,
            counters,
            attention,
            allow_pickle=settings.allow_pickle,
            state_backend=settings.state_backend,
            job=self._job.name,
        )
        wiring = SubtaskWiring(
            vertex=vertex,
            index=index,
            epoch=self.epoch,
            job=self._job,
            chain=chain,
            gate=self._gates[subtask],
            outputs=Outputs([output for _, output in outputs], wakeup, self._services, settings.buffer_timeout_s),
            wakeup=wakeup,
            counters=counters,
            attention=attention,
            services=self._services,
            storage=self._storage,
            send=self._send,
        )
        return SourceTask(wiring) if vertex.is_source else OperatorTask(wiring)
