"""The topology that chaos is let loose on: a loop, a keyed aggregate, file sinks."""

from streamcore import CoProcessFunction, OutputTag, StreamEnvironment, ValueState
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource

HOPS = 3
KEYS = 97
AGAIN = OutputTag("again")


class Hop(CoProcessFunction):
    """Counts each (number, hop) and sends it round the loop until it has hopped enough."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        number, hop = record
        self._seen.set(self._seen.get() + 1)
        ctx.emit({"number": number, "hop": hop, "seen": self._seen.get()})
        if hop < HOPS:
            ctx.side_output(AGAIN, (number, hop + 1))

    process_second = process_first


def numbers(start: int, stop: int) -> list[tuple[int, int]]:
    return [(number, 0) for number in range(start, stop)]


def build(env: StreamEnvironment, *, records: int, rate: float, output: str) -> None:
    source = env.source(GeneratorSource(numbers, count=records, rate=rate, splits=2))
    with env.loop() as loop:
        hops = source.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hops")
        loop.close(hops.side_output(AGAIN))
    hops.sink(FileSink(f"{output}/hops", if_exists="replace")).uid("hops-sink")
    counts = hops.key_by(lambda r: r["number"] % KEYS).count(emit="final").uid("counts")
    named = counts.map(lambda pair: {"key": pair[0], "count": pair[1]})
    named.sink(FileSink(f"{output}/counts", if_exists="replace")).uid("counts-sink")
