"""describe(): the whole text of one small topology."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from streamcore import OutputTag, ProcessFunction, StreamEnvironment


@dataclass
class Reading:
    sensor: str
    celsius: float


class Check(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit(record)


COLD = OutputTag("cold", Reading)


def test_describe():
    line = inspect.currentframe().f_lineno
    env = StreamEnvironment("weather", parallelism=2)
    readings = env.from_values([], Reading)
    checked = readings.rebalance().process(Check(), returns=Reading, tags=[COLD])
    with env.loop(Reading) as loop:
        counted = checked.union(loop.feedback)
        loop.close(counted.filter(lambda r: r.celsius > 0).uid("warm"))
    checked.side_output(COLD).key_by(("sensor", "celsius")).count(emit="final").print()
    at = lambda n: f"test_describe.py:{line + n}"  # noqa: E731
    assert env.describe() == "\n".join(
        [
            "job weather: 4 vertices, 7 subtasks",
            "[0] values  x1, 1 splits",
            f"      values-0  {at(2)}",
            "    → [1] rebalance  (sensor: string, celsius: double)",
            "[1] Check → partial count  x2",
            f"      Check-1  {at(3)}",
            f"      count-5-partial  {at(7)}",
            "    → [2] forward  (sensor: string, celsius: double)",
            "    → [3] hash by (sensor, celsius)  (sensor: string, celsius: double, slice: int64, count: int64)",
            "[2] union → filter  x2, in loop 0",
            f"      union-3  {at(5)}",
            f"      warm  {at(6)}",
            "    ↩ [2] forward (back edge)  (sensor: string, celsius: double)",
            "[3] count → PrintSink  x2",
            f"      count-5  {at(7)}",
            f"      PrintSink-6  {at(7)}",
        ]
    )


def test_describe_reads_nothing_and_runs_nothing():
    def values():
        raise AssertionError("the source was read")

    assert "[0] values → map  x1" in StreamEnvironment().from_values(values).map(str)._env.describe()
