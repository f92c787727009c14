"""The entry of a worker process: reads its configuration from stdin, connects to the coordinator, works.

Exit codes: 0 told to leave, 5 the coordinator can't be reached or the secret is wrong, 6 the coordinator is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import sys
import threading
import time
from typing import Any

from streamcore.errors import HandshakeError
from streamcore.job.links import send_message
from streamcore.logs import configure_logging
from streamcore.runtime.connection import ChannelKey, Connection, connect
from streamcore.runtime.data_plane import DataPlane
from streamcore.runtime.messages import Hello, ToCoordinator
from streamcore.runtime.services import Services
from streamcore.runtime.worker import Worker

EXIT_UNREACHABLE = 5
EXIT_ORPHANED = 6
PARENT_CHECK_S = 0.25


async def serve(config: dict[str, Any], services: Services) -> int:
    """Works for one coordinator until it shuts the worker down; returns the exit code."""
    number, secret = config["worker"], bytes.fromhex(config["secret"])
    control: Connection

    def receive(connection: Connection, kind: int, detail: int, key: ChannelKey, body: memoryview) -> None:
        worker.post(pickle.loads(body))  # noqa: S301 - the coordinator proved the job's secret

    def orphaned(connection: Connection) -> None:
        if connection.is_trusted and not worker.done.is_set():
            if connection.error is not None:
                services.complain(f"worker {number}: can't read what the coordinator sent: {connection.error!r}")
            services.leave(EXIT_ORPHANED)  # at once: a survivor must not write on behalf of a job that has moved on

    def send(message: ToCoordinator) -> None:
        send_message(control, message)

    def lost(peer: int, error: Exception | None) -> None:
        worker.peer_lost(peer, error)

    data_plane = DataPlane(config["data"], secret, number, lost)
    worker = Worker(number, send, services, data_plane)
    try:
        control = await connect(config["control"], secret, receive, orphaned)
    except (HandshakeError, OSError) as error:
        services.complain(f"worker {number}: can't join the job at {config['control']}: {error}")
        return EXIT_UNREACHABLE
    await data_plane.listen()
    send(Hello(number, services.process_id(), config["data"]))
    await worker.run()
    control.close()
    return 0


def _leave_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, also while a user's function holds the event loop."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(EXIT_ORPHANED)


def main() -> int:
    """Runs a worker process."""
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True, name="parent watch").start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # often sent to the whole group; a graceful stop is the coordinator's
    config = json.load(sys.stdin)
    sys.path[:] = config["path"]
    configure_logging(level=config["log"]["level"], as_json=config["log"]["json"])
    return asyncio.run(serve(config, Services()))


if __name__ == "__main__":
    sys.exit(main())
