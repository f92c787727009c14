"""The writer that delivers exactly once: a transaction for each checkpoint and subtask.

    stream     write … write │barrier n│ write … write │barrier n+1│
    records    transaction of session A │ transaction of session B  │ …
    beside     B gets ready             │ A's are acknowledged → handle; C gets ready │ n complete → A is committed

A session has one transaction only, because the broker knows sessions, not transactions: a late commit of the first one
would commit half of the second. So every transaction has its own session (a transactional id, a producer id, an epoch),
begun before it is needed. The records after a barrier wait in memory until those before it are acknowledged, so that a
partition has them in order.

**Who may write**: whoever has begun the last session of the subtask's lease (slot 0, see `ids`). A new run takes the
lease first and fences all other ids with the prefix after. A writer looks at its lease after each session that it has
begun, so either it finds its lease taken, or its session was there when the new run looked for ids to fence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NoReturn

from aiokafka import errors as kafka

from streamcore.connectors.base import SinkContext
from streamcore.connectors.kafka.connection import explain
from streamcore.connectors.kafka.coordinator import Coordinator
from streamcore.connectors.kafka.handle import Handle, judge, timed_out
from streamcore.connectors.kafka.ids import LEASE, Slots, id_name, parse_id
from streamcore.connectors.kafka.outbox import Outgoing
from streamcore.connectors.kafka.protocol import Transaction
from streamcore.connectors.kafka.recovery import commit_or_explain
from streamcore.connectors.kafka.session import Session, Transactional
from streamcore.connectors.kafka.settings import WriterSettings
from streamcore.connectors.kafka.writer import Interval, KafkaWriter
from streamcore.errors import ConnectorError, FencedError, StreamcoreError

_log = logging.getLogger(__name__)

_ABORT_S = 2.0


class _Open(Interval):
    """An interval with its transaction, once there is one."""

    slot: int | None = None
    session: Session | None = None


class TransactionalWriter(KafkaWriter):
    """Exactly once."""

    _interval: _Open
    _coordinator: Coordinator

    def __init__(self, settings: WriterSettings, context: SinkContext) -> None:
        super().__init__(settings, context)
        self._slots = Slots()
        self._lease = (-1, -1)
        self._next: asyncio.Task[tuple[int, Session]] | None = None
        self._unfinished: list[_Open] = []
        self._uncommitted: dict[str, Handle] = {}  # prepared in this run

    def prepare(self) -> Awaitable[Sequence[Any]]:
        interval, cut = self._interval, self._slots.cut()
        if not interval.records:
            return self._nothing()
        interval.flush()
        self._interval = self._new_interval(after=interval)
        return self._prepared(interval, cut)

    async def commit(self, handles: Sequence[Any]) -> None:
        chosen = [Handle.of_plain(handle) for handle in handles]
        slots = [self._slot_of(handle) for handle in chosen]
        self._slots.checkpoint_complete(slots)
        for handle, slot in zip(chosen, slots, strict=True):
            if not await self._coordinator.end(handle.id, handle.producer_id, handle.epoch, commit=True):
                await self._commit_again(handle)
            self._slots.committed(slot)
            self._uncommitted.pop(handle.id, None)

    async def _begin(self, prepared: Sequence[Any]) -> None:
        self._coordinator = Coordinator(self._connected)
        handles = [Handle.of_plain(handle) for handle in prepared]
        # beside each other: the records of a lost one may lie behind those of one that is still open, and readers see
        # neither until that is committed
        ends = await asyncio.gather(*map(self._commit_again, handles), return_exceptions=True)
        for error in filter(None, ends):
            raise error
        await self._take_over({handle.id: handle for handle in handles})
        own = [self._slot_of(handle) for handle in handles if self._place_of(handle.id)[0] == self._context.subtask]
        self._slots = Slots(own)
        self._next = self._beside(self._new_session())
        self._create_batch = (await self._next)[1].create_batch
        self._interval = self._new_interval(after=None)

    async def _take_over(self, restored: Mapping[str, Handle]) -> None:
        """Fences whoever has written with this prefix before, in this subtask's share."""
        timeout_ms = self._settings.transaction_timeout_ms
        self._lease = await self._coordinator.begin_session(self._id(LEASE), timeout_ms)
        # leases first, also those of subtasks there were before: who finds its lease intact has begun its session by
        # then, so that the second look finds it
        for takes_leases in (True, False):
            found = [one for one in await self._coordinator.ids() if self._is_of_our_share(one)]
            chosen = [one for one in found if (self._place_of(one)[1] == LEASE) == takes_leases]
            left = [one for one in chosen if one != self._id(LEASE) and not await self._is_kept(restored.get(one))]
            await asyncio.gather(*(self._coordinator.begin_session(one, timeout_ms) for one in left))

    async def _is_kept(self, restored: Handle | None) -> bool:
        """Whether an id's last session is that of a handle, so just committed: it has to be found so if this run ends
        before its first checkpoint. The id of a handle of an older checkpoint may have been used again since."""
        return (
            restored is not None and judge(restored, await self._coordinator.describe(restored.id)).fate == "committed"
        )

    async def _end(self) -> None:
        if self._next is not None and self._next.done() and not self._next.cancelled() and not self._next.exception():
            await self._next.result()[1].close()
        for interval in self._unfinished:
            await interval.outbox.close()
            if interval.session is not None:
                await interval.session.close()
                await self._abort(interval, interval.session)

    def _waiting_bytes(self) -> int:
        return sum(interval.outbox.waiting_bytes for interval in self._unfinished)

    def _new_interval(self, after: _Open | None) -> _Open:
        interval = _Open(self._progressed, self._batch_failed)
        self._unfinished.append(interval)
        self._beside(self._get_ready(interval, after))
        return interval

    async def _get_ready(self, interval: _Open, after: _Open | None) -> None:
        if after is not None:
            await self._acknowledged(after)
        assert self._next is not None, "a session is always being made ready"
        interval.slot, interval.session = await self._next
        self._next = self._beside(self._new_session())
        interval.outbox.attach(interval.session)

    async def _new_session(self) -> tuple[int, Session]:
        slot = self._slots.take()
        transaction = Transactional(self._id(slot), self._settings.transaction_timeout_ms)
        session = await Session.begin(self._settings.brokers, self._settings.producer, transaction)
        try:
            await self._check_lease()
        except BaseException:
            await session.close()
            raise
        return slot, session

    async def _prepared(self, interval: _Open, cut: int) -> Sequence[Any]:
        await self._acknowledged(interval)
        slot, session = interval.slot, interval.session
        assert slot is not None, "records were acknowledged without a session"
        assert session is not None, "records were acknowledged without a session"
        handle = Handle(
            self._id(slot),
            session.producer_id,
            session.epoch,
            interval.records,
            tuple(interval.topics),
            interval.outbox.example,
        )
        # now is the time to find that it can't be committed: the checkpoint isn't complete, so nothing is lost
        await self._check_open(handle.id, session.producer_id, session.epoch)
        await self._check_prepared()
        await session.close()
        self._unfinished.remove(interval)
        self._slots.prepared(slot, cut)
        self._uncommitted[handle.id] = handle
        return [handle.to_plain()]

    async def _nothing(self) -> Sequence[Any]:
        await self._check_prepared()
        return ()

    async def _check_prepared(self) -> None:
        """Looks whether what was prepared for earlier checkpoints, which aren't complete, can be committed still: the
        checkpoint that is being made has it too.

        Raises:
            FencedError: another run has taken over.
            ConnectorError: it was aborted.
        """
        for handle in list(self._uncommitted.values()):
            found = await self._coordinator.describe(handle.id)
            if judge(handle, found).fate in ("open", "committed"):
                continue
            if handle.id in self._uncommitted:  # not committed meanwhile
                await self._say_why_ended(handle.id, handle.producer_id, handle.epoch, found)

    async def _commit_again(self, handle: Handle) -> None:
        reason = await commit_or_explain(handle, self._coordinator, self._connected, self._settings.brokers)
        if reason is None:
            return
        if self._lease[0] >= 0:
            await self._check_lease(f"; {handle.what} of a complete checkpoint were not committed")
        lost = f"{handle.what}, prepared for a complete checkpoint, are lost: {reason} (transactional id {handle.id})"
        if not self._settings.is_lenient:
            raise ConnectorError(
                lost,
                hint="start from an older checkpoint, which writes them again, or go on without them: on_lost='warn'",
            )
        _log.error("%s", lost)

    async def _check_lease(self, consequence: str = "") -> None:
        """Looks whether this run is still the one that may write.

        Raises:
            FencedError: it isn't.
        """
        lease = self._id(LEASE)
        found = await self._coordinator.describe(lease)
        if found is None:  # forgotten after a week without a new session, or with the brokers' data: nobody has it
            self._lease = await self._coordinator.begin_session(lease, self._settings.transaction_timeout_ms)
        elif (found.producer_id, found.epoch) != self._lease:
            where = f"{self._settings.brokers} with the prefix {self._settings.prefix!r}"
            raise FencedError(
                f"another run writes to {where}{consequence}",
                hint="every job, and every sink of a job, needs a prefix= of its own",
            )

    async def _check_open(self, id_: str, producer_id: int, epoch: int) -> None:
        """Looks whether a session's transaction is open still.

        Raises:
            FencedError: another run has taken over.
            ConnectorError: it was aborted.
        """
        found = await self._coordinator.describe(id_)
        if found is None or (found.producer_id, found.epoch, found.state) != (producer_id, epoch, "Ongoing"):
            await self._say_why_ended(id_, producer_id, epoch, found)

    async def _say_why_ended(self, id_: str, producer_id: int, epoch: int, found: Transaction | None) -> NoReturn:
        await self._check_lease()  # first: while a new run fences this one, it looks as if the time had run out
        if timed_out(producer_id, epoch, found):
            seconds = self._settings.transaction_timeout_ms / 1000
            raise ConnectorError(
                f"the brokers have aborted a transaction that was open for more than {seconds:g} s ({id_})",
                hint="give a transaction_timeout= longer than a checkpoint's interval and timeout, as often as "
                "checkpoints may fail in a row, and the longest outage together",
            )
        raise ConnectorError(f"a transaction was ended from outside, its id is {id_}")

    async def _explain(self, interval: Interval, error: Exception, outgoing: Outgoing) -> StreamcoreError:
        assert isinstance(interval, _Open), "a transactional writer's own interval"
        if interval.session is not None and interval.slot is not None:
            session = interval.session
            await self._check_open(self._id(interval.slot), session.producer_id, session.epoch)
        return explain(error, self._settings.brokers, f"can't write to the topic {outgoing.topic!r}")

    async def _abort(self, interval: _Open, session: Session) -> None:
        """So that readers need not wait for the transaction of a run that has ended."""
        if interval.records and interval.slot is not None:
            with contextlib.suppress(TimeoutError, kafka.KafkaError):
                async with asyncio.timeout(_ABORT_S):
                    id_ = self._id(interval.slot)
                    await self._coordinator.end(id_, session.producer_id, session.epoch, commit=False)

    def _id(self, slot: int) -> str:
        return id_name(self._settings.prefix, self._context.subtask, slot)

    def _place_of(self, id_: str) -> tuple[int, int]:
        return parse_id(self._settings.prefix, id_) or (-1, -1)

    def _slot_of(self, handle: Handle) -> int:
        return self._place_of(handle.id)[1]

    def _is_of_our_share(self, id_: str) -> bool:
        subtask, _ = self._place_of(id_)
        return subtask >= 0 and subtask % self._context.parallelism == self._context.subtask
