from __future__ import annotations

import itertools

import numpy as np
import pytest

from streamcore.batch import Columns, Schema, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.iterable_source import IterableSource
from streamcore.errors import ConnectorError, UsageError

CONTEXT = ReaderContext(wake=lambda: None, now=lambda: 0.0, report_bad=lambda bad: None)


class Again:
    """Iterable as often as one likes, but no sequence."""

    def __iter__(self):
        return iter(range(10))


def read(source, limit, offset=None):
    reader = source.reader(source.splits()[0], offset, CONTEXT)
    rows, offsets = [], []
    while not reader.exhausted:
        rows.extend(to_rows(reader.poll(limit)))
        offsets.append(reader.offset)
    reader.close()
    return rows, offsets


@pytest.mark.parametrize(
    "values", [list(range(10)), tuple(range(10)), range(10), lambda: iter(range(10)), lambda: range(10), Again()]
)
@pytest.mark.parametrize("limit", [1, 3, 5, 100])
def test_any_offset_gives_the_rest(values, limit):
    source = IterableSource(values)
    rows, offsets = read(source, limit)
    assert rows == list(range(10))
    for offset in {0, *offsets}:
        assert read(source, limit, offset)[0] == list(range(offset, 10))


def test_typed():
    columns = Columns.of(a=np.arange(5))
    source = IterableSource(columns)
    assert source.schema.names == ("a",)
    assert read(source, 2, 3)[0] == [(3,), (4,)]
    assert IterableSource([(1,)], Schema.of(a=int)).schema.names == ("a",)


def test_a_one_shot_iterator_works_once():
    source = IterableSource(iter([1, 2, 3]))
    reader = source.reader(source.splits()[0], None, CONTEXT)
    assert reader.poll(2) == [1, 2]
    with pytest.raises(ConnectorError, match=r"a list_iterator can't be read again from record 2\n.*pass a list"):
        source.reader(source.splits()[0], 2, CONTEXT)
    with pytest.raises(ConnectorError, match="can't be read again from record 0"):
        source.reader(source.splits()[0], None, CONTEXT)


@pytest.mark.parametrize("values", [[1, 2], lambda: iter([1, 2])])
def test_fewer_values_than_before(values):
    with pytest.raises(ConnectorError, match="has 2 values, but 5 were read"):
        read(IterableSource(values), 1, 5)


def test_endless_generators_are_closed():
    closed = []

    def make():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    source = IterableSource(make)
    reader = source.reader(source.splits()[0], 5, CONTEXT)
    assert reader.poll(2) == [5, 6]
    reader.close()
    assert closed == [True]


def test_what_is_not_iterable():
    with pytest.raises(UsageError, match="int is not iterable"):
        IterableSource(5)
