"""The hashes of Kafka's Java client: against values that the client itself gave, and the published algorithm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.kernels.murmur2 import murmur2, murmur2_column

# printed by org.apache.kafka.common.utils.Utils.murmur2 of kafka-clients 4.3.1
JAVA = [
    ("", 275646681),
    ("30", 971027396),
    ("61", -1563381124),
    ("6162", 316155434),
    ("616263", 479470107),
    ("61626364", -1323649548),
    ("6162636465", 461995741),
    ("73656e736f722d3030303031", -1379619529),
    ("757365722d3435303030", -1582790244),
    ("5ac3bc72696368", -1551140815),
    ("e697a5e69cac", -700811021),
    ("612d6c6974746c652d6269742d6c6f6e672d737472696e67", -985981536),
    ("6c6b6a683233346c68396669756839307932336f697568736166756a6861646f66323239706872396831396838396838", -58897971),
    (bytes(range(256)).hex(), -1948347274),
    ("fffefd0080", 691600273),
    ("000000", 1013532917),
]


@pytest.mark.parametrize(("key", "expected"), JAVA)
def test_the_hash_is_that_of_the_java_client(key, expected):
    assert murmur2(bytes.fromhex(key)) == expected % 2**32


def published(key):
    """MurmurHash2 as Appleby published it, in plain integers."""
    m, h, rest = 0x5BD1E995, 0x9747B28C ^ len(key), key
    while len(rest) >= 4:
        k = int.from_bytes(rest[:4], "little") * m % 2**32
        k = (k ^ k >> 24) * m % 2**32
        h = h * m % 2**32 ^ k
        rest = rest[4:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m % 2**32
    h = (h ^ h >> 13) * m % 2**32
    return h ^ h >> 15


@given(st.lists(st.binary(max_size=40)))
def test_a_column_of_keys_hashes_as_each_key_by_itself(keys):
    offsets = np.cumsum([0, *map(len, keys)])
    data = np.frombuffer(b"".join(keys), np.uint8)
    assert murmur2_column(offsets, data).tolist() == [published(key) for key in keys] == [murmur2(key) for key in keys]


def test_a_column_may_begin_in_the_middle_of_its_bytes():
    data = np.frombuffer(b"--abcabcd", np.uint8)
    assert murmur2_column(np.array([2, 5, 9], np.int32), data).tolist() == [murmur2(b"abc"), murmur2(b"abcd")]
