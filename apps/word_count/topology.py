"""Word count, as the first example of MapReduce (Dean and Ghemawat, 2004): map, combine, partition, reduce.

Words are `[a-z]+` of the lower-cased text. Output, as JSON lines: `counts/` (`{"word", "count"}`, a line for each
word at the end of input) and, if asked for, `running/` (the same, a line for each word of the text: its count so far).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamcore import App, DataStream, JobResult, StreamEnvironment, count
from streamcore.apps.conventions import write
from streamcore.apps.word_count.report import report
from streamcore.apps.word_count.words import LINE, WORDS, words
from streamcore.connectors.text_source import TextSource

SHIPPED = Path(__file__).parent / "data" / "shakespeare.txt.gz"


def build(
    env: StreamEnvironment,
    *,
    input: str = str(SHIPPED),  # noqa: A002 - the name of the setting in every app
    output: str = "out/word_count",
    running: bool = False,
    encoding: str = "utf-8",
    splits: int = 4,
) -> None:
    """Builds the topology. `splits` is into how many parts a plain file is cut (a gzip file stays one)."""
    lines = env.source(TextSource(input, encoding, column=LINE, splits=splits), name="lines")
    found: DataStream[Any] = lines.map_batch(words, returns=WORDS).name("map").uid("map")
    by_word = found.key_by("word")  # partition
    # counts are added up on this side of the exchange first, and merged on the other: combine, then reduce
    counts = by_word.aggregate(count()).name("reduce").uid("reduce")
    write(counts, output, "counts")
    if running:
        each = by_word.count().name("running counts").uid("running")
        write(each, output, "running")


def _report(result: JobResult, **settings: object) -> str:
    return report(str(settings["output"]))


APP = App("word_count", build, "counts the words of a text: map, combine, partition, reduce", report=_report)
