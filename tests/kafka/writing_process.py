"""A process that writes, prepares, prints the handles, perhaps writes more, and kills itself: SERVERS TOPIC MORE."""

import asyncio
import os
import signal
import sys

import msgspec
from writer_rig import Rig, pair_sink, rows


async def main(servers, topic, more):
    rig = await Rig(pair_sink(servers, topic)).open()
    await rig.write(rows(*range(5)))
    handles = await rig.prepare()
    sys.stdout.buffer.write(msgspec.json.encode(handles))
    sys.stdout.flush()
    if more:
        await rig.write(rows(*["left"] * more))
        rig.writer._interval.flush()
        await rig.writer._acknowledged(rig.writer._interval)  # they are in the topic, in a transaction that is open
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
