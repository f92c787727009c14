"""Runs a source: reads this subtask's splits in turn and knows where each stands."""

from __future__ import annotations

import copy
from typing import Any

from streamcore.batch import Batch, to_columns
from streamcore.connectors.base import BadRecord, ReaderContext, Source, Split, SplitReader
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.event_time import WatermarkStrategy
from streamcore.runtime.operator import Operator
from streamcore.time import MIN_TIME

BAD_RECORDS = "bad-records"
"""The tag of a source's side output for malformed records."""


class SourceOperator(Operator):
    """The head of a source chain. The runtime calls `poll` instead of `process`.

    Splits are dealt out by position in the sorted list of ids, so that every subtask finds its share alone;
    offsets come from the snapshots of all old subtasks, whoever had the split then.
    """

    def __init__(
        self, source: Source[Any], splits: tuple[Split, ...], watermarks: WatermarkStrategy | None = None
    ) -> None:
        self._source = source
        self._splits = splits
        self._strategy = watermarks
        self._latest: dict[str, int] = {}  # the latest event time of each split that hasn't ended
        self._watermark = MIN_TIME
        self._readers: dict[str, SplitReader] = {}
        self._turn: list[str] = []
        self._done: dict[str, Any] = {}
        self._bad: list[BadRecord] = []

    def open(self) -> None:
        context = self.context
        offsets: dict[str, Any] = {}
        latest: dict[str, int] = {}
        for saved in context.saved:
            offsets.update(saved.state["offsets"])
            latest.update(saved.state.get("latest", {}))
        self._refuse_lost(offsets)
        reader_context = ReaderContext(context.wakeup.notify, context.clock.monotonic, self._report_bad)
        for split in sorted(self._splits, key=lambda split: split.id)[context.subtask :: context.parallelism]:
            offset, exhausted = offsets.get(split.id, (None, False))
            if exhausted:
                self._done[split.id] = offset
            else:
                self._readers[split.id] = self._source.reader(split, offset, reader_context)
                self._latest[split.id] = latest.get(split.id, MIN_TIME)
        self._turn = list(self._readers)

    @property
    def exhausted(self) -> bool:
        """Whether all splits have ended."""
        return not self._readers

    @property
    def wake_at(self) -> float | None:
        """When to poll again after nothing came, if a reader knows."""
        times = [reader.wake_at for reader in self._readers.values() if reader.wake_at is not None]
        return min(times, default=None)

    def poll(self, limit: int) -> bool:
        """Emits the next batch of up to `limit` records; false when no reader has any now."""
        for _ in range(len(self._turn)):
            split_id = self._turn.pop(0)
            reader = self._readers[split_id]
            batch = reader.poll(limit)
            if reader.exhausted:
                self._done[split_id] = reader.offset
                del self._readers[split_id]
                del self._latest[split_id]
                reader.close()
            else:
                self._turn.append(split_id)
            self._emit_bad()
            found = batch is not None and len(batch) > 0
            if batch is not None and found:
                batch = self._timed(batch)
                self.context.counters.records_in += len(batch)
                self.output.emit(batch)
                if self._strategy is not None and split_id in self._latest:
                    latest = int(self._strategy.time.times(batch).max())
                    self._latest[split_id] = max(self._latest[split_id], latest)
            self._advance_time()
            if found:
                return True
        return False

    def process(self, batch: Batch, port: int) -> None:
        raise AssertionError("a source has no input")

    def capture(self, checkpoint_id: int) -> Any:
        offsets = {split_id: (offset, True) for split_id, offset in self._done.items()}
        offsets.update({split_id: (reader.offset, False) for split_id, reader in self._readers.items()})
        return {"offsets": copy.deepcopy(offsets), "latest": dict(self._latest)}  # a reader changes its offset in place

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def _timed(self, batch: Batch) -> Batch:
        """The batch in the form in which its event times can be read."""
        if self._strategy is None or not self._strategy.time.in_columns:
            return batch
        assert self._source.schema is not None, "event time in a field of a source without type"
        return to_columns(batch, self._source.schema)

    def _advance_time(self) -> None:
        """The subtask's event time is that of the split that is furthest behind."""
        if self._strategy is None:
            return
        watermark = self._strategy.after(min(self._latest.values(), default=MIN_TIME))
        if watermark > self._watermark:
            self._watermark = watermark
            self.output.emit_watermark(watermark)

    def _report_bad(self, bad: BadRecord) -> None:
        self.context.counters.bad_records += 1
        self._bad.append(bad)

    def _emit_bad(self) -> None:
        if self._bad:
            bad, self._bad = self._bad, []
            self.output.emit_side(BAD_RECORDS, list(bad))

    def _refuse_lost(self, offsets: dict[str, Any]) -> None:
        known = {split.id for split in self._splits}
        gone = {split_id: self._source.hint_for_lost(split_id, self._splits) for split_id in offsets.keys() - known}
        if lost := sorted(split_id for split_id, hint in gone.items() if hint or not offsets[split_id][1]):
            was = "had read" if all(offsets[split_id][1] for split_id in lost) else "was still reading"
            raise IncompatibleSnapshotError(
                f"the snapshot {was} {', '.join(lost)}, which the source no longer has",
                hint=gone[lost[0]] or "bring the input back, or start without --restore",
            )
