"""The wire between worker processes in every compression: the same results, and settings that get there."""

from __future__ import annotations

import collections
from dataclasses import dataclass

import pytest

from streamcore import Columns, StreamEnvironment
from streamcore.batch.wire import COMPRESSIONS
from streamcore.errors import UsageError


@dataclass
class Word:
    text: str
    length: int


def word_of(n: int) -> Word:
    return Word(f"word {n % 17}", n % 5)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_typed_and_untyped_streams_between_two_workers(compression):
    env = StreamEnvironment(workers=2, compression=compression, batch_size=500)
    words = env.from_values(range(4000)).rebalance().map(word_of).key_by("text").reduce(longer, emit="final")
    counts = words.map(lambda word: (word.text, word.length)).key_by(lambda pair: pair[0])
    got = counts.reduce(lambda a, b: a, emit="final").execute_and_collect()
    totals = {}
    for n in range(4000):
        totals[f"word {n % 17}"] = totals.get(f"word {n % 17}", 0) + n % 5
    assert sorted(got) == sorted(totals.items())


def encoded(columns: Columns) -> Columns:
    return columns.with_columns(text=columns["text"].dictionary_encode())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_dictionaries_between_two_workers(compression):
    env = StreamEnvironment(workers=2, compression=compression, batch_size=500)
    words = env.from_values([word_of(n) for n in range(4000)], Word).map_batch(encoded).rebalance()
    counts = words.key_by("text").count(emit="final").execute_and_collect()
    assert {row.text: row.count for row in counts} == collections.Counter(word_of(n).text for n in range(4000))


def longer(a: Word, b: Word) -> Word:
    return Word(a.text, a.length + b.length)


def test_the_setting_gets_to_the_plan():
    env = StreamEnvironment(compression="zstd")
    env.from_values([1]).print()
    assert env.compile().settings.compression == "zstd"
    with pytest.raises(UsageError, match="there is no compression 'gzip'") as caught:
        StreamEnvironment(compression="gzip")
    assert "none, lz4, zstd" in caught.value.hint
