from __future__ import annotations

import numpy as np

from streamcore.batch import Columns
from streamcore.connectors.base import SinkContext
from streamcore.connectors.print_sink import PrintSink


def test_a_line_a_record(capsys):
    writer = PrintSink("> ").writer(SinkContext(0, 1, 1))
    writer.write(["a", 5, {"b": 1}])
    writer.write(Columns.of(n=np.arange(1)))
    writer.write([])
    assert capsys.readouterr().out == "> a\n> 5\n> {'b': 1}\n> Record(n=0)\n"
