"""The examples of docs/kafka-sink.md run against a broker and print what stands below them."""

import contextlib
import io

from tests.unit.test_docs import DOCS, examples

PAGE = DOCS / "kafka-sink.md"


def test_examples_print_what_the_page_says(broker):
    for topic in ("totals", "dead"):
        broker.create_topic(topic, 2)
    names = {}
    for example in examples(PAGE):
        printed = io.StringIO()
        code = example.code.replace("localhost:9092", broker.servers)
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (example.line - 1) + code, str(PAGE), "exec"), names)
        assert printed.getvalue() == example.printed, f"line {example.line}"
