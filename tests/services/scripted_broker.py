"""An MQTT broker that does what a test says: what real ones do only when they are broken or overloaded."""

import asyncio
import contextlib

CONNACK = b"\x20\x03\x00\x00\x00"
SUBACK = b"\x90\x04\x00\x01\x00\x01"
PUBLISH_T_1 = b"\x30\x05\x00\x01t\x001"  # QoS 0, topic "t", payload "1"


def disconnect(reason):
    return bytes([0xE0, 1, reason])


@contextlib.asynccontextmanager
async def scripted_broker(*script):
    """The URL of a broker; each connection gets the next list of packets, the last list is used again and again.

    A packet is the answer to one of the client; after the last one the connection is closed, unless that is None.
    """
    left = list(script)

    async def serve(from_client, to_client):
        answers = left.pop(0) if len(left) > 1 else left[0]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in answers:
                (length,) = (await from_client.readexactly(2))[1:]  # none is longer than 127 bytes
                await from_client.readexactly(length)
                if answer is None:
                    await from_client.read()
                else:
                    to_client.write(answer)
                    await to_client.drain()
        to_client.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
