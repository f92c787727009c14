"""Runs a source: reads this subtask's splits in turn and knows where each stands."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from streamcore.batch import Batch, to_columns
from streamcore.connectors.base import BadRecord, ReaderContext, Source, Split, SplitReader
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.bad_times import Checked
from streamcore.runtime.operator import Operator
from streamcore.runtime.split_times import SplitTimes
from streamcore.runtime.splits import all_splits, has_ended, own_splits
from streamcore.runtime.watermark_strategy import WatermarkStrategy
from streamcore.time import MIN_TIME

BAD_RECORDS = "bad-records"
"""The tag of the side output for malformed records of a source, and for records with a bad event time."""


class SourceOperator(Operator):
    """The head of a source chain. The runtime calls `poll` instead of `process`.

    Splits are dealt out by position in the sorted list of ids, unless the source says whose each is, so that every
    subtask finds its share alone; offsets come from the snapshots of all old subtasks, whoever had the split then.
    """

    def __init__(
        self, source: Source[Any], splits: tuple[Split, ...], watermarks: WatermarkStrategy | None = None
    ) -> None:
        self._source = source
        self._splits = splits
        self._strategy = watermarks
        self._times = SplitTimes(watermarks) if watermarks is not None else None
        self.watches_idleness = watermarks is not None and watermarks.idle_after_s is not None
        self._told_ms, self._told_idle = MIN_TIME, False
        self._held_since: float | None = None
        self._readers: dict[str, SplitReader] = {}
        self._turn: list[str] = []
        self._done: dict[str, Any] = {}
        self._ended: dict[str, SplitReader] = {}  # those whose end no checkpoint has yet that is complete
        self._captured: dict[int, dict[str, Any]] = {}  # checkpoint → offsets of the splits it may tell of
        self._bad: list[BadRecord] = []
        self._waits_for_splits = source.discovers
        self._found: list[Split] = []
        self._reader_context: ReaderContext | None = None

    def open(self) -> None:
        context = self.context
        offsets: dict[str, Any] = {}
        times: dict[str, Any] = {}
        for state in context.all_states():
            offsets.update(state["offsets"])
            times.update(state.get("times", {}))
        splits = all_splits(self._source, self._splits, offsets)
        self._refuse_lost(offsets, splits)
        self._reader_context = reader_context = ReaderContext(
            context.wakeup.notify,
            context.clock.monotonic,
            self._report_bad,
            found=self._splits_found,
            waiting=context.waiting,
            subtask=context.subtask,
            parallelism=context.parallelism,
            job=context.job,
        )
        reader_context.client = self._source.client(reader_context)
        start = self._source.offset_of_new if context.saved else None
        for split in self._own(list(splits.values())):
            offset, _ = offsets.get(split.id, (start, False))
            if has_ended(self._source, split, offsets):
                self._done[split.id] = offset
            else:
                self._readers[split.id] = self._source.reader(split, offset, reader_context)
        self._turn = list(self._readers)
        self._where = {split_id: f"split {split_id!r}" for split_id in self._turn}
        if self._times is not None:
            self._times.begin({split_id: times.get(split_id) for split_id in self._turn})

    @property
    def exhausted(self) -> bool:
        """Whether all splits have ended, and none can come."""
        return not self._readers and not self._waits_for_splits

    @property
    def wake_at(self) -> float | None:
        """When to poll again after nothing came, if a reader knows, or a split could then be idle."""
        wakes = [
            reader.wake_at
            for split_id, reader in self._readers.items()
            if reader.wake_at is not None and not self._holds(split_id)
        ]
        idle_in_s = self._times.idle_in_s(self.context.attention.seconds) if self._times is not None else None
        if idle_in_s is not None:
            wakes.append(self.context.clock.monotonic() + idle_in_s)
        return min(wakes, default=None)

    def poll(self, limit: int) -> bool:
        """Emits the next batch of up to `limit` records; false when no reader has any now that may be read."""
        if self._found:
            self._take_in_found()
        if not self._turn and self._times is not None:
            self._tell_time(self._times)
        for _ in range(len(self._turn)):
            split_id = self._turn.pop(0)
            if self._holds(split_id):
                self._turn.append(split_id)
                continue
            reader = self._readers[split_id]
            batch = reader.poll(limit)
            if reader.exhausted:
                self._done[split_id] = reader.offset
                self._ended[split_id] = self._readers.pop(split_id)
                reader.close()
            else:
                self._turn.append(split_id)
            self._emit_bad()
            found = batch is not None and len(batch) > 0
            if batch is not None and found:
                self.context.counters.records_in += len(batch)
            if self._times is not None and self._strategy is not None:
                self._emit_timed(self._strategy, self._times, split_id, batch if found else None)
            elif batch is not None and found:
                self.output.emit(batch)
            if found:
                return True
        return False

    def process(self, batch: Batch, port: int) -> None:
        raise AssertionError("a source has no input")

    def capture(self, checkpoint_id: int) -> Any:
        offsets = {split_id: (offset, True) for split_id, offset in self._done.items()}
        offsets.update({split_id: (reader.offset, False) for split_id, reader in self._readers.items()})
        saved = copy.deepcopy(offsets)  # a reader changes its offset in place
        self._captured[checkpoint_id] = {split_id: saved[split_id][0] for split_id in (*self._readers, *self._ended)}
        state = {"offsets": saved}
        return state if self._times is None else {**state, "times": self._times.capture()}

    def notify_complete(self, checkpoint_id: int) -> None:
        for captured in sorted(n for n in self._captured if n <= checkpoint_id):
            for split_id, offset in self._captured.pop(captured).items():
                if split_id in self._readers:
                    self._readers[split_id].committed(offset)
                elif split_id in self._ended and offset == self._done[split_id]:
                    self._ended.pop(split_id).committed(offset)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    @property
    def has_client(self) -> bool:
        """Whether the readers have something in common."""
        return self._reader_context is not None and self._reader_context.client is not None

    async def shut_down(self) -> None:
        """Closes what the readers had in common."""
        if self._reader_context is not None and self._reader_context.client is not None:
            await self._reader_context.client.close()

    # --- splits --------------------------------------------------------------------------------------------

    def _own(self, splits: list[Split]) -> list[Split]:
        """Those of the splits that this subtask reads."""
        return own_splits(self._source, splits, self.context.subtask, self.context.parallelism)

    def _splits_found(self, splits: Sequence[Split]) -> None:
        known = self._readers.keys() | self._done.keys() | {split.id for split in self._found}
        self._found.extend(split for split in self._own(list(splits)) if split.id not in known)
        if self._found:
            self.context.wakeup.notify()

    def _take_in_found(self) -> None:
        """Begins to read the splits that were found: here, between two batches, and not when they were found."""
        found, self._found = self._found, []
        assert self._reader_context is not None, "splits were found before the source was open"
        for split in found:
            reader = self._source.reader(split, self._source.offset_of_new, self._reader_context)
            self._readers[split.id] = reader
            self._turn.append(split.id)
            self._where[split.id] = f"split {split.id!r}"
            if self._times is not None:
                self._times.add(split.id)
                self._tell_time(self._times)

    # --- event time ----------------------------------------------------------------------------------------

    @property
    def slowest_ms(self) -> int | None:
        """The event time that the alignment group has to wait for here; None: none."""
        return self._times.slowest_ms if self._times is not None else None

    def align(self, group_ms: int | None) -> None:
        """The alignment group has come to `group_ms`; None: nobody in it has to be waited for."""
        assert self._times is not None, "a group's time for a source without event time"
        self._times.align(group_ms)
        self.show_time()

    def show_time(self) -> None:
        """Puts what is known of event time into the counters."""
        if self._times is None:
            return
        counters, now, drift_ms = self.context.counters, self.context.clock.monotonic(), self._times.drift_ms
        counters.watermark_ms = self._told_ms if self._told_ms != MIN_TIME else None
        counters.time_idle = self._told_idle
        counters.drift_s = None if drift_ms is None else drift_ms / 1000
        if self._held_since is not None:
            counters.held_s += now - self._held_since
        self._held_since = now if self._times.any_held else None

    def _holds(self, split_id: str) -> bool:
        return self._times is not None and self._times.holds(split_id)

    def _emit_timed(self, strategy: WatermarkStrategy, times: SplitTimes, split_id: str, batch: Batch | None) -> None:
        """Emits what was read of a split, and what that says about time; bad times are no sign of life."""
        split = times[split_id]
        good = self._checked(strategy, split.latest_ms, split_id, batch) if batch is not None else None
        if good is not None and len(good.times):
            if split.idle:
                times.wake(split_id)
                self._tell_time(times)
            self.output.emit(good.batch)
            times.observe(split_id, good.batch, good.times, good.latest_ms)
        else:
            times.nothing(split_id, self.context.attention.seconds)
        if split_id not in self._readers:
            self._tell_time(times)
            times.end(split_id)
        self._tell_time(times)

    def _checked(self, strategy: WatermarkStrategy, latest_ms: int, split_id: str, batch: Batch) -> Checked:
        if strategy.time.in_columns:
            assert self._source.schema is not None, "event time in a field of a source without type"
            batch = to_columns(batch, self._source.schema)
        now_ms = self.context.clock.now_ms()
        checked = strategy.bad_times.check(strategy.time, batch, latest_ms, now_ms, self._where[split_id])
        if checked.bad_count:
            self.context.counters.bad_times += checked.bad_count
            self.output.emit_side(BAD_RECORDS, [BadRecord(text, why, split_id, "") for text, why in checked.bad])
        return checked

    def _tell_time(self, times: SplitTimes) -> None:
        """The subtask's event time is that of the split that is furthest behind; without a split it has none to wait
        for until one is found."""
        idle = times.idle or (self._waits_for_splits and not self._readers)
        if self._told_idle and not idle:
            self._told_idle = False
            self.output.emit_idle(False)
        if times.watermark_ms > self._told_ms:
            self._told_ms = times.watermark_ms
            self.output.emit_watermark(times.watermark_ms)
        if idle and not self._told_idle:
            self._told_idle = True
            self.output.emit_idle(True)

    def _report_bad(self, bad: BadRecord) -> None:
        self.context.counters.bad_records += 1
        self._bad.append(bad)

    def _emit_bad(self) -> None:
        if self._bad:
            bad, self._bad = self._bad, []
            self.output.emit_side(BAD_RECORDS, list(bad))

    def _refuse_lost(self, offsets: dict[str, Any], splits: dict[str, Split]) -> None:
        gone = {
            split_id: self._source.hint_for_lost(split_id, self._splits) for split_id in offsets.keys() - splits.keys()
        }
        if lost := sorted(split_id for split_id, hint in gone.items() if hint or not offsets[split_id][1]):
            was = "had read" if all(offsets[split_id][1] for split_id in lost) else "was still reading"
            raise IncompatibleSnapshotError(
                f"the snapshot {was} {', '.join(lost)}, which the source no longer has",
                hint=gone[lost[0]] or "bring the input back, or start without --restore",
            )
