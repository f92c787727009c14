"""The examples of docs/kafka.md run against a broker and print what stands below them."""

import contextlib
import io
import re

from tests.unit.test_docs import DOCS, examples

PAGE = DOCS / "kafka.md"


def test_examples_print_what_the_page_says(broker):
    messages = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)[1].splitlines()
    broker.create_topic("ratings", 2)
    for partition in range(2):
        broker.produce("ratings", messages[partition::2], partition=partition)
    names = {}
    for example in examples(PAGE):
        printed = io.StringIO()
        code = example.code.replace("localhost:9092", broker.servers)
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (example.line - 1) + code, str(PAGE), "exec"), names)
        assert printed.getvalue() == example.printed, f"line {example.line}"
