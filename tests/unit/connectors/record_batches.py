"""Record batches as a broker sends them, made byte by byte."""

import struct

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c


def batch(first, values, *, holes=(), compression=0, producer=-1, attributes=0, keys=None):
    """A record batch whose first message has the offset `first`; those in `holes` have been compacted away."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, producer, 0, 0, 1 << 20)
    for number, value in enumerate(values):
        if number not in holes:
            key = b"k%d" % number if keys is None else keys[number]
            builder.append(number, 1000 + number, key, value, [("h", b"%d" % number)])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, first)
    struct.pack_into(">h", data, 21, struct.unpack_from(">h", data, 21)[0] | attributes)
    struct.pack_into(">i", data, 23, len(values) - 1)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def numbered(start, stop):
    return [b"v%d" % number for number in range(start, stop)]
