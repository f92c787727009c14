"""Fetched record batches: which messages come out of them, and where reading goes on."""

import pytest
from aiokafka.errors import CorruptRecordException
from record_batches import batch, numbered

from streamcore.connectors.kafka.chunks import Fetched, end_of
from streamcore.connectors.kafka.message import KafkaMessage

EVERYTHING = frozenset({"keys", "times_ms", "headers"})
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"
CONTROL, TRANSACTIONAL = 0x20, 0x10


def marker(offset, producer, kind):
    return batch(offset, [b"\0\0\0\0\0\0"], keys=[kind], producer=producer, attributes=CONTROL | TRANSACTIONAL)


def drained(fetched, limit=100, stop=None):
    """(offset, value) of everything, in the order taken."""
    taken = []
    while (chunk := fetched.take(limit, stop)) is not None:
        assert 0 < len(chunk) <= limit
        assert len(chunk.values) == len(chunk)
        taken += zip(chunk.offsets, chunk.values, strict=True)
    return taken


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4], ids=["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_batches_are_taken_in_parts_of_any_size(compression, limit):
    data = batch(10, numbered(10, 14), compression=compression) + batch(14, numbered(14, 20), compression=compression)
    fetched = Fetched("t", 0, 10, data)
    assert drained(fetched, limit) == [(n, b"v%d" % n) for n in range(10, 20)]
    assert fetched.position == 20
    assert fetched.is_done


def test_small_batches_come_in_one_chunk():
    fetched = Fetched("t", 0, 0, b"".join(batch(n, [b"v%d" % n]) for n in range(50)))
    chunk = fetched.take(40)
    assert chunk.offsets == range(40)
    assert fetched.position == 40
    assert not fetched.is_done


def test_a_fetch_may_begin_in_the_middle_of_a_batch():
    fetched = Fetched("t", 0, 12, batch(10, numbered(10, 14)) + batch(14, numbered(14, 16)))
    assert drained(fetched) == [(n, b"v%d" % n) for n in range(12, 16)]


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch():
    whole, cut = batch(0, numbered(0, 3)), batch(3, numbered(3, 6))[:-1]
    fetched = Fetched("t", 0, 0, whole + cut)
    assert drained(fetched) == [(n, b"v%d" % n) for n in range(3)]
    assert fetched.position == end_of(whole + cut, 0) == 3
    assert end_of(cut, 3) == 3


def test_compaction_leaves_holes():
    data = batch(0, numbered(0, 5), holes=(0, 3)) + batch(9, numbered(9, 12), holes=(1, 2))
    data += batch(12, numbered(12, 14), holes=(1,))
    fetched = Fetched("t", 0, 0, data)
    assert drained(fetched) == [(n, b"v%d" % n) for n in (1, 2, 4, 9, 12)]
    assert fetched.position == 14


def test_the_position_passes_over_what_is_no_message():
    data = batch(0, [b"a"]) + marker(1, 7, COMMIT) + batch(2, numbered(2, 4), holes=(0, 1))
    fetched = Fetched("t", 0, 0, data)
    assert list(fetched.take(1).values) == [b"a"]
    assert fetched.position == 4
    assert fetched.is_done


@pytest.mark.parametrize(
    ("stop", "offsets", "position"), [(0, [], 0), (2, [1], 2), (4, [1, 2], 4), (7, [1, 2, 5, 6], 7)]
)
def test_reading_ends_before_the_stop(stop, offsets, position):
    data = batch(0, numbered(0, 3), holes=(0,)) + batch(5, numbered(5, 9))
    fetched = Fetched("t", 0, 0, data)
    found = []
    while fetched.position < stop:
        chunk = fetched.take(1, stop)
        found += chunk.offsets if chunk is not None else []
    assert found == offsets
    assert fetched.position == stop


def test_messages_of_aborted_transactions_are_left_out():
    transaction = {"attributes": TRANSACTIONAL}
    data = b"".join(
        [
            batch(0, [b"plain"]),
            batch(1, [b"7 aborts"], producer=7, **transaction),
            batch(2, [b"8 commits"], producer=8, **transaction),
            batch(3, [b"7 aborts"], producer=7, **transaction),
            marker(4, 7, ABORT),
            batch(5, [b"7 commits"], producer=7, **transaction),
            marker(6, 8, COMMIT),
            marker(7, 7, COMMIT),
            batch(8, [b"7 aborts again"], producer=7, **transaction),
        ]
    )
    committed = Fetched("t", 0, 0, data, aborted=[(7, 8), (7, 1)])
    assert drained(committed) == [(0, b"plain"), (2, b"8 commits"), (5, b"7 commits")]
    assert committed.position == 9
    everything = Fetched("t", 0, 0, data)
    assert [offset for offset, _ in drained(everything)] == [0, 1, 2, 3, 5, 8]


@pytest.mark.parametrize("wants", [EVERYTHING, frozenset({"keys"}), frozenset()])
def test_only_what_is_wanted_is_taken_and_a_message_is_whole(wants):
    fetched = Fetched("t", 3, 0, batch(0, numbered(0, 4)) + batch(4, numbered(4, 8)), wants=wants)
    chunk = fetched.take(6).part(1, 6)
    assert chunk.values == numbered(1, 6)
    assert chunk.keys == ([b"k1", b"k2", b"k3", b"k0", b"k1"] if "keys" in wants else [])
    assert chunk.times_ms == ([1001, 1002, 1003, 1000, 1001] if "times_ms" in wants else [])
    message = KafkaMessage("t", 3, 5, 1001, b"k1", b"v5", (("h", b"1"),))
    assert chunk.message(4) == message
    assert chunk.pick([0, 4]).values == [b"v1", b"v5"]
    if wants == EVERYTHING:
        assert chunk.messages()[4] == message


def test_a_wrong_checksum():
    data = bytearray(batch(0, numbered(0, 3)))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="offset 0"):
        Fetched("t", 0, 0, bytes(data)).take(10)
    assert Fetched("t", 0, 0, bytes(data), check_crcs=False).take(2).values == [b"v0", b"v1"]
