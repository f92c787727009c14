"""The event time of a source's splits in one subtask: how far each has come, which are idle, which are held. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamcore.batch import Batch
from streamcore.runtime.event_time import Times
from streamcore.runtime.watermark_strategy import WatermarkGenerator, WatermarkStrategy
from streamcore.runtime.watermarks import WatermarkMerge
from streamcore.time import MAX_TIME, MIN_TIME

_ROUNDING_S = 1e-6


@dataclass(slots=True)
class SplitTime:
    """One split. `latest_ms` is its latest good time, `empty_since` the attention when it was first found empty."""

    generator: WatermarkGenerator | None
    latest_ms: int = MIN_TIME
    watermark_ms: int = MIN_TIME
    empty_since: float | None = None
    idle: bool = False

    def observe(self, strategy: WatermarkStrategy, batch: Batch, times: Times, latest_ms: int) -> None:
        """Records have come, all with good times; `latest_ms` is the latest so far."""
        self.latest_ms, self.empty_since = latest_ms, None
        if self.generator is None:
            self.watermark_ms = max(self.watermark_ms, strategy.after(latest_ms))
        else:
            mark = self.generator.on_batch(batch, times)
            self.watermark_ms = self.watermark_ms if mark is None else max(self.watermark_ms, min(int(mark), MAX_TIME))

    def silent_for(self, attention_s: float) -> float:
        """Seconds of attention for which the split has had nothing, now that it has nothing."""
        if self.empty_since is None:
            self.empty_since = attention_s
        return attention_s - self.empty_since

    def capture(self) -> Any:
        """Plain data for the snapshot."""
        return [self.latest_ms, self.watermark_ms, self.generator.capture() if self.generator is not None else None]

    def restore(self, saved: Any) -> None:
        """Goes on from what `capture` gave. A generator that the snapshot doesn't know begins anew."""
        self.latest_ms, self.watermark_ms, state = saved
        if self.generator is not None and state is not None:
            self.generator.restore(state)


class SplitTimes:
    """All splits of one subtask that haven't ended.

    A split is *idle* when it had nothing for the strategy's time-out, *held* when it is too far ahead of its alignment
    group: then it isn't to be polled. An idle one is never held, so it is heard of when it wakes up.
    """

    def __init__(self, strategy: WatermarkStrategy) -> None:
        self._strategy = strategy
        self._splits: dict[str, SplitTime] = {}
        self._merge: WatermarkMerge[str] = WatermarkMerge({})
        self._limit_ms: int | None = None
        self._group_ms: int | None = None

    def begin(self, splits: dict[str, Any]) -> None:
        """The splits to be read, each with what the snapshot has of it, if anything."""
        for split, saved in splits.items():
            self._splits[split] = time = SplitTime(self._strategy.generator())
            if saved is not None:
                time.restore(saved)
        self._merge = WatermarkMerge({split: time.watermark_ms for split, time in self._splits.items()})

    def add(self, split: str) -> None:
        """There is one more split, which was found while the job ran."""
        self._splits[split] = time = SplitTime(self._strategy.generator())
        self._merge.add(split, time.watermark_ms)

    def end(self, split: str) -> None:
        """The split has ended."""
        del self._splits[split]
        self._merge.end(split)

    def __getitem__(self, split: str) -> SplitTime:
        return self._splits[split]

    def __contains__(self, split: str) -> bool:
        return split in self._splits

    @property
    def watermark_ms(self) -> int:
        """How far the subtask's time has come."""
        return self._merge.current

    @property
    def idle(self) -> bool:
        """Whether all splits are idle."""
        return self._merge.idle

    def wake(self, split: str) -> None:
        """The split has a record: from now on it holds back time again, even before the record is counted."""
        time = self._splits[split]
        time.idle, time.empty_since = False, None
        self._merge.advance(split, time.watermark_ms)

    def observe(self, split: str, batch: Batch, times: Times, latest_ms: int) -> None:
        """The split has had records, all with good times."""
        time = self._splits[split]
        time.observe(self._strategy, batch, times, latest_ms)
        self._merge.advance(split, time.watermark_ms)

    def nothing(self, split: str, attention_s: float) -> None:
        """The split was polled and had nothing."""
        time, timeout_s = self._splits[split], self._strategy.idle_after_s
        if timeout_s is not None and time.silent_for(attention_s) >= timeout_s - _ROUNDING_S and not time.idle:
            time.idle = True
            self._merge.advance(split, time.watermark_ms, idle=True)

    def idle_in_s(self, attention_s: float) -> float | None:
        """Seconds of attention until the first silent split is idle; None: there is none, or none that may be."""
        timeout_s = self._strategy.idle_after_s
        if timeout_s is None:
            return None
        since = [time.empty_since for split, time in self._splits.items() if not time.idle and not self.holds(split)]
        return min((max(0.0, timeout_s - (attention_s - s)) for s in since if s is not None), default=None)

    # --- alignment -----------------------------------------------------------------------------------------

    def align(self, group_ms: int | None) -> None:
        """The alignment group has come to `group_ms`; None: nobody in it has to be waited for."""
        assert self._strategy.alignment is not None, "a group's time for a source that is in none"
        self._group_ms = group_ms
        self._limit_ms = None if group_ms is None else group_ms + self._strategy.alignment.max_drift_ms

    def holds(self, split: str) -> bool:
        """Whether the split is so far ahead that it must not be polled; its silence then means nothing."""
        if self._limit_ms is None:
            return False
        time = self._splits[split]
        if time.idle or time.watermark_ms <= self._limit_ms:
            return False
        time.empty_since = None
        return True

    @property
    def any_held(self) -> bool:
        """Whether one of the splits is held."""
        return self._limit_ms is not None and any(map(self.holds, self._splits))

    @property
    def slowest_ms(self) -> int | None:
        """How far the split is that the group has to wait for; None: there is none."""
        return min(self._known(), default=None)

    @property
    def drift_ms(self) -> int | None:
        """How far the furthest split is ahead of the group, as far as that is known."""
        known = self._known()
        return max(known) - self._group_ms if known and self._group_ms is not None else None

    def _known(self) -> list[int]:
        times = (time.watermark_ms for time in self._splits.values() if not time.idle)
        return [time for time in times if time != MIN_TIME]

    def capture(self) -> Any:
        """Plain data for the snapshot, by split."""
        return {split: time.capture() for split, time in self._splits.items()}
