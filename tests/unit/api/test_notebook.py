"""A topology that is run where an event loop runs already."""

import asyncio

from streamcore import StreamEnvironment


def test_execute_inside_a_running_event_loop():
    async def cell():
        return StreamEnvironment().from_values([1, 2]).map(lambda x: x + 1).execute_and_collect()

    assert sorted(asyncio.run(cell())) == [2, 3]
