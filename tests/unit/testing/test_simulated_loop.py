"""The loop: what belongs to a process lives, stands still and dies with it; the seed decides all."""

import asyncio

import pytest

from streamcore.testing import SimulationStuckError
from streamcore.testing.loop import SimulatedLoop, SimulatedProcess


async def ticks(seen: list, name: str, count: int = 100):
    for number in range(count):
        seen.append((name, number))
        await asyncio.sleep(0.01)


def play(loop: SimulatedLoop, until: float):
    loop.call_at(until, loop.stop)
    loop.run_forever()


def two(seed: int = 1):
    loop, seen = SimulatedLoop(seed), []
    processes = [SimulatedProcess(name, loop) for name in "ab"]
    for process in processes:
        process.start(ticks(seen, process.name))
    return loop, seen, *processes


def test_what_a_killed_process_would_do_is_never_done():
    loop, seen, a, _ = two()
    play(loop, 0.1)
    a.kill()
    before = [number for name, number in seen if name == "a"]
    play(loop, 2.0)
    assert [number for name, number in seen if name == "a"] == before
    assert ("b", 99) in seen
    assert a.exit_code == -9


def test_a_stopped_process_goes_on_where_it_was():
    loop, seen, a, _ = two()
    play(loop, 0.1)
    a.stop(0.5)
    before = len(seen)
    play(loop, 0.5)
    assert {name for name, _ in seen[before:]} == {"b"}
    play(loop, 5.0)
    assert [number for name, number in seen if name == "a"] == list(range(100))


def test_a_slow_process_takes_longer():
    loop, seen, a, _ = two()
    a.slow(0.1)
    play(loop, 1.5)
    numbers = {name: max(n for each, n in seen if each == name) for name in "ab"}
    assert numbers["b"] == 99
    assert numbers["a"] < 50


def test_a_slow_subtask_does_not_slow_the_others_of_its_process():
    loop, seen = SimulatedLoop(1), []
    process = SimulatedProcess("a", loop)

    async def main():
        for name in ("subtask (0, 0)", "subtask (0, 1)"):
            asyncio.create_task(ticks(seen, name), name=name)  # noqa: RUF006 - the test looks at what they do
        await asyncio.sleep(0)

    process.start(main())
    play(loop, 0.001)
    assert list(process.subtasks) == ["subtask (0, 0)", "subtask (0, 1)"]
    process.slow(0.1, "subtask (0, 1)")
    play(loop, 1.5)
    assert ("subtask (0, 0)", 99) in seen
    assert ("subtask (0, 1)", 50) not in seen


def test_the_seed_decides_the_order():
    def order(seed):
        loop, seen, _, _ = two(seed)
        play(loop, 2.0)
        return seen, loop.digest

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_order_of_tasks_in_a_set_is_that_of_their_making():
    loop = SimulatedLoop(1)

    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(8)]
        assert list(set(tasks)) == sorted(tasks, key=hash)
        return True

    main_task = SimulatedProcess("a", loop).start(main())
    play(loop, 1.0)
    assert main_task.result()


def test_nothing_is_left_that_could_happen():
    loop = SimulatedLoop(1)

    async def wait():
        await loop.create_future()

    SimulatedProcess("a", loop).start(wait())
    with pytest.raises(SimulationStuckError, match="nothing is left"):
        loop.run_forever()


def test_a_callback_that_fails_ends_the_run():
    loop = SimulatedLoop(1)
    loop.call_later(0.1, lambda: 1 / 0)
    loop.call_later(0.2, lambda: None)
    loop.run_forever()
    assert isinstance(loop.failure, ZeroDivisionError)
