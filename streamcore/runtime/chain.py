"""A chain: operators that call each other directly inside one subtask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from streamcore.batch import Batch, to_columns, to_rows
from streamcore.batch.json_values import encode_json
from streamcore.checkpoint.snapshot_file import OperatorSnapshot
from streamcore.runtime.attention import Attention
from streamcore.runtime.counters import Counters
from streamcore.runtime.failures import describe_failure
from streamcore.runtime.operator import (
    Advance,
    Operator,
    OperatorContext,
    Output,
    Pending,
    Receiver,
    SavedOperator,
    SetIdle,
)
from streamcore.runtime.operators.async_map import AsyncMap
from streamcore.runtime.operators.async_sink import AsyncSink
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.output import EdgeOutput
from streamcore.runtime.services import Services
from streamcore.runtime.spec import EdgeSpec, Form, OperatorSpec, Partitioning, VertexSpec
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.backends import RocksDB
from streamcore.state.key_groups import group_range
from streamcore.state.rocks_image import delete_images
from streamcore.state.store import KeyedStore

T = TypeVar("T")
_MISSING = object()


@dataclass(slots=True)
class RestoredOperator:
    """What the snapshot has of one operator: the parts of its old subtasks."""

    parts: list[tuple[int, int, OperatorSnapshot]]
    """(old subtask, old parallelism, its part)."""
    finished: bool = False
    """It has emitted its last for all that it takes over: `finish` must not run again."""
    ended: frozenset[int] = frozenset()
    """The old subtasks that had finished."""
    allow_dropped: bool = False
    """State that the operator doesn't declare any more is dropped."""


class Chain:
    """The operators of one subtask, wired: parents call children, leaves write to out-edges."""

    def __init__(
        self,
        vertex: VertexSpec,
        subtask: int,
        epoch: int,
        outputs: Sequence[tuple[EdgeSpec, EdgeOutput]],
        services: Services,
        wakeup: Wakeup,
        counters: Counters,
        attention: Attention,
        *,
        allow_pickle: bool,
        state_backend: RocksDB | None = None,
        job: str = "job",
    ) -> None:
        self.vertex = vertex
        self._subtask = subtask
        self._epoch = epoch
        self._services = services
        self._wakeup = wakeup
        self._counters = counters
        self._attention = attention
        self._allow_pickle = allow_pickle
        self._state_backend = state_backend
        self._job = job
        self._waits: dict[str, str] = {}  # uid → the service that it waits for
        self._outputs = [Output() for _ in vertex.operators]
        self.operators: list[Operator] = [spec.make() for spec in vertex.operators]
        self._stores: list[KeyedStore] = []
        self._finished: list[bool] = []
        self._watching = [
            (spec, operator)
            for spec, operator in zip(vertex.operators, self.operators, strict=True)
            if operator.watches_idleness
        ]
        self.async_sinks = [
            (spec, operator)
            for spec, operator in zip(vertex.operators, self.operators, strict=True)
            if isinstance(operator, AsyncSink)
        ]
        """Those of the sinks that work beside the stream."""
        self._link(outputs)
        head = vertex.operators[0]
        self._head = [self._receiver(0, port) for port in range(len(head.forms))]

    @property
    def head(self) -> Operator:
        """The operator that reads the subtask's inputs."""
        return self.operators[0]

    @property
    def asynchronous(self) -> AsyncMap | None:
        """The operator that waits for answers, if there is one: it doesn't chain with what is before it."""
        return self.head if isinstance(self.head, AsyncMap) else None

    def receive(self, batch: Batch, port: int) -> None:
        """Sends a batch through the chain."""
        self._counters.records_in += len(batch)
        self._head[port](batch)

    def receive_inside(self, batch: Batch, place: int) -> None:
        """Sends a batch through the chain from the operator at `place` on, which was the head of a chain of its own in
        the snapshot."""
        self._receiver(place, 0)(batch)

    def open(self, restored: dict[str, RestoredOperator]) -> None:
        """Gives every operator its surroundings and what the snapshot has of it, and opens it, leaves first."""
        groups = group_range(self._subtask, self.vertex.parallelism, self.vertex.max_parallelism)
        for spec, operator, output in zip(self.vertex.operators, self.operators, self._outputs, strict=True):
            found = restored.get(spec.uid) or RestoredOperator([])
            parts = found.parts
            self._finished.append(found.finished)
            keyed = [part.keyed for _, _, part in parts]
            store = KeyedStore(
                self.vertex.max_parallelism,
                groups,
                keyed,
                allow_pickle=self._allow_pickle,
                operator=spec.name,
                allow_dropped=found.allow_dropped,
                backend=self._services.state_backend(
                    self._state_backend, self.vertex.max_parallelism, groups, keyed, allow_pickle=self._allow_pickle
                ),
            )
            self._stores.append(store)
            saved = [
                SavedOperator(old, count, part.own, old in found.ended)
                for old, count, part in parts
                if part.own is not None
            ]
            context = OperatorContext(
                name=spec.name,
                subtask=self._subtask,
                parallelism=self.vertex.parallelism,
                max_parallelism=self.vertex.max_parallelism,
                epoch=self._epoch,
                store=store,
                saved=saved,
                clock=self._services.clock,
                wakeup=self._wakeup,
                counters=self._counters,
                attention=self._attention,
                allow_dropped=found.allow_dropped,
                job=self._job,
                waiting=partial(self._waiting, spec.uid),
            )
            operator.setup(context, output)
        for spec, operator in reversed(list(zip(self.vertex.operators, self.operators, strict=True))):
            guard(spec, operator.open)
            operator.context.store.check_all_claimed(spec.name)
        for operator_parts in restored.values():
            for _, _, part in operator_parts.parts:
                delete_images(part.keyed)

    async def connect(self) -> None:
        """Connects the sinks that work beside the stream."""
        for spec, sink in self.async_sinks:
            await guard_async(spec, sink.connect())

    @property
    def is_full(self) -> bool:
        """Whether the stream must wait until a sink has got rid of some of what it took."""
        return any(sink.is_full for _, sink in self.async_sinks)

    def check_sinks(self) -> None:
        """Looks whether something has gone wrong beside the stream."""
        for spec, sink in self.async_sinks:
            guard(spec, sink.check)

    @property
    def ended(self) -> list[str]:
        """The uids of the operators that had emitted their last before the snapshot."""
        flags = zip(self.vertex.operators, self._finished, strict=True)
        return [spec.uid for spec, finished in flags if finished and not spec.stateless]

    @property
    def next_timer_ms(self) -> int | None:
        """When the earliest timer of any operator is due."""
        return min((t for store in self._stores if (t := store.timers.next_ms) is not None), default=None)

    def fire_timers(self, now_ms: int) -> None:
        """Runs the timers that are due."""
        for spec, operator, store in zip(self.vertex.operators, self.operators, self._stores, strict=True):
            due = store.timers.next_ms
            if due is not None and due <= now_ms:
                guard(spec, partial(operator.fire_timers, now_ms))

    def advance(self, time_ms: int) -> None:
        """Event time has come to `time_ms` on all inputs."""
        guard(self.vertex.operators[0], partial(self.head.advance, time_ms))

    def set_idle(self, idle: bool) -> None:
        """All inputs have become idle, or one has become active again."""
        guard(self.vertex.operators[0], partial(self.head.set_idle, idle))

    @property
    def watches_idleness(self) -> bool:
        """Whether an operator goes by the subtask's attention."""
        return bool(self._watching)

    def check_idle(self) -> float | None:
        """Looks whether records have failed to come for too long; seconds of attention until the next look, if any."""
        left = [guard(spec, operator.check_idle) for spec, operator in self._watching]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def before_barrier(self) -> None:
        """Lets the operators emit what is to be downstream's state instead of theirs, parents first, and put away what
        they have in hand."""
        for spec, operator, store in zip(self.vertex.operators, self.operators, self._stores, strict=True):
            guard(spec, operator.before_barrier)
            guard(spec, store.settle)

    def finish(self) -> None:
        """Ends the operators, parents first: the timers that wait now fire at once, later ones never, then each
        operator emits what is left. Not those that had done so before the snapshot."""
        chain = zip(self.vertex.operators, self.operators, self._stores, self._finished, strict=True)
        for spec, operator, store, finished in chain:
            if finished:
                continue
            last = store.timers.close()
            if last is not None:
                guard(spec, partial(operator.fire_timers, last))
            guard(spec, operator.finish)

    def capture(
        self, checkpoint_id: int, *, since: int | None = None, with_state: bool = True
    ) -> dict[str, OperatorSnapshot]:
        """The state of all operators, by uid, of columnar state only what changed `since` that checkpoint; sinks
        prepare what they have written. Without `with_state` they do only that."""
        captured: dict[str, OperatorSnapshot] = {}
        for spec, operator, store in zip(self.vertex.operators, self.operators, self._stores, strict=True):
            keyed, tables = guard(spec, partial(store.capture, checkpoint_id, since)) if with_state else ({}, {})
            own = guard(spec, partial(operator.capture, checkpoint_id))
            if isinstance(own, Pending):
                own = Pending(partial(_resolve, spec, own))
            if not spec.stateless:
                captured[spec.uid] = OperatorSnapshot(keyed, own, tables)
        return captured

    def query(self, uid: str, name: str | None, key: Any) -> bytes | None:
        """What an operator's state `name` has for a key, as JSON; None for nothing. Without a name: its states, name →
        kind. To be called between two batches.

        Raises:
            UnknownStateError: the operator has no such state.
            UsageError: it can't be asked for while the job runs.
        """
        store = self._stores[[spec.uid for spec in self.vertex.operators].index(uid)]
        if name is None:
            return encode_json(store.kinds())
        value = store.lookup(name, key, _MISSING)
        return None if value is _MISSING else encode_json(value)

    def notify_complete(self, checkpoint_id: int) -> None:
        """Tells every operator that a checkpoint is complete."""
        for spec, operator in zip(self.vertex.operators, self.operators, strict=True):
            guard(spec, partial(operator.notify_complete, checkpoint_id))

    def close(self) -> list[Exception]:
        """Closes every operator, whatever the others do; returns what they raised."""
        errors: list[Exception] = []
        for spec, operator in zip(self.vertex.operators, self.operators, strict=True):
            try:
                guard(spec, operator.close)
            except Exception as error:  # noqa: BLE001 - reported by the caller; the others must be closed too
                errors.append(error)
        for store in self._stores:
            store.close()
        return errors

    async def finish_commits(self) -> None:
        """Waits until the sinks that work beside the stream have committed what is to be."""
        for spec, sink in self.async_sinks:
            await guard_async(spec, sink.finish_commits())

    @property
    def works_beside(self) -> bool:
        """Whether operators do something beside the stream, which must be ended."""
        return bool(self.async_sinks) or any(
            isinstance(operator, AsyncMap) or (isinstance(operator, SourceOperator) and operator.has_client)
            for operator in self.operators
        )

    async def shut_down(self) -> list[Exception]:
        """Ends what operators do beside the stream; returns what they raised."""
        errors: list[Exception] = []
        for spec, operator in zip(self.vertex.operators, self.operators, strict=True):
            try:
                if isinstance(operator, AsyncMap | AsyncSink | SourceOperator):
                    await guard_async(spec, operator.shut_down())
            except Exception as error:  # noqa: BLE001 - reported by the caller; the others must be closed too
                errors.append(error)
        return errors

    def _waiting(self, uid: str, service: str | None) -> None:
        """An operator waits for a service, or doesn't any more."""
        self._waits.pop(uid, None)
        if service is not None:
            self._waits[uid] = service
        self._counters.waiting_for = tuple(self._waits.values())

    def _link(self, outputs: Sequence[tuple[EdgeSpec, EdgeOutput]]) -> None:
        for index, spec in enumerate(self.vertex.operators):
            if spec.parent >= 0:
                self._attach(spec.parent, spec.tag, self._receiver(index, 0))
                self._outputs[spec.parent].watermarks.append(self._advancer(index))
                self._outputs[spec.parent].idles.append(self._idler(index))
        for edge, output in outputs:
            self._attach(edge.operator, edge.tag, self._edge_writer(edge.partitioning, output))
            self._outputs[edge.operator].watermarks.append(output.write_watermark)
            self._outputs[edge.operator].idles.append(output.write_idle)

    def _edge_writer(self, partitioning: Partitioning, output: EdgeOutput) -> Receiver:
        counters, write = self._counters, output.write

        def send(batch: Batch) -> None:
            counters.records_out += len(batch)
            try:
                write(batch)
            except Exception as error:
                if not partitioning.location:
                    raise
                explained = describe_failure(f"partitioning {partitioning}", partitioning.location, error)
                raise explained from explained.__cause__

        return send

    def _attach(self, parent: int, tag: str | None, receive: Receiver) -> None:
        output = self._outputs[parent]
        if tag is None:
            output.main.append(receive)
        else:
            output.side.setdefault(tag, []).append(receive)

    def _advancer(self, index: int) -> Advance:
        spec, forward = self.vertex.operators[index], self.operators[index].advance

        def advance(time_ms: int) -> None:  # as `guard`, whose two calls more count here: this is done for every batch
            try:
                forward(time_ms)
            except Exception as error:  # noqa: BLE001 - explained and raised again
                explained = describe_failure(f"operator {spec.name!r}", spec.location, error)
                raise explained from explained.__cause__

        return advance

    def _idler(self, index: int) -> SetIdle:
        spec, operator = self.vertex.operators[index], self.operators[index]
        return lambda idle: guard(spec, partial(operator.set_idle, idle))

    def _receiver(self, index: int, port: int) -> Receiver:
        spec, operator = self.vertex.operators[index], self.operators[index]
        process, form, schema = operator.process, spec.forms[port], spec.schemas[port]

        def receive(batch: Batch) -> None:
            try:
                if form is Form.ROWS:
                    batch = to_rows(batch, schema)
                elif form is Form.COLUMNS and schema is not None:
                    batch = to_columns(batch, schema)
                process(batch, port)
            except Exception as error:  # noqa: BLE001 - explained and raised again
                explained = describe_failure(f"operator {spec.name!r}", spec.location, error)
                raise explained from explained.__cause__

        return receive


async def guard_async(spec: OperatorSpec, call: Awaitable[T]) -> T:
    """The same as `guard` for what takes its time."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - explained and raised again
        explained = describe_failure(f"operator {spec.name!r}", spec.location, error)
        raise explained from explained.__cause__


async def _resolve(spec: OperatorSpec, pending: Pending) -> Any:
    return await guard_async(spec, pending.resolve())


def guard(spec: OperatorSpec, call: Callable[[], T]) -> T:
    """Runs a call into an operator; what it raises names the operator."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - explained and raised again
        explained = describe_failure(f"operator {spec.name!r}", spec.location, error)
        raise explained from explained.__cause__
